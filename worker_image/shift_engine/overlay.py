"""The overlay of one degree: a second instance of the model that computes the same function on n / SP rows per rank."""

import logging
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .compat import layers
from .compat import v032 as vllm
from .degree import Degree
from .groups import DegreeGroups, create_groups
from .placement import HeadPlacement, place_heads
from .shared_weights import NotShareable, WeightBytes, check_shapes, share
from .ulysses import StepRows, UlyssesAttention

logger = logging.getLogger("vllm.shift_engine.overlay")


class OverlayUnsupported(Exception):
    """This model or configuration runs plain tensor parallelism; the message is what GET /shift shows."""


class Overlay:
    """The sequence-parallel model of one degree over the host's attention layers and KV cache."""

    def __init__(
        self, degree: Degree, model: nn.Module, groups: DegreeGroups, step: StepRows, weights: WeightBytes
    ) -> None:
        self.degree = degree
        self.weights = weights
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


def build_overlay(vllm_config: Any, host: nn.Module, degree: Degree, *, share_weights: bool) -> Overlay:
    """Collective: make the overlay's model over the host's weights where `share_weights` and the layers allow it, else
    load it, and hang it on the host's attention layers. Raises OverlayUnsupported."""
    if vllm.is_compiled_at_the_top(host):
        raise OverlayUnsupported(f"{type(host).__name__} is compiled as a whole, its forward cannot be switched")
    try:
        heads = place_heads(*vllm.heads_of(vllm_config), degree)
    except ValueError as error:
        raise OverlayUnsupported(str(error)) from None
    _check_layers(vllm_config.compilation_config.static_forward_context, heads)
    builder = _Builder(vllm_config, host, degree, heads, create_groups(degree), StepRows())
    problem = layers.host_problem(vllm_config, host) if share_weights else "share_weights is off"
    if problem is None:
        try:
            return builder.over_the_hosts_weights()
        except NotShareable as reason:
            problem = str(reason)
    overlay = builder.with_weights_of_its_own()
    logger.warning("overlay weights copied bytes=%d reason=%s", overlay.weights.copied, problem)
    return overlay


@dataclass(frozen=True)
class _Builder:
    """What both ways to an overlay need."""

    vllm_config: Any
    host: nn.Module
    degree: Degree
    heads: HeadPlacement
    groups: DegreeGroups
    step: StepRows

    def over_the_hosts_weights(self) -> Overlay:
        """Collective once the plan is known to work. Raises NotShareable before anything is changed."""
        model = self._model(without_storage=True)
        parameters = layers.parameters_of(model, self.host)
        check_shapes(self.host, model, parameters, self.heads)
        layers.fill_buffers(model, self.host)
        group = self.groups.sequence

        def gather(shard: Tensor) -> Tensor:
            return vllm.all_gather_rows(shard, group).view(group.world_size, *shard.shape)

        weights = share(self.host, model, parameters, self.heads, group.rank_in_group, gather)
        layers.make_rank_major(model, self.degree.sequence)
        layers.finish_layers(model)
        vllm.mark_compiled(self.vllm_config, weights=f"views of {self.degree}")
        vllm.release_memory()
        logger.info("overlay weights shared bytes=%d copied=%d", weights.shared, weights.copied)
        return Overlay(self.degree, model, self.groups, self.step, weights)

    def with_weights_of_its_own(self) -> Overlay:
        """Loaded as the host's were."""
        model = self._model(without_storage=False)
        weights = WeightBytes(copied=sum(parameter.nbytes for parameter in model.parameters()))
        return Overlay(self.degree, model, self.groups, self.step, weights)

    def _model(self, *, without_storage: bool) -> nn.Module:
        """The model, its attention replaced and its head dropped."""
        model, attentions = vllm.build_model(
            self.vllm_config, self.degree, self.groups.tensor, without_storage=without_storage
        )
        hosts = self.vllm_config.compilation_config.static_forward_context
        for name, layer in attentions.items():
            parent, _, child = _path_of(model, layer).rpartition(".")
            replacement = UlyssesAttention(
                f"{self.degree}:{name}", hosts[name], self.heads, self.groups.sequence, self.step
            )
            setattr(model.get_submodule(parent), child, replacement)
        _drop_head(model)
        return model


def _check_layers(host_layers: dict[str, Any], heads: HeadPlacement) -> None:
    for name, layer in host_layers.items():
        if problem := vllm.layer_problem(name, layer):
            raise OverlayUnsupported(problem)
        if (layer.num_heads, layer.num_kv_heads) != (heads.host_query, heads.host_kv):
            raise OverlayUnsupported(
                f"layer {name} has {layer.num_heads} / {layer.num_kv_heads} heads, unlike the rest"
            )


def _path_of(model: nn.Module, layer: nn.Module) -> str:
    return str(next(path for path, module in model.named_modules() if module is layer))


def _drop_head(model: nn.Module) -> None:
    """Logits are the host's in both modes; a head of the overlay's own would be dead weight (vocabulary x d)."""
    head = getattr(model, "lm_head", None)
    if head is not None and not any(child is head for n, child in model.named_modules() if n != "lm_head"):
        del model.lm_head
