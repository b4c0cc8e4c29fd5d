"""The overlay's weights follow from the ranks' shards, and a shard that is a view computes what its copy computes."""

import pytest
import torch
from shift_engine.degree import Degree
from shift_engine.placement import HeadPlacement, place_heads
from shift_engine.shared_weights import (
    NotShareable,
    Parameter,
    RankMajor,
    Split,
    WeightBytes,
    Wider,
    bytes_needed,
    check_shapes,
    distinct_bytes,
    gathered,
    shard_view,
    share,
)
from torch import Tensor, nn
from torch.nn.functional import linear

HIDDEN, INTERMEDIATE, HEAD_SIZE, VOCABULARY = 32, 64, 4, 48
SEQUENCE = [2, 4, 8]


def heads(sequence: int, *, kv: int = 8) -> HeadPlacement:
    return place_heads(8, kv, Degree(sequence, 1))


def qkv_shard(whole: list[Tensor], rank: int, placement: HeadPlacement) -> Tensor:
    """As vLLM's QKVParallelLinear loads it under 1 x P: fewer KV heads than ranks are replicated."""
    query, key, value = whole
    q = query.chunk(placement.sequence)[rank]
    kv = placement.kv_slice(rank)
    rows = slice(kv.start * HEAD_SIZE, kv.stop * HEAD_SIZE)
    return torch.cat([q, key[rows], value[rows]])


@pytest.mark.parametrize("sequence", SEQUENCE)
@pytest.mark.parametrize("kv", [1, 2, 4, 8])
def test_query_key_and_value_are_in_the_order_of_one_gpu(sequence: int, kv: int) -> None:
    placement = heads(sequence, kv=kv)
    whole = [torch.randn(count * HEAD_SIZE, HIDDEN) for count in (8, kv, kv)]
    shards = torch.stack([qkv_shard(whole, rank, placement) for rank in range(sequence)])
    blocks = (placement.host_query * HEAD_SIZE, placement.host_kv * HEAD_SIZE, placement.host_kv * HEAD_SIZE)
    assert torch.equal(gathered(shards, Parameter("qkv", Split.HEADS, blocks), placement), torch.cat(whole))


