"""The overlay of one degree: a second instance of the model that computes the same function on n / SP rows per rank."""

import logging
from typing import Any

from torch import Tensor, nn

from .compat import v032 as vllm
from .degree import Degree
from .groups import DegreeGroups, create_groups
from .placement import place_heads
from .ulysses import StepRows, UlyssesAttention

logger = logging.getLogger("vllm.shift_engine.overlay")


class OverlayUnsupported(Exception):
    """This model or configuration runs plain tensor parallelism; the message is what GET /shift shows."""


class Overlay:
    """The sequence-parallel model of one degree over the host's attention layers and KV cache."""

    def __init__(self, degree: Degree, model: nn.Module, groups: DegreeGroups, step: StepRows) -> None:
        self.degree = degree
        self._model = model
        self._groups = groups
        self._step = step

    def pad_tokens(self, tokens: int) -> int:
        """Rows computed in vain so that every rank has as many."""
        return -tokens % self.degree.sequence

    def forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """input_ids [n], positions [n], the same on every rank -> hidden states [n, d], as the host's forward."""
        tokens = input_ids.shape[0]
        self._step.tokens = tokens
        with vllm.tensor_group(self._groups.tensor):
            hidden = self._model(input_ids=self._own_rows(input_ids), positions=self._own_rows(positions))
        gathered = vllm.all_gather_rows(hidden, self._groups.sequence)
        return gathered[:tokens]

    def _own_rows(self, rows: Tensor) -> Tensor:
        return own_rows(rows, self._groups.sequence.rank_in_group, self.degree.sequence)


def own_rows(rows: Tensor, rank: int, sequence: int) -> Tensor:
    """[n] -> [m], m = ceil(n / SP): the slice of `rank`, zeros past the end.

    Always a tensor of its own: a view would bring its storage offset into the compiled graph as a symbol, which vLLM's
    piecewise backend then took for the number of rows ("Shape: 0 out of considered ranges").
    """
    m = -(-rows.shape[0] // sequence)
    own = rows.new_zeros(m)
    present = rows[rank * m : (rank + 1) * m]
    own[: present.shape[0]] = present
    return own


def build_overlay(vllm_config: Any, host_model: nn.Module, degree: Degree) -> Overlay:
    """Collective: load the overlay's model and hang it on the host's attention layers. Raises OverlayUnsupported."""
    if vllm.is_compiled_at_the_top(host_model):
        raise OverlayUnsupported(f"{type(host_model).__name__} is compiled as a whole, its forward cannot be switched")
    try:
        heads = place_heads(*vllm.heads_of(vllm_config), degree)
    except ValueError as error:
        raise OverlayUnsupported(str(error)) from None
    host_layers = vllm_config.compilation_config.static_forward_context
    for name, layer in host_layers.items():
        if problem := vllm.layer_problem(name, layer):
            raise OverlayUnsupported(problem)
        if (layer.num_heads, layer.num_kv_heads) != (heads.host_query, heads.host_kv):
            raise OverlayUnsupported(
                f"layer {name} has {layer.num_heads} / {layer.num_kv_heads} heads, unlike the rest"
            )
    groups = create_groups(degree)
    model, layers = vllm.build_model(vllm_config, degree, groups.tensor)
    step = StepRows()
    for name, layer in layers.items():
        parent, _, child = _path_of(model, layer).rpartition(".")
        replacement = UlyssesAttention(f"{degree}:{name}", host_layers[name], heads, groups.sequence, step)
        setattr(model.get_submodule(parent), child, replacement)
    _drop_head(model)
    return Overlay(degree, model, groups, step)


def _path_of(model: nn.Module, layer: nn.Module) -> str:
    return str(next(path for path, module in model.named_modules() if module is layer))


def _drop_head(model: nn.Module) -> None:
    """Logits are the host's in both modes; a head of the overlay's own would be dead weight (vocabulary x d)."""
    head = getattr(model, "lm_head", None)
    if head is not None and not any(child is head for n, child in model.named_modules() if n != "lm_head"):
        del model.lm_head
