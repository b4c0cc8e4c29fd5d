"""The traffic query's parts in Prometheus's own engine: what counts as load and capacity when pods come and go.

Scrapes are 15 s apart, at 0 s, 15 s and so on; a window is 60 s, which is four samples (Prometheus 3 leaves its left
edge out). A rate is extrapolated over the window from the samples in it, so a steady one comes out exact.
"""

from collections.abc import Callable, Mapping

import pytest
from shift_operator.api.signals import LatencyLimits
from shift_operator.prometheus.traffic_query import MIX_WINDOWS, TrafficPart, traffic_parts, traffic_query

Evaluates = Callable[[Mapping[str, str], str, str, Mapping[str, float]], None]

PROMQL = traffic_parts(60, [LatencyLimits(ttft_seconds=0.5, tpot_seconds=0.5)])
DEPLOYMENT = '{namespace="prod",deployment="chat"}'
MODEL = 'engine="0",model_name="chat"'


def series(metric: str, pod: int = 0, more: str = "", namespace: str = "prod") -> str:
    labels = f'namespace="{namespace}",deployment="chat",pod="chat-{pod}",{MODEL}{more}'
    return f"{metric}{{{labels}}}"


def running(pod: int = 0, namespace: str = "prod") -> str:
    return series("vllm:num_requests_running", pod, namespace=namespace)


def finished(pod: int = 0, reason: str = "stop", namespace: str = "prod") -> str:
    return series("vllm:request_success_total", pod, f',finished_reason="{reason}"', namespace)


def bucket(metric: str, le: str, pod: int = 0) -> str:
    return series(f"{metric}_bucket", pod, f',le="{le}"')


def test_requests_that_finish_are_summed_over_reasons_and_pods(evaluates: Evaluates) -> None:
    """An aborted request arrived like any other."""
    load = {
        running(0): "3x8",
        running(1): "3x8",
        finished(0): "0+30x8",
        finished(0, "abort"): "0+15x8",
        finished(1): "0+60x8",
    }
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m", {DEPLOYMENT: 2 + 1 + 4})


def test_an_idle_deployment_finishes_0_requests_and_has_no_mix(evaluates: Evaluates) -> None:
    idle = {
        running(): "0x20",
        finished(): "70x20",
        series("vllm:request_prompt_tokens_sum"): "7000x20",
        series("vllm:request_prompt_tokens_count"): "70x20",
        bucket("vllm:time_to_first_token_seconds", "0.5"): "60x20",
        bucket("vllm:time_to_first_token_seconds", "+Inf"): "70x20",
    }
    evaluates(idle, PROMQL[TrafficPart.FINISH_RATE], "5m", {DEPLOYMENT: 0})
    evaluates(idle, PROMQL[TrafficPart.PROMPT_TOKENS], "5m", {})
    none = {f'{{namespace="prod",deployment="chat",le="{le}"}}': 0.0 for le in ("0.5", "+Inf")}
    evaluates(idle, PROMQL[TrafficPart.TTFT], "5m", none)


def test_a_restarted_pod_counts_from_zero_again(evaluates: Evaluates) -> None:
    """In (1m, 2m]: 1150, then 0, 30, 60: 60 more between 75 s and 120 s, as if over the whole window."""
    load = {running(): "3x8", finished(): "1000+30x5 0+30x2"}
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m", {DEPLOYMENT: 60 / 45})


def test_a_reset_of_one_pod_does_not_swallow_the_requests_of_another(evaluates: Evaluates) -> None:
    load = {running(0): "3x8", running(1): "3x8", finished(0): "1000+30x5 0+30x2", finished(1): "0+30x8"}
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m", {DEPLOYMENT: 60 / 45 + 2})


def test_a_deleted_pod_is_neither_load_nor_capacity(evaluates: Evaluates) -> None:
    gone = {
        running(0): "3x8",
        running(1): "9x6 stale",
        finished(0): "0+30x8",
        finished(1): "0+90x6 stale",
        series("vllm:num_requests_waiting", 0): "0+15x8",
        series("vllm:num_requests_waiting", 1): "0+150x6 stale",
        series("vllm:kv_cache_usage_perc", 0): "0.2x8",
        series("vllm:kv_cache_usage_perc", 1): "0.9x6 stale",
        series("vllm:cache_config_info", 0, ',kv_cache_size_tokens="480000",num_gpu_blocks="30000",block_size="16"'): (
            "1x8"
        ),
        series("vllm:cache_config_info", 1, ',kv_cache_size_tokens="320000",num_gpu_blocks="20000",block_size="16"'): (
            "1x6 stale"
        ),
    }
    for part, value in {
        TrafficPart.FINISH_RATE: 2,
        TrafficPart.IN_SYSTEM_SLOPE: 1,
        TrafficPart.RUNNING: 3,
        TrafficPart.WAITING: 120,
        TrafficPart.KV_USAGE: 0.2,
        TrafficPart.PODS_REPORTING: 1,
    }.items():
        evaluates(gone, PROMQL[part], "2m", {DEPLOYMENT: value})
    capacity = (
        '{namespace="prod",deployment="chat",kv_cache_size_tokens="480000",num_gpu_blocks="30000",block_size="16"}'
    )
    evaluates(gone, PROMQL[TrafficPart.KV_CAPACITY], "2m", {capacity: 1})


