"""A histogram's buckets as sizes that the law can weigh."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.signals import SizeBucket
from shift_operator.control.distribution import SIZES_PER_BUCKET, steps_of

Sizes = tuple[tuple[float, float], ...]


def step_sizes(buckets: tuple[SizeBucket, ...], max_batched_tokens: int) -> Sizes:
    """Each size with its number of steps."""
    steps = steps_of(buckets, max_batched_tokens)
    return tuple(zip(steps.tokens, steps.counts, strict=True))


def test_a_bucket_of_few_sizes_is_exact() -> None:
    assert step_sizes(
        (
            SizeBucket(0, 1, 10),
            SizeBucket(4, 8, 8),
        ),
        2048,
    ) == (
        (1, 10),
        (5, 2),
        (6, 2),
        (7, 2),
        (8, 2),
    )


def test_a_wide_bucket_is_four_sizes_with_the_mean_of_the_bucket() -> None:
    sizes = step_sizes((SizeBucket(512, 768, 100),), 2048)
    assert [tokens for tokens, _ in sizes] == [544.5, 608.5, 672.5, 736.5]
    mean_of_513_to_768 = 640.5
    assert sum(tokens * steps for tokens, steps in sizes) / 100 == mean_of_513_to_768


@pytest.mark.parametrize("up_to", [2048, inf])
def test_the_largest_step_there_is_ends_its_bucket(up_to: float) -> None:
    assert step_sizes((SizeBucket(1536, up_to, 1),), 1540) == step_sizes((SizeBucket(1536, 1540, 1),), 4096)


def test_steps_above_the_largest_one_count_as_the_largest() -> None:
    """A pod with a higher limit is being replaced by one with a lower."""
    assert step_sizes((SizeBucket(2048, 3072, 5),), 2048) == ((2048, 5),)


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1e6)), min_size=1, max_size=20, unique_by=lambda e: e[0]),
    st.integers(1, 8192),
)
def test_no_step_is_lost_and_sizes_ascend(edges: list[tuple[int, float]], max_batched_tokens: int) -> None:
    edges.sort()
    starts = [0] + [edge for edge, _ in edges[:-1]]
    buckets = [SizeBucket(above, edge, steps) for above, (edge, steps) in zip(starts, edges, strict=True)]
    sizes = step_sizes(tuple(buckets), max_batched_tokens)
    assert sum(steps for _, steps in sizes) == pytest.approx(sum(steps for _, steps in edges))
    assert list(sizes) == sorted(sizes, key=lambda size: size[0])
    assert all(1 <= tokens <= max_batched_tokens for tokens, _ in sizes)
    assert len(sizes) <= SIZES_PER_BUCKET * len(buckets)
