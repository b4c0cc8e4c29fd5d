"""How far TP=2 is from one GPU in each number format, and how far an overlay with a fault would be: the self-check's
bound lies between. A small transformer in plain torch stands for the model, dense or with experts; its weights and
activations are quantised as W8A8 is, per row of weights and per token, and its hidden states are those behind the last
norm."""

from dataclasses import dataclass, field
from functools import cache

import pytest
import torch
from shift_engine.self_check import Distance, distance, tolerance
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

TOKENS, HIDDEN, HEADS, LAYERS = 61, 256, 8, 4  # the sizes of the tiny model, and the tokens of the self-check
SEQUENCE = 2
EXPERTS, CHOSEN = 8, 2
FAULTS = ("heads of another rank", "two heads", "KV heads", "positions", "rows", "the last two rows", "the last row")
FAULTS_OF_EXPERTS = ("experts of one rank", "experts of other rows")


@dataclass(frozen=True)
class Format:
    """Of activations; `largest` is that of a quantised number."""

    dtype: torch.dtype
    quantised: torch.dtype | None = None
    largest: float = 0.0
    has_short_products: bool = False  # TF32: float32 whose products have 10 bits

    def rounded(self, rows: Tensor) -> Tensor:
        """[n, k] -> the same in float32, as the matrix multiplication sees them: each row with a scale of its own."""
        if self.has_short_products:
            bits = rows.float().contiguous().view(torch.int32)
            return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)
        if self.quantised is None:
            return rows.to(self.dtype).float()
        scale = (rows.float().abs().amax(dim=1, keepdim=True) / self.largest).clamp_min(1e-10)
        scaled = rows.float() / scale
        return (scaled if self.quantised.is_floating_point else scaled.round()).to(self.quantised).float() * scale

    def bound(self, *, has_experts: bool) -> Distance:
        return tolerance(self.dtype, is_quantised=self.quantised is not None, has_experts=has_experts)


FORMATS = {
    "fp32": Format(torch.float32),
    "tf32": Format(torch.float32, has_short_products=True),
    "bf16": Format(torch.bfloat16),
    "int8": Format(torch.bfloat16, torch.int8, 127),
    "fp8": Format(torch.bfloat16, torch.float8_e4m3fn, 448),
}


