"""The promises of both queries that need no Prometheus."""

import re
from collections.abc import Callable
from math import inf
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.signals import LatencyLimits
from shift_operator.prometheus.query import MAX_LENGTH, Part, cluster_query, parts
from shift_operator.prometheus.traffic_query import TPOT_EDGES, TTFT_EDGES, TrafficPart, traffic_parts, traffic_query

Query = Callable[[int], str]


def every_limit(window_seconds: int) -> str:
    """With a limit at each of vLLM's edges."""
    ttft, tpot = map(list, (TTFT_EDGES, TPOT_EDGES))
    limits = [LatencyLimits(ttft_seconds=edge) for edge in ttft] + [LatencyLimits(tpot_seconds=edge) for edge in tpot]
    return traffic_query(window_seconds, limits)


@pytest.mark.parametrize("query", [cluster_query, traffic_query, every_limit])
def test_it_fits_into_a_url_even_percent_encoded(query: Query) -> None:
    assert len(quote_plus(query(86_400))) < MAX_LENGTH


def test_it_has_every_part_once() -> None:
    assert set(parts()) == set(Part)
    assert set(traffic_parts()) == set(TrafficPart)
    for part in Part:
        assert cluster_query().count(f'"signal","{part}"') == 1
    for traffic_part in TrafficPart:
        assert traffic_query().count(f'"signal","{traffic_part}"') == 1


@given(st.floats(min_value=1e-4, max_value=1e4))
def test_the_edge_that_a_limit_is_counted_at_is_asked_for(limit: float) -> None:
    matcher = traffic_parts(60, [LatencyLimits(ttft_seconds=limit)])[TrafficPart.TTFT].split('le=~"')[1].split('"')[0]
    asked = {edge for edge in TTFT_EDGES if re.fullmatch(matcher, str(edge)) and re.fullmatch(matcher, f"{edge:g}")}
    below = [edge for edge in TTFT_EDGES if edge <= limit]
    assert asked == {max(below, default=TTFT_EDGES[0])} or asked == {min(e for e in TTFT_EDGES if e >= limit)}
    assert re.fullmatch(matcher, "+Inf")


def test_the_edges_are_those_that_a_real_engine_has() -> None:
    record = Path(__file__).parents[2].joinpath("integration", "prometheus", "engine_idle.txt").read_text()
    for metric, edges in (
        ("vllm:time_to_first_token_seconds", TTFT_EDGES),
        ("vllm:request_time_per_output_token_seconds", TPOT_EDGES),
    ):
        assert [float(le) for le in re.findall(f'{metric}_bucket{{.*?le="(.*?)"', record)] == [*edges, inf]


def test_no_counter_is_summed_before_its_increase() -> None:
    """A sum of counters falls when one pod restarts, which reads as a reset of them all."""
    for promql in (*parts().values(), *traffic_parts().values()):
        assert "increase(sum" not in promql
        assert "rate(sum" not in promql


@pytest.mark.parametrize("query", [cluster_query, traffic_query])
def test_a_window_too_short_for_two_scrapes_is_refused(query: Query) -> None:
    with pytest.raises(ValueError, match="a window of 3 s is too short: give at least four scrape intervals"):
        query(3)