@pytest.mark.parametrize("sequence", SEQUENCE)
@pytest.mark.parametrize(("split", "dim"), [(Split.ROWS, 0), (Split.COLUMNS, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_view_computes_what_the_shard_computed(sequence: int, split: Split, dim: int, dtype: torch.dtype) -> None:
    weight = torch.randn(HIDDEN, INTERMEDIATE, dtype=dtype)
    shards = torch.stack(weight.chunk(sequence, dim=dim))
    whole = gathered(shards, Parameter("weight", split), heads(sequence))
    assert torch.equal(whole, weight)
    for rank in range(sequence):
        view = shard_view(whole, split, rank, sequence)
        assert view is not None
        assert view.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        rows = torch.randn(5, view.shape[1], dtype=dtype)
        assert torch.equal(linear(rows, view), linear(rows, shards[rank].contiguous()))


@pytest.mark.parametrize("sequence", SEQUENCE)
def test_gate_and_up_in_rank_order_give_the_natural_order_behind_the_activation(sequence: int) -> None:
    gate, up = torch.randn(INTERMEDIATE, HIDDEN), torch.randn(INTERMEDIATE, HIDDEN)
    shards = torch.stack([torch.cat(pair) for pair in zip(gate.chunk(sequence), up.chunk(sequence), strict=True)])
    rank_major = gathered(shards, Parameter("gate_up", Split.ROWS), heads(sequence))
    natural = gathered(shards, Parameter("gate_up", Split.BLOCKS, (INTERMEDIATE // sequence,) * 2), heads(sequence))
    assert torch.equal(natural, torch.cat([gate, up]))
    rows = torch.randn(7, HIDDEN)
    activation = Gate()
    assert torch.equal(RankMajor(activation, sequence)(linear(rows, rank_major)), activation(linear(rows, natural)))


def test_a_shard_that_would_be_misaligned_is_kept_as_it_is() -> None:
    assert shard_view(torch.zeros(4, 6, dtype=torch.bfloat16), Split.COLUMNS, 0, 2) is None  # 3 columns of 2 bytes
    assert shard_view(torch.zeros(6, dtype=torch.bfloat16), Split.ROWS, 1, 2) is None
    assert shard_view(torch.zeros(4, 16, dtype=torch.bfloat16), Split.COLUMNS, 1, 2) is not None


def a_layer(ranks: int = 1, device: str = "cpu") -> nn.Module:
    """A norm, an embedding with a tied head, a projection of heads, a row-parallel layer; of one rank in `ranks`."""

    def tensor(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(*shape, device=device), requires_grad=False)

    layer = nn.Module()
    for name, weight in {
        "norm": tensor(HIDDEN),
        "embedding": tensor(VOCABULARY // ranks, HIDDEN),
        "qkv": tensor(24 * HEAD_SIZE // ranks, HIDDEN),
        "down": tensor(HIDDEN, INTERMEDIATE // ranks),
    }.items():
        layer.add_module(name, nn.Module())
        layer.get_submodule(name).register_parameter("weight", weight)
    return layer


PARAMETERS = (
    Parameter("norm.weight", Split.WHOLE),
    Parameter("embedding.weight", Split.ROWS),
    Parameter("qkv.weight", Split.HEADS, (4 * HEAD_SIZE,) * 3),
    Parameter("down.weight", Split.COLUMNS),
)


def test_the_hosts_parameters_become_views_and_every_byte_is_counted() -> None:
    ranks = [a_layer(2) for _ in range(2)]
    for layer in ranks:
        layer.norm.weight = ranks[0].norm.weight
        layer.head = nn.Module()
        layer.head.weight = nn.Parameter(layer.embedding.weight.data, requires_grad=False)  # tied
    before = [{name: p.data.clone() for name, p in layer.named_parameters()} for layer in ranks]
    overlay = a_layer(device="meta")
    check_shapes(ranks[0], overlay, PARAMETERS, heads(2))
    shards = iter(
        torch.stack([layer.get_parameter(p.name).data for layer in ranks])
        for p in PARAMETERS
        if p.split is not Split.WHOLE
    )
    counted = share(ranks[1], overlay, PARAMETERS, heads(2), 1, lambda _: next(shards))

    for name, old in before[1].items():
        assert torch.equal(ranks[1].get_parameter(name), old), name
    storages = {p.untyped_storage().data_ptr() for p in overlay.parameters()}
    own = {name for name, p in ranks[1].named_parameters() if p.untyped_storage().data_ptr() not in storages}
    assert own == {"qkv.weight"}
    sizes = {name: p.nbytes for name, p in overlay.named_parameters()}
    assert counted == WeightBytes(shared=sum(sizes.values()) - sizes["qkv.weight"], copied=sizes["qkv.weight"])


def ready(layer: nn.Module) -> nn.Module:
    """As vLLM leaves layers in fp8: each weight is held as its transpose."""
    for name in ("qkv", "down", "gate_up"):
        part = getattr(layer, name)
        part.weight = nn.Parameter(part.weight.data.t(), requires_grad=False)
    return layer


@pytest.mark.parametrize("strided", [True, False])
def test_weights_held_as_transposes_are_shared_and_columns_only_where_the_kernel_takes_them(strided: bool) -> None:
    ranks = [a_layer(2) for _ in range(2)]
    for layer in ranks:
        layer.norm.weight = ranks[0].norm.weight
        layer.gate_up = nn.Module()
        layer.gate_up.weight = nn.Parameter(torch.randn(INTERMEDIATE, HIDDEN), requires_grad=False)
    before = [{name: p.data.clone() for name, p in ready(layer).named_parameters()} for layer in ranks]
    overlay = a_layer(device="meta")
    overlay.gate_up = nn.Module()
    overlay.gate_up.weight = nn.Parameter(torch.empty(2 * INTERMEDIATE, HIDDEN, device="meta"), requires_grad=False)
    fp8 = tuple(
        Parameter(f"{name}.weight", split, blocks, transposed=True, strided=strided)
        for name, split, blocks in (
            ("qkv", Split.HEADS, (4 * HEAD_SIZE,) * 3),
            ("down", Split.COLUMNS, ()),
            ("gate_up", Split.ROWS, ()),
        )
    )
    check_shapes(ranks[0], overlay, fp8, heads(2))
    shards = iter(torch.stack([layer.get_parameter(p.name).data.t() for layer in ranks]) for p in fp8)
    counted = share(ranks[1], overlay, fp8, heads(2), 1, lambda _: next(shards))

    for name, old in before[1].items():
        assert torch.equal(ranks[1].get_parameter(name), old), name
    assert torch.equal(overlay.down.weight, torch.cat([each["down.weight"].t() for each in before], dim=1))
    storages = {p.untyped_storage().data_ptr() for p in overlay.parameters() if not p.is_meta}
    shared = {name for name, p in ranks[1].named_parameters() if p.untyped_storage().data_ptr() in storages}
    assert shared == ({"down.weight", "gate_up.weight"} if strided else {"gate_up.weight"})
    assert ranks[1].gate_up.weight.stride() == (1, HIDDEN)  # as packed as it was: any kernel reads it
    sizes = {name: overlay.get_submodule(name).weight.nbytes for name in ("qkv", "down", "gate_up")}
    copied = sizes["qkv"] + (0 if strided else sizes["down"])
    assert counted == WeightBytes(shared=sum(sizes.values()) - copied, copied=copied)


def four_ranks() -> tuple[list[nn.Module], nn.Module]:
    """The shards of P = 4, and the overlay 4x1 that holds them all."""
    ranks = [a_layer(4) for _ in range(4)]
    for layer in ranks:
        layer.norm.weight = ranks[0].norm.weight
    whole = a_layer()
    whole.embedding.weight = nn.Parameter(torch.cat([layer.embedding.weight for layer in ranks]), requires_grad=False)
    whole.down.weight = nn.Parameter(torch.cat([layer.down.weight for layer in ranks], dim=1), requires_grad=False)
    return ranks, whole


HALVES = place_heads(8, 8, Degree(2, 2))
OF_A_QUARTER = tuple(
    Parameter(each.name, each.split, (2 * HEAD_SIZE,) * 3 if each.blocks else ()) for each in PARAMETERS
)


@pytest.mark.parametrize("rank", range(4))
def test_a_narrower_overlays_weights_are_views_of_the_wider_ones(rank: int) -> None:
    """2x2 beside 4x1: all but QKV lies in the wider overlay's tensors, and the host's stay where they are."""
    ranks, whole = four_ranks()
    first = rank // 2 * 2  # of its sequence group of 2x2
    overlay, host = a_layer(2, device="meta"), ranks[rank]
    addresses = {name: parameter.data_ptr() for name, parameter in host.named_parameters()}

    def gather(shard: Tensor) -> Tensor:
        return torch.stack([ranks[first].qkv.weight.data, ranks[first + 1].qkv.weight.data])

    wider = Wider(whole, rank // 2, 2)
    needed = bytes_needed(host, overlay, OF_A_QUARTER, HALVES, wider, move_host=False)
    assert needed == 2 * overlay.qkv.weight.nbytes
    counted = share(host, overlay, OF_A_QUARTER, HALVES, rank % 2, gather, wider=wider, move_host=False)
    pair = ranks[first : first + 2]
    assert torch.equal(overlay.embedding.weight, torch.cat([layer.embedding.weight for layer in pair]))
    assert torch.equal(overlay.down.weight, torch.cat([layer.down.weight for layer in pair], dim=1))
    for name in ("embedding", "down"):
        lies_in = getattr(whole, name).weight.untyped_storage().data_ptr()
        assert getattr(overlay, name).weight.untyped_storage().data_ptr() == lies_in
    assert counted.copied == overlay.qkv.weight.nbytes
    assert {name: parameter.data_ptr() for name, parameter in host.named_parameters()} == addresses


def test_a_host_that_must_not_move_stays_and_everything_split_is_copied() -> None:
    ranks, whole = four_ranks()
    overlay, host = a_layer(device="meta"), ranks[2]
    addresses = {name: parameter.data_ptr() for name, parameter in host.named_parameters()}
    shards = iter(torch.stack([r.get_parameter(p.name).data for r in ranks]) for p in OF_A_QUARTER[1:])
    split = [p.nbytes for name, p in overlay.named_parameters() if name != "norm.weight"]
    assert bytes_needed(host, overlay, OF_A_QUARTER, heads(4), None, move_host=False) == sum(split) + max(split)
    moved = host.embedding.weight.nbytes + host.down.weight.nbytes  # which would become views
    assert bytes_needed(host, overlay, OF_A_QUARTER, heads(4), None, move_host=True) == sum(split) + max(split) - moved
    counted = share(host, overlay, OF_A_QUARTER, heads(4), 2, lambda _: next(shards), move_host=False)
    assert counted.copied == sum(split)
    assert torch.equal(overlay.down.weight, whole.down.weight)
    assert {name: parameter.data_ptr() for name, parameter in host.named_parameters()} == addresses


def test_a_layer_of_another_shape_is_refused_before_anything_is_changed() -> None:
    host, overlay = a_layer(2), a_layer(device="meta")
    overlay.down.weight = nn.Parameter(torch.empty(HIDDEN, INTERMEDIATE + 8, device="meta"), requires_grad=False)
    with pytest.raises(NotShareable, match=r"down\.weight has shape"):
        check_shapes(host, overlay, PARAMETERS, heads(2))


def test_bytes_that_several_views_share_count_once() -> None:
    whole, other = torch.zeros(8, 4), torch.zeros(2)
    assert distinct_bytes([whole, whole.chunk(2)[1], whole.t(), other]) == whole.nbytes + other.nbytes


class Wrapping(Tensor):
    """As torchao's quantised weights: a tensor whose own storage nobody may look at."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wrapping":
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, *_: object) -> None:
        raise AssertionError("counting computes nothing")


def test_a_weight_that_wraps_others_is_counted_by_its_shape() -> None:
    assert distinct_bytes([Wrapping(torch.zeros(8, 4))]) == 128


class Gate(nn.Module):
    """Takes the two halves of the last dimension, as SiluAndMul does; exact in any order of the elements."""

    def forward(self, pair: Tensor) -> Tensor:
        half = pair.shape[-1] // 2
        return pair[..., :half].relu() * pair[..., half:]
