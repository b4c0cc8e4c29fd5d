"""Weights once: the overlay's parameters are gathered from the ranks' shards, and the shards become views of them.

Under 1 x P rank r = t * SP + s holds shard r of every split weight; the overlay SP x TP needs shard t of TP, which is
the shards of its sequence group side by side. So nothing is read from disk again, and where a shard lies in the
overlay's tensor as rows or columns it need not exist twice: F.linear takes a weight whose leading dimension is the
whole's, with the same result (bit for bit) in the same time. What cannot be such a view is kept by both, and counted.

With several overlays the widest one has the storage. The sequence groups of degrees whose SP divide each other nest, so
a narrower overlay's parameter lies in the wider one's as a shard does, and the overlay costs its QKV alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from .placement import HeadPlacement

ALIGNMENT = 16  # bytes: what matrix kernels want of a view's first element and of its leading dimension

Gather = Callable[[Tensor], Tensor]  # collective: [...] of each rank of the sequence group -> [SP, ...]


class Split(StrEnum):
    """How 1 x P and the overlay share out one parameter."""

    WHOLE = "whole"  # every rank has all of it: norms, biases after an all-reduce
    ROWS = "rows"  # shards lie below each other: embeddings, column-parallel layers
    COLUMNS = "columns"  # shards lie side by side: row-parallel layers
    BLOCKS = "blocks"  # a shard is a part of each of several matrices, merged in one parameter
    HEADS = "heads"  # as BLOCKS, for query, key and value; fewer KV heads than ranks are replicated


class NotShareable(Exception):
    """The overlay loads weights of its own; the message says which parameter and why."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of the overlay, and how it follows from the host's of the same name."""

    name: str
    split: Split
    blocks: tuple[int, ...] = ()  # rows of a shard that belong to each merged matrix; HEADS: query, key, value
    transposed: bool = False  # a layer that is ready to run holds the transpose of what was loaded
    strided: bool = True  # its kernel takes columns where they lie in the whole, by the whole's leading dimension

    def turned(self, tensor: Tensor) -> Tensor:
        """Between the form that is loaded, which a split is of, and the form of a layer that is ready."""
        return tensor.t() if self.transposed else tensor

    def view_in(self, whole: Tensor, rank: int, sequence: int) -> Tensor | None:
        """`shard_view` of it, or None where its kernel would read another."""
        return shard_view(whole, self.split, rank, sequence) if self.strided or self.split is Split.ROWS else None


@dataclass(frozen=True)
class Wider:
    """A loaded overlay over gathered weights whose sequence group holds this one, as its block `index` of `blocks`."""

    model: nn.Module
    index: int
    blocks: int


@dataclass
class WeightBytes:
    """Bytes on this rank: `shared` once for both models, `copied` what the overlay has beside the others'."""

    shared: int = 0
    copied: int = 0


def distinct_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of memory that the tensors lie in, each once however many views there are of it."""
    storages: dict[int, int] = {}
    for each in tensors:
        storage = each.untyped_storage()
        try:
            storages[storage.data_ptr()] = storage.nbytes()
        except RuntimeError:  # a quantised weight that wraps others has no memory of its own to look at
            storages[id(each)] = each.nbytes
    return sum(storages.values())


def gathered(shards: Tensor, parameter: Parameter, heads: HeadPlacement) -> Tensor:
    """[SP, ...] shards in rank order -> the overlay's parameter; a view of `shards` for WHOLE and ROWS."""
    match parameter.split:
        case Split.WHOLE:
            return shards[0]
        case Split.ROWS:
            return shards.flatten(0, 1)
        case Split.COLUMNS:
            return shards.transpose(0, 1).flatten(1)
        case Split.BLOCKS:
            return torch.cat([part.flatten(0, 1) for part in shards.split(parameter.blocks, dim=1)])
        case Split.HEADS:
            query, key, value = shards.split(parameter.blocks, dim=1)
            return torch.cat([query.flatten(0, 1), _kv_rows(key, heads), _kv_rows(value, heads)])


def shard_view(whole: Tensor, split: Split, rank: int, sequence: int) -> Tensor | None:
    """The shard of `rank` of the sequence group inside the overlay's parameter, or None where it is no usable view."""
    if split is Split.ROWS:
        view, step = whole.chunk(sequence)[rank], whole.nbytes // sequence
    elif split is Split.COLUMNS:
        view = whole.chunk(sequence, dim=1)[rank]
        step = view.shape[1] * whole.element_size()
    else:
        return None
    return view if step % ALIGNMENT == 0 else None


