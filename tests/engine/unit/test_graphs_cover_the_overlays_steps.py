"""Which steps are captured: enough for little padding, few enough to capture in seconds."""

import pytest
from shift_engine.capture_sizes import FINEST, MAX_ROWS, capture_sizes

ENGINES = [
    (sequence, limit) for sequence in (1, 2, 4, 8, 16) for limit in (16, 61, 512, 2048, 5000, 8192, 8193, 131_072)
]


@pytest.mark.parametrize(("sequence", "max_tokens"), ENGINES)
def test_sizes_ascend_and_divide_by_the_sequence_degree(sequence: int, max_tokens: int) -> None:
    sizes = capture_sizes(sequence, max_tokens)
    assert list(sizes) == sorted(set(sizes))
    assert all(size % sequence == 0 and size <= max_tokens for size in sizes)
    assert len(sizes) <= 32


@pytest.mark.parametrize(("sequence", "max_tokens"), ENGINES)
def test_padding_is_an_eighth_at_most(sequence: int, max_tokens: int) -> None:
    before = 0
    for size in capture_sizes(sequence, max_tokens):
        assert size - (before + 1) < max(FINEST * sequence, size / 8)
        before = size


@pytest.mark.parametrize(("sequence", "max_tokens"), ENGINES)
def test_the_largest_step_has_a_graph_unless_its_kernels_are_long(sequence: int, max_tokens: int) -> None:
    assert capture_sizes(sequence, max_tokens)[-1] == min(max_tokens // sequence, MAX_ROWS) * sequence


def test_worked_example() -> None:
    assert capture_sizes(2, 512) == (64, 128, 192, 256, 320, 384, 448, 512)
    assert capture_sizes(8, 8192)[-4:] == (6656, 7168, 7680, 8192)
