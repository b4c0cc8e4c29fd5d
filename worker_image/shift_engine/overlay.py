"""The overlay of one degree: a second instance of the model that computes the same function on n / SP rows per rank."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .compat import attention, collectives, configuration, device, experts, layers, memory, models
from .degree import Degree
from .groups import DegreeGroups, create_groups
from .moe import HostExperts
from .placement import HeadPlacement, place_heads
from .sampled_rows import RowBlocks, Rows, blocks_of
from .shared_weights import NotShareable, WeightBytes, Wider, bytes_needed, check_shapes, share
from .ulysses import StepRows, UlyssesAttention

logger = logging.getLogger("vllm.shift_engine.overlay")


Room = Callable[[int], None]  # collective: raises where a rank has not so many bytes free


class OverlayUnsupported(Exception):
    """This model or configuration runs plain tensor parallelism; the message is what GET /shift shows."""


class Overlay:
    """The sequence-parallel model of one degree over the host's attention layers and KV cache."""

    def __init__(
        self,
        degree: Degree,
        model: nn.Module,
        groups: DegreeGroups,
        step: StepRows,
        weights: WeightBytes,
        *,
        is_gathered: bool,
    ) -> None:
        """`is_gathered`: its weights follow from the host's, not from a second loading."""
        self.degree = degree
        self.weights = weights
        self.is_gathered = is_gathered
        self._model = model
        self._groups = groups
        self._step = step

    def around(self, degree: Degree) -> Wider | None:
        """Where the weights of the narrower `degree` lie in this overlay's on this rank, or None if they do not."""
        if not self.is_gathered or self.degree.sequence % degree.sequence:
            return None
        index = self._groups.sequence.rank_in_group // degree.sequence
        return Wider(self._model, index, self.degree.sequence // degree.sequence)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights on this rank; most lie in the host's storage."""
        yield from self._model.parameters()

    def pad_tokens(self, tokens: int) -> int:
        """Rows computed in vain so that every rank has as many."""
        return -tokens % self.degree.sequence

    def forward(self, input_ids: Tensor, positions: Tensor, rows: Rows | None = None) -> Tensor:
        """input_ids [n], positions [n], the same on every rank -> hidden states [n, d], as the host's forward.

        With `rows`, ascending, those rows alone are right, which is enough for a step that samples from them.
        """
        tokens = input_ids.shape[0]
        self._step.tokens = tokens
        with collectives.tensor_group(self._groups.tensor):
            hidden = self._model(input_ids=self._own_rows(input_ids), positions=self._own_rows(positions))
        group = self._groups.sequence
        blocks = None if rows is None else blocks_of(rows, hidden.shape[0], group.rank_in_group, group.world_size)
        if blocks is None:
            return collectives.all_gather_rows(hidden, group)[:tokens]
        return gather_blocks(hidden, blocks, tokens, group)

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


def gather_blocks(own: Tensor, blocks: RowBlocks, tokens: int, group: Any) -> Tensor:
    """Collective. own [m, d] -> [tokens, d]: the sampled rows of all ranks, zeros elsewhere."""
    send, source, target = device.on_device((blocks.send, blocks.source, blocks.target), own.device)
    gathered = collectives.all_gather_rows(own[send], group)
    rows = own.new_zeros((tokens, *own.shape[1:]))
    rows[target] = gathered[source]
    return rows


def model_problem(vllm_config: Any, host: nn.Module) -> str | None:
    """Why no degree but 1 x P can run this model, or None. The host is loaded."""
    if models.is_compiled_at_the_top(host):
        return f"{type(host).__name__} is compiled as a whole, its forward cannot be switched"
    if vllm_config.model_config.is_moe and (problem := experts.experts_problem(host)):
        return problem
    return next(
        (
            problem
            for name, each in attention.layers_with_state(vllm_config, host).items()
            if (problem := attention.layer_problem(name, each))
        ),
        None,
    )


def degree_problem(vllm_config: Any, degree: Degree) -> str | None:
    """Why this model cannot run at `degree`, or None: its heads cannot be placed, or its ranks not be summed over."""
    try:
        place_heads(*configuration.heads_of(vllm_config), degree)
    except ValueError as error:
        return str(error)
    return configuration.tensor_group_problem(degree)


def build_overlay(
    vllm_config: Any,
    host: nn.Module,
    degree: Degree,
    *,
    share_weights: bool,
    wider: Wider | None = None,
    move_host: bool = True,
    room: Room,
    room_for_copy: Room,
) -> Overlay:
    """Collective: make the overlay's model over the weights that are there where `share_weights` and the layers allow
    it, else load it, and hang it on the host's attention layers.

    `wider` and `move_host` are those of `shared_weights.share`; `room` is asked before anything large is allocated or
    moved, `room_for_copy` instead where the weights are loaded a second time. Raises OverlayUnsupported.
    """
    if problem := model_problem(vllm_config, host) or degree_problem(vllm_config, degree):
        raise OverlayUnsupported(problem)
    heads = place_heads(*configuration.heads_of(vllm_config), degree)
    _check_layers(attention.layers_with_state(vllm_config, host), heads)
    is_moe = vllm_config.model_config.is_moe
    builder = _Builder(vllm_config, host, degree, heads, create_groups(degree), StepRows(), room, room_for_copy)
    lack = layers.host_problem(vllm_config, host) if share_weights else "share_weights is off"
    if lack is None:
        try:
            return builder.over_the_hosts_weights(wider, move_host=move_host)
        except NotShareable as reason:
            lack = str(reason)
    if is_moe:  # loading would read every expert a second time
        raise OverlayUnsupported(f"a mixture of experts runs over the host's weights alone, but {lack}")
    overlay = builder.with_weights_of_its_own()
    logger.warning("overlay weights copied degree=%s bytes=%d reason=%s", degree, overlay.weights.copied, lack)
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
    room: Room
    room_for_copy: Room

    def over_the_hosts_weights(self, wider: Wider | None, *, move_host: bool) -> Overlay:
        """Collective once the plan is known to work. Raises NotShareable before anything is changed."""
        model = self._model(weights="shared" if wider is None else f"views, block {wider.index} of {wider.blocks}")
        parameters = layers.parameters_of(model, self.host)
        check_shapes(self.host, model, parameters, self.heads)
        layers.fill_buffers(model, self.host)
        self.room(bytes_needed(self.host, model, parameters, self.heads, wider, move_host=move_host))
        group = self.groups.sequence

        def gather(shard: Tensor) -> Tensor:
            rows = collectives.all_gather_rows(shard.view(torch.uint8), group)  # as bytes: not every backend knows fp8
            return rows.view(shard.dtype).view(group.world_size, *shard.shape)

        weights = share(
            *(self.host, model, parameters, self.heads, group.rank_in_group, gather), wider=wider, move_host=move_host
        )
        layers.make_rank_major(model, self.degree.sequence)
        layers.finish_layers(model)
        if wider is None and move_host:
            models.mark_compiled(self.vllm_config, weights=f"views of {self.degree}")
        memory.release()
        logger.info("overlay weights shared degree=%s bytes=%d copied=%d", self.degree, weights.shared, weights.copied)
        return Overlay(self.degree, model, self.groups, self.step, weights, is_gathered=True)

    def with_weights_of_its_own(self) -> Overlay:
        """Loaded as the host's were."""
        self.room_for_copy(models.bytes_of_model(self.vllm_config, self.degree, self.groups.tensor))
        model = self._model(weights=models.OWN)
        weights = WeightBytes(copied=sum(parameter.nbytes for parameter in model.parameters()))
        return Overlay(self.degree, model, self.groups, self.step, weights, is_gathered=False)

    def _model(self, *, weights: str) -> nn.Module:
        """The model, its attention replaced and its head dropped."""
        model, attentions = models.build_model(self.vllm_config, self.degree, self.groups.tensor, weights=weights)
        hosts = attention.layers_with_state(self.vllm_config, self.host)
        for name, layer in attentions.items():
            parent, _, child = _path_of(model, layer).rpartition(".")
            replacement = UlyssesAttention(
                f"{self.degree}:{name}", hosts[name], self.heads, self.groups.sequence, self.step
            )
            setattr(model.get_submodule(parent), child, replacement)
        for path, block in experts.expert_blocks(self.host).items():
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, self._over_the_hosts_experts(path, block))
        _drop_head(model)
        return model

    def _over_the_hosts_experts(self, path: str, block: nn.Module) -> HostExperts:
        """What stands for the host's MoE block in the overlay's model."""
        groups = self.groups

        def gather(own: Tensor) -> Tensor:
            return collectives.all_gather_rows(own, groups.sequence)

        def reduce_scatter(partial: Tensor) -> Tensor:
            return collectives.sum_and_scatter_rows(partial, groups.sequence, groups.tensor)

        partial = experts.without_final_reduce(block)
        return HostExperts(f"{self.degree}:{path}", partial, gather, reduce_scatter, self.step)


def _check_layers(host_layers: dict[str, Any], heads: HeadPlacement) -> None:
    for name, layer in host_layers.items():
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