def share(
    host: nn.Module,
    overlay: nn.Module,
    parameters: Sequence[Parameter],
    heads: HeadPlacement,
    rank: int,
    gather: Gather,
    *,
    wider: Wider | None = None,
    move_host: bool = True,
) -> WeightBytes:
    """Collective. Give the overlay, made without storage, its parameters: views of the `wider` overlay's where there is
    one; else gathered, and with `move_host` the host's become views of them.

    The host may move only before CUDA graphs have its addresses, and once. One parameter comes after the other, so that
    at most one of them exists twice at any time.
    """
    counted = WeightBytes()
    for parameter in parameters:
        own = host.get_parameter(parameter.name)
        loaded, whole = parameter.turned(own.data), _whole_in(wider, parameter)
        if parameter.split is Split.WHOLE:
            whole = loaded
            counted.shared += own.nbytes
        elif whole is not None:
            counted.shared += whole.nbytes
        else:
            whole = gathered(gather(loaded), parameter, heads)
            view = parameter.view_in(whole, rank, heads.sequence) if move_host else None
            if view is None:
                counted.copied += whole.nbytes
            else:
                counted.shared += whole.nbytes
                for alias in list(_aliases(host, own)):  # a tied head is the embedding's tensor
                    alias.data = parameter.turned(view)
        path, _, name = parameter.name.rpartition(".")
        overlay.get_submodule(path).register_parameter(name, nn.Parameter(whole, requires_grad=False))
    return counted


def bytes_needed(
    host: nn.Module,
    overlay: nn.Module,
    parameters: Sequence[Parameter],
    heads: HeadPlacement,
    wider: Wider | None,
    *,
    move_host: bool,
) -> int:
    """What `share` adds at its peak, in bytes: what is gathered, less the shards that become views of it, and one
    gathering beside."""
    gathers = [each for each in parameters if each.split is not Split.WHOLE and _whole_in(wider, each) is None]
    sizes: list[int] = [overlay.get_parameter(each.name).nbytes for each in gathers]
    freed: list[int] = [
        host.get_parameter(each.name).nbytes
        for each in gathers
        if move_host and each.view_in(overlay.get_parameter(each.name).data, 0, heads.sequence) is not None
    ]
    replicated = max(1, heads.host_kv * heads.sequence // heads.base_kv)  # KV heads that several ranks send
    return sum(sizes) - sum(freed) + replicated * max(sizes, default=0)


def check_shapes(host: nn.Module, overlay: nn.Module, parameters: Sequence[Parameter], heads: HeadPlacement) -> None:
    """Raises NotShareable unless every parameter of the overlay follows from the host's by its split."""
    for parameter in parameters:
        own, wanted = host.get_parameter(parameter.name), overlay.get_parameter(parameter.name)
        loaded = parameter.turned(own.data.to("meta"))
        whole = gathered(loaded.expand(heads.sequence, *loaded.shape), parameter, heads)
        if (whole.shape, own.dtype) != (wanted.shape, wanted.dtype):
            raise NotShareable(
                f"{parameter.name} has shape {tuple(own.shape)} under 1 x P and {tuple(wanted.shape)} in the overlay, "
                f"which is not its {parameter.split} of {heads.sequence} ranks"
            )


def _whole_in(wider: Wider | None, parameter: Parameter) -> Tensor | None:
    if wider is None:
        return None
    held = wider.model.get_parameter(parameter.name).data
    return parameter.view_in(parameter.turned(held), wider.index, wider.blocks)


class RankMajor(nn.Module):
    """The activation between a merged gate and up projection and the down projection, for ROWS of merged shards.

    The shards' order of rows is [gate_0, up_0, gate_1, up_1, ...], one pair per rank. The activation takes the halves
    of its last dimension; seen as [m * SP, 2 I / SP] each row is one rank's pair, and the results side by side are in
    the natural order again, so the down projection stays as it is.
    """

    def __init__(self, activation: nn.Module, sequence: int) -> None:
        super().__init__()
        self.activation = activation
        self.sequence = sequence

    def forward(self, gate_up: Tensor) -> Tensor:
        """[m, 2 * I] rank-major -> [m, I]."""
        rows, width = gate_up.shape
        activated: Tensor = self.activation(gate_up.view(rows * self.sequence, width // self.sequence))
        return activated.view(rows, width // 2)


def _kv_rows(shards: Tensor, heads: HeadPlacement) -> Tensor:
    """[SP, host_kv * e, ...] -> [base_kv * e, ...]: of a head that several ranks hold, the first one's."""
    size = shards.shape[1] // heads.host_kv
    rows = [
        shards[s, (head - heads.kv_slice(s).start) * size :][:size]
        for head in range(heads.base_kv)
        for s in [next(s for s in range(heads.sequence) if head in range(*heads.kv_slice(s).indices(heads.base_kv)))]
    ]
    return torch.cat(rows)


def _aliases(host: nn.Module, own: Tensor) -> Iterator[nn.Parameter]:
    for parameter in host.parameters():
        if parameter.data_ptr() == own.data_ptr() and parameter.shape == own.shape:
            yield parameter
