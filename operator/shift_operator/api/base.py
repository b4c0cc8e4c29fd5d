"""What every type of the API has in common: camelCase on the wire, frozen in Python, documented beside its fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer
from pydantic.alias_generators import to_camel

GROUP = "shiftparallel.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class ApiType(BaseModel):
    """A value of the API.

    Unknown fields are dropped, not refused: the API server refuses what a user mistypes, while an operator that was
    rolled back must still read objects which its successor wrote.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    def to_body(self) -> dict[str, Any]:
        """The value as it goes over the wire: camelCase, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read the value from the wire. Raises pydantic.ValidationError naming each field that is wrong."""
        return cls.model_validate(body)


@dataclass(frozen=True)
class Rule:
    """A validation rule in CEL, held by the API server at admission.

    `message` is the refusal's sentence, or `message_expression` computes it with the values that broke the rule;
    either says what to write instead. `field` moves the refusal from the object that has the rule to one of its fields.
    """

    rule: str
    message: str | None = None
    message_expression: str | None = None
    field: str | None = None

    def to_schema(self) -> dict[str, JsonValue]:
        schema: dict[str, JsonValue] = {"rule": self.rule}
        if self.message_expression is not None:
            schema["messageExpression"] = self.message_expression
        if self.message is not None:
            schema["message"] = self.message
        if self.field is not None:
            schema["fieldPath"] = self.field
        return schema


def with_rules(*rules: Rule) -> dict[str, JsonValue]:
    """`json_schema_extra` of a type or field that has these rules."""
    return {"x-kubernetes-validations": [rule.to_schema() for rule in rules]}


def label_keys_rule(map_: str) -> Rule:
    """The form of a label's key, for every key of a map; `map_` names it for people."""
    return Rule(
        rule=f"self.all(key, key.matches('{_LABEL_KEY}'))",
        message=f"{map_}: a key is at most 63 letters, digits, '-', '_' and '.', before that at most a domain and '/'; "
        "write for example example.com/team",
    )


def folder_within(*, named: str, example: str | None = None) -> Any:
    """The `Field` of a folder within a volume; `named` is what people know it by."""
    way_out = f"; write for example '{example}'" if example else ""
    rule = Rule(
        rule="!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
        message=f"{named} must be a relative path without '..'{way_out}",
    )
    return Field(min_length=1, max_length=512, json_schema_extra=with_rules(rule))


def keyed_by(*keys: str) -> dict[str, JsonValue]:
    """`json_schema_extra` of a list whose items are told apart by these fields, so that two appliers can share it."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def to_the_second(time: datetime) -> datetime:
    """Kubernetes keeps times to the second: what is written must compare equal to what is read back."""
    return time.astimezone(UTC).replace(microsecond=0)


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, AfterValidator(to_the_second), PlainSerializer(_rfc3339, return_type=str, when_used="json")]

# The formats Kubernetes itself asks of these names; bounds keep the API server's cost estimate of our rules low.
ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
]
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
_LABEL_NAME = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = rf"^([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}$"
LabelKey = Annotated[str, Field(min_length=1, max_length=317, pattern=_LABEL_KEY)]
LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_LABEL_NAME})?$")]
MapKey = Annotated[str, Field(min_length=1, max_length=317)]
"""The key of a map of labels. A structural schema has no pattern for keys: `label_keys_rule` on the map has it."""
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
