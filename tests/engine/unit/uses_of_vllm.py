"""Which names a module asks anything for, read from its source; and for which names an object of vLLM can be asked."""

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

CALL = "__call__"


@dataclass(frozen=True)
class Use:
    """`owner.name`, in a function of a module, there called with `keywords`; where a name is called, its CALL."""

    module: str
    function: str
    owner: (
        str  # the last name of the expression, "" where it has none: "group" of `self.group`, "group()" of `group(1)`
    )
    root: str  # its first name: "self" of `self.group`
    name: str
    keywords: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.module}.{self.function}: {self.owner}.{self.name}({', '.join(self.keywords)})"

    @property
    def scopes(self) -> tuple[str, ...]:
        """How a table may call the owner, the narrowest first."""
        return f"{self.module}.{self.function}.{self.owner}", f"{self.module}.{self.owner}", self.owner


def uses_in(path: Path) -> list[Use]:
    """Every attribute that a module asks anything for, by a dot, getattr or hasattr."""
    return list(_uses(ast.parse(path.read_text()), path.stem, ""))


def imports_in(path: Path) -> Iterator[tuple[str, str, str]]:
    """(module, name, name here) of each `from module import name`; where there is no name, of each `import module`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (
                ("." * node.level + (node.module or ""), each.name, each.asname or each.name) for each in node.names
            )
        elif isinstance(node, ast.Import):
            yield from ((each.name, "", each.asname or each.name.partition(".")[0]) for each in node.names)


def _uses(tree: ast.AST, module: str, function: str) -> Iterator[Use]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        inside = f"{function}.{node.name}".lstrip(".") if named else function
        if isinstance(node, ast.Attribute):
            given = _keywords(tree) if isinstance(tree, ast.Call) and tree.func is node else ()
            yield Use(module, function, _last_name(node.value), _first_name(node.value), node.attr, given)
        elif asked := _asked_by_name(node):
            yield Use(module, function, _last_name(asked[0]), _first_name(asked[0]), asked[1])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield Use(module, function, node.func.id, node.func.id, CALL, _keywords(node))
        yield from _uses(node, module, inside)


def _keywords(call: ast.Call) -> tuple[str, ...]:
    return tuple(each.arg for each in call.keywords if each.arg)


def _asked_by_name(node: ast.AST) -> tuple[ast.expr, str] | None:
    """(owner, name) of a getattr or hasattr; the name is "" where it is computed."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr", "setattr")
    ):
        name = node.args[1]
        return node.args[0], name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else ""
    return None


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=ast.Name(id="type"), args=[one]):
            return _last_name(one)
        case ast.Call() if asked := _asked_by_name(node):
            return asked[1]
        case ast.Call(func=inner):
            return f"{_last_name(inner)}()"
        case ast.Subscript(value=inner):
            return f"{_last_name(inner)}[]"
    return ""


def _first_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner) | ast.Attribute(value=inner):
            return _first_name(inner)
    return ""


@cache
def names_of(what: type | ModuleType) -> frozenset[str]:
    """What an instance of a class may be asked for: of its class, and what its methods set on it. Of a module: every
    attribute that its source names, of whatever."""
    if isinstance(what, ModuleType):
        tree = ast.parse(inspect.getsource(what))
        asked = {asked[1] for node in ast.walk(tree) if (asked := _asked_by_name(node))}
        return frozenset(asked | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)})
    names = set(dir(what))
    for each in what.__mro__:
        names |= {*vars(each), *vars(each).get("__annotations__", ())}
        if each.__module__.partition(".")[0] in ("vllm", "fastapi", "starlette"):
            names |= set_on_self(each)
    return frozenset(names)


def set_on_self(what: type) -> set[str]:
    """The attributes that the methods of this very class set."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(what)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def takes(function: Any, keywords: tuple[str, ...]) -> bool:
    """Whether each of these keywords is a parameter that it names, since any other may be lost in its `**options`. One
    that names none hands them on."""
    parameters = inspect.signature(function).parameters.values()
    passed_on = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return set(keywords) <= {each.name for each in parameters} or all(each.kind in passed_on for each in parameters)


def found(module: str, name: str) -> Any:
    """What `from module import name` gives. Raises ImportError."""
    source = importlib.import_module(module)
    try:
        return getattr(source, name) if name else source
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")