@dataclass(frozen=True)
class Model:
    """A Llama with random weights of the width that tests and examples have (0.1)."""

    format: Format
    layers: int = LAYERS
    has_experts: bool = False
    weights: dict[str, Tensor] = field(default_factory=dict)

    def hidden_states(self, *, ranks: int = 1, fault: str | None = None) -> Tensor:
        """-> [n, d]. Under `ranks` the row-parallel layers see a part of each row, and their results are added."""
        n, m, size = TOKENS, -(-TOKENS // SEQUENCE), HIDDEN // HEADS
        noise = torch.Generator().manual_seed(1000)
        residual = torch.randn(TOKENS, HIDDEN, generator=noise).to(self.format.dtype)
        positions = torch.arange(n)
        if fault == "positions":
            positions = positions % m  # the second rank counts from 0
        for layer in range(self.layers):
            normed = rms_norm(residual, (HIDDEN,))
            q, k, v = (self._linear(normed, f"{layer}.{each}", HIDDEN).view(n, HEADS, size) for each in "qkv")
            if fault == "KV heads":
                k, v = k.roll(HEADS // 2, 1), v.roll(HEADS // 2, 1)
            heads = (each.transpose(0, 1) for each in (_rotated(q, positions), _rotated(k, positions), v))
            attended = scaled_dot_product_attention(*heads, is_causal=True).transpose(0, 1)
            if fault == "heads of another rank":
                attended = attended.roll(HEADS // 2, 1)
            if fault == "two heads":
                attended = attended[:, [1, 0, *range(2, HEADS)]]
            residual = residual + self._linear(attended.flatten(1), f"{layer}.o", HIDDEN, ranks)
            normed = rms_norm(residual, (HIDDEN,))
            if self.has_experts:
                residual = residual + self._experts(normed, layer, ranks, fault)
            else:
                residual = residual + self._expert(normed, str(layer), 3 * HIDDEN, ranks)
        hidden = rms_norm(residual, (HIDDEN,))
        if fault == "rows":
            hidden = torch.cat([hidden[m:], hidden[:m]])
        if fault == "the last two rows":
            hidden = torch.cat([hidden[:-2], hidden[-2:].flip(0)])
        if fault == "the last row":
            hidden = torch.cat([hidden[:-1], torch.zeros_like(hidden[-1:])])
        return hidden

    def _experts(self, rows: Tensor, layer: int, ranks: int, fault: str | None) -> Tensor:
        """[n, d] -> [n, d], of the chosen experts of each row, by its router's shares."""
        shares, chosen = self._linear(rows, f"{layer}.router", EXPERTS).float().softmax(dim=1).topk(CHOSEN, dim=1)
        shares = shares / shares.sum(dim=1, keepdim=True)
        total = torch.zeros(rows.shape, dtype=torch.float32)
        for expert in range(EXPERTS):
            own = self._expert(rows, f"{layer}.{expert}", HIDDEN // 2, ranks, is_partial=fault == "experts of one rank")
            total += own.float() * (shares * (chosen == expert)).sum(dim=1, keepdim=True)
        if fault == "experts of other rows":
            total = total.roll(1, 0)
        return total.to(self.format.dtype)

    def _expert(self, rows: Tensor, name: str, inner: int, ranks: int, *, is_partial: bool = False) -> Tensor:
        """[n, d] -> [n, d]: a gated layer; `is_partial` leaves out what the other ranks add."""
        gate, up = (self._linear(rows, f"{name}.{each}", inner) for each in ("gate", "up"))
        return self._linear(silu(gate) * up, f"{name}.down", HIDDEN, ranks, is_partial=is_partial)

    def _linear(self, rows: Tensor, name: str, out: int, ranks: int = 1, *, is_partial: bool = False) -> Tensor:
        """[n, k] -> [n, out], the sum of what the ranks make of their columns, or one's part of two."""
        weight = self._weight(name, out, rows.shape[1])
        shares = SEQUENCE if is_partial else ranks
        parts = zip(rows.chunk(shares, dim=1), weight.chunk(shares, dim=1), strict=True)
        results = [(self.format.rounded(own) @ shard.T).to(self.format.dtype) for own, shard in parts]
        if is_partial:
            return results[0]
        return torch.stack(results).sum(dim=0)

    def _weight(self, name: str, *shape: int) -> Tensor:
        if name not in self.weights:
            noise = torch.Generator().manual_seed(len(self.weights))
            self.weights[name] = self.format.rounded(torch.randn(shape, generator=noise) * 0.1)
        return self.weights[name]


@cache
def a_model(name: str, layers: int = LAYERS, *, has_experts: bool = False) -> Model:
    return Model(FORMATS[name], layers, has_experts)


@cache
def on_two_ranks(name: str, layers: int = LAYERS, *, has_experts: bool = False) -> Tensor:
    return a_model(name, layers, has_experts=has_experts).hidden_states(ranks=SEQUENCE)


def apart(name: str, layers: int = LAYERS, *, has_experts: bool = False) -> Distance:
    """Two ranks from one."""
    one = a_model(name, layers, has_experts=has_experts).hidden_states()
    return distance(one, on_two_ranks(name, layers, has_experts=has_experts))


def _rotated(heads: Tensor, positions: Tensor) -> Tensor:
    """[n, heads, e]: rotary embedding."""
    half = heads.shape[2] // 2
    angles = torch.outer(positions.float(), 10000.0 ** -(torch.arange(half) / half))[:, None]
    cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    first, second = heads.chunk(2, dim=2)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=2)


@pytest.mark.parametrize("name", FORMATS)
def test_two_ranks_are_as_near_to_one_as_the_format_allows(name: str) -> None:
    """fp8 by more than a tenth of the largest number, which was the bound: the overlay was dropped on GPUs."""
    assert apart(name).farthest < FORMATS[name].bound(has_experts=False).farthest / 2
    if name == "fp8":
        one, two = a_model(name).hidden_states(), on_two_ranks(name)
        assert (one - two).abs().max() / one.abs().max() > 0.1


@pytest.mark.parametrize("name", FORMATS)
def test_a_deep_model_is_farther_and_still_within_the_bound(name: str) -> None:
    near, far = apart(name), apart(name, 2 * LAYERS)
    assert near.farthest < far.farthest
    assert far.is_within(FORMATS[name].bound(has_experts=False))


@pytest.mark.parametrize("layers", [LAYERS, 2 * LAYERS])
@pytest.mark.parametrize("name", FORMATS)
def test_routers_that_choose_otherwise_by_rounding_are_no_fault(name: str, layers: int) -> None:
    """In 16 bits the farthest token is farther than any of a dense model: the overlay of Qwen3-MoE was dropped."""
    found = apart(name, layers, has_experts=True)
    assert found.is_within(FORMATS[name].bound(has_experts=True))
    if name == "bf16":
        assert not found.is_within(FORMATS[name].bound(has_experts=False))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("has_experts", [False, True])
def test_a_fault_is_farther_than_any_rounding(name: str, fault: str, has_experts: bool) -> None:
    """On top of rounding, which could bring a wrong row nearer by chance."""
    wrong = a_model(name, has_experts=has_experts).hidden_states(fault=fault)
    found, bound = (
        distance(on_two_ranks(name, has_experts=has_experts), wrong),
        FORMATS[name].bound(has_experts=has_experts),
    )
    assert not found.is_within(bound)
    if not has_experts:
        assert found.farthest > bound.farthest * 1.2


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("fault", FAULTS_OF_EXPERTS)
def test_a_fault_of_experts_is_farther_than_any_rounding(name: str, fault: str) -> None:
    wrong = a_model(name, has_experts=True).hidden_states(fault=fault)
    found = distance(on_two_ranks(name, has_experts=True), wrong)
    assert not found.is_within(FORMATS[name].bound(has_experts=True))


def test_what_is_no_number_is_infinitely_far() -> None:
    host = torch.ones(3, 4)
    overlay = host.clone()
    overlay[1, 2] = float("nan")
    assert distance(host, overlay) == Distance(float("inf"), 0.0)
    assert distance(host, host) == Distance(0.0, 0.0)


def test_one_wrong_row_among_many_counts_in_full() -> None:
    host = torch.randn(4096, 16)
    overlay = host.clone()
    overlay[4095] = -host[4095]
    assert distance(host, overlay).farthest == pytest.approx(2.0)