def test_a_new_pod_is_capacity_with_its_first_sample_and_load_with_its_second(evaluates: Evaluates) -> None:
    load = {running(0): "3x9", running(1): "_x8 5x1", finished(0): "0+30x9", finished(1): "_x8 0 45"}
    evaluates(load, PROMQL[TrafficPart.PODS_REPORTING], "2m", {DEPLOYMENT: 2})
    evaluates(load, PROMQL[TrafficPart.RUNNING], "2m", {DEPLOYMENT: 8})
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m", {DEPLOYMENT: 2})
    # Its 45 count over the whole window: Prometheus stretches a counter that begins at 0 no further than to there.
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m15s", {DEPLOYMENT: 2 + 45 / 60})


def test_a_failed_scrape_takes_its_pod_out_until_the_next(evaluates: Evaluates) -> None:
    load = {running(0): "3x9", running(1): "5x7 stale 5x1", finished(0): "0+30x9", finished(1): "0+30x7 stale 270"}
    evaluates(load, PROMQL[TrafficPart.PODS_REPORTING], "2m", {DEPLOYMENT: 1})
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m", {DEPLOYMENT: 2})
    evaluates(load, PROMQL[TrafficPart.PODS_REPORTING], "2m15s", {DEPLOYMENT: 2})
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m15s", {DEPLOYMENT: 4})


def test_a_scrape_gap_without_a_mark_shows_by_the_age_of_the_sample(evaluates: Evaluates) -> None:
    load = {running(0): "3x20", running(1): "5x8"}
    evaluates(load, PROMQL[TrafficPart.PODS_REPORTING], "4m", {DEPLOYMENT: 2})
    evaluates(load, PROMQL[TrafficPart.SAMPLED_AT], "4m", {DEPLOYMENT: 120})


def test_one_model_name_in_two_namespaces_is_two_deployments(evaluates: Evaluates) -> None:
    load = {
        running(): "3x8",
        finished(): "0+30x8",
        running(namespace="dev"): "7x8",
        finished(namespace="dev"): "0+150x8",
    }
    other = DEPLOYMENT.replace("prod", "dev")
    evaluates(load, PROMQL[TrafficPart.FINISH_RATE], "2m", {DEPLOYMENT: 2, other: 10})
    evaluates(load, PROMQL[TrafficPart.RUNNING], "2m", {DEPLOYMENT: 3, other: 7})


def test_the_slope_is_that_of_running_and_waiting_over_all_pods(evaluates: Evaluates) -> None:
    load = {
        running(0): "0+15x8",
        running(1): "100-30x8",
        series("vllm:num_requests_waiting", 0): "0+45x8",
        series("vllm:num_requests_waiting", 1): "5x8",
    }
    evaluates(load, PROMQL[TrafficPart.IN_SYSTEM_SLOPE], "2m", {DEPLOYMENT: 1 - 2 + 3})


def test_bursts_show_in_the_counts_of_short_spans_whichever_pod_they_meet(evaluates: Evaluates) -> None:
    """90 requests in each second pair of scrapes, first all on pod 0 and then all on pod 1. A span of 30 s holds two
    samples, 15 s apart: what they differ by is stretched to twice that, 180 or 0."""
    parts = traffic_parts(120)
    counts = "vllm:request_prompt_tokens_count"
    load = {
        running(0): "3x12",
        running(1): "3x12",
        series(counts, 0): "1000 1090 1090 1180 1180 1270 1270 1270 1270 1270 1270 1270 1270",
        series(counts, 1): "1000 1000 1000 1000 1000 1000 1000 1090 1090 1180 1180 1270 1270",
    }
    evaluates(load, parts[TrafficPart.SPAN_MEAN], "3m", {DEPLOYMENT: 90})
    evaluates(load, parts[TrafficPart.SPAN_DEVIATION], "3m", {DEPLOYMENT: 90})


def test_an_even_load_has_no_deviation_with_a_pod_more_or_less(evaluates: Evaluates) -> None:
    """Spans of 15 s hold one scrape, so those of 30 s stand in, halved."""
    counts = "vllm:request_prompt_tokens_count"
    load = {
        running(0): "3x12",
        running(1): "3x12",
        series(counts, 0): "1000+90x6 1570+30x5",
        series(counts, 1): "1000+0x6 1060+60x5",
    }
    evaluates(load, PROMQL[TrafficPart.SPAN_MEAN], "3m", {DEPLOYMENT: 90})
    evaluates(load, PROMQL[TrafficPart.SPAN_DEVIATION], "3m", {DEPLOYMENT: 0})


def test_without_a_live_pod_there_are_no_counts_of_the_past(evaluates: Evaluates) -> None:
    gone = {running(0): "3x6 stale", series("vllm:request_prompt_tokens_count", 0): "1000+90x6 stale"}
    evaluates(gone, PROMQL[TrafficPart.SPAN_MEAN], "2m", {})
    evaluates(gone, PROMQL[TrafficPart.SPAN_DEVIATION], "2m", {})


def test_without_one_of_its_halves_there_is_no_slope(evaluates: Evaluates) -> None:
    evaluates({running(): "0+15x8"}, PROMQL[TrafficPart.IN_SYSTEM_SLOPE], "2m", {})


@pytest.mark.parametrize(
    ("part", "total", "count"),
    [
        (TrafficPart.PROMPT_TOKENS, "vllm:request_prompt_tokens_sum", "vllm:request_prompt_tokens_count"),
        (TrafficPart.OUTPUT_TOKENS, "vllm:request_generation_tokens_sum", "vllm:request_generation_tokens_count"),
        (TrafficPart.PREFIX_HIT_RATIO, "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
    ],
)
def test_a_mean_weighs_requests_and_not_pods_and_looks_further_back(
    evaluates: Evaluates, part: TrafficPart, total: str, count: str
) -> None:
    """Pod 0 had its last request two windows ago."""
    assert MIX_WINDOWS == 3
    load = {
        running(0): "0x12",
        running(1): "0x12",
        series(total, 0): "0+1000x6 6000x5",
        series(count, 0): "0+10x6 60x5",
        series(total, 1): "0+1000x12",
        series(count, 1): "0+40x12",
    }
    # In (0, 3m], from 15 s to 180 s: 5000 of 50 and 11000 of 440; both stretched alike.
    evaluates(load, PROMQL[part], "3m", {DEPLOYMENT: 16000 / 490})


def test_requests_within_each_edge_are_counted_over_all_pods(evaluates: Evaluates) -> None:
    for part, metric in (
        (TrafficPart.TTFT, "vllm:time_to_first_token_seconds"),
        (TrafficPart.TPOT, "vllm:request_time_per_output_token_seconds"),
    ):
        load = {
            running(0): "0x8",
            running(1): "0x8",
            bucket(metric, "0.5", 0): "0+15x8",
            bucket(metric, "+Inf", 0): "0+30x8",
            bucket(metric, "0.5", 1): "0+45x8",
            bucket(metric, "+Inf", 1): "0+45x8",
        }
        expected = {
            '{namespace="prod",deployment="chat",le="0.5"}': 240.0,
            '{namespace="prod",deployment="chat",le="+Inf"}': 300.0,
        }
        evaluates(load, PROMQL[part], "2m", expected)


def test_only_the_edges_of_limits_are_asked_for_however_they_are_written(evaluates: Evaluates) -> None:
    """1.2 s is counted at 1 s, which Prometheus 2 writes as 1.0; 0.5 s lies between 0.4 s and 0.75 s at 0.5 s."""
    parts = traffic_parts(60, [LatencyLimits(ttft_seconds=1.2), LatencyLimits(ttft_seconds=0.5), LatencyLimits()])
    metric = "vllm:time_to_first_token_seconds"
    edges = ("0.25", "0.5", "0.75", "1", "1.0", "10.0", "+Inf")
    load = {running(): "0x8"} | {bucket(metric, le): "0+15x8" for le in edges}
    asked = {f'{{namespace="prod",deployment="chat",le="{le}"}}': 60.0 for le in ("0.5", "1", "1.0", "+Inf")}
    evaluates(load, parts[TrafficPart.TTFT], "2m", asked)
    evaluates({running(): "0x8", bucket(metric, "+Inf"): "0+15x8"}, traffic_parts(60)[TrafficPart.TTFT], "2m", {
        '{namespace="prod",deployment="chat",le="+Inf"}': 60.0
    })  # fmt: skip


def test_the_time_per_token_is_the_mean_of_the_window(evaluates: Evaluates) -> None:
    load = {
        running(): "0x8",
        series("vllm:request_time_per_output_token_seconds_sum"): "0+0.75x8",
        series("vllm:request_time_per_output_token_seconds_count"): "0+30x8",
    }
    evaluates(load, PROMQL[TrafficPart.TPOT_SECONDS], "2m", {DEPLOYMENT: 0.025})


def test_the_whole_query_marks_each_part_and_keeps_what_there_is(evaluates: Evaluates) -> None:
    load = {running(0): "3x8", running(1): "4x8", series("vllm:num_requests_waiting", 0): "1x8", finished(): "0+30x8"}
    expected = {
        TrafficPart.FINISH_RATE: 2.0,
        TrafficPart.IN_SYSTEM_SLOPE: 0.0,
        TrafficPart.RUNNING: 7.0,
        TrafficPart.WAITING: 1.0,
        TrafficPart.PODS_REPORTING: 2.0,
        TrafficPart.SAMPLED_AT: 120.0,
    }
    marked = {f'{{namespace="prod",deployment="chat",signal="{part}"}}': value for part, value in expected.items()}
    pods = {"vllm:num_requests_running": 2.0, "vllm:num_requests_waiting": 1.0, "vllm:request_success_total": 1.0}
    marked |= {
        f'{metric}{{namespace="prod",deployment="chat",signal="metric_pods"}}': count for metric, count in pods.items()
    }
    evaluates(load, traffic_query(60), "2m", marked)
