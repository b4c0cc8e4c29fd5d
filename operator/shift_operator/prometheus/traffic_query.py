"""The instant query that asks for the `Traffic` of every deployment of the cluster: load, mix, KV cache and latencies.

All of it is vLLM's own. The parts are joined and marked as in `query`, asked as of the same moment, and as there only
live pods count: a pod's live series is `vllm:num_requests_running`, and `and on (pod)` behind each range drops the
pods that are gone. It is a query of its own because both in one would not fit a URL (docs/decisions/0010).

Latencies come as the counts of buckets, not as a share of the requests: the limit lies at another edge for each
deployment, and counts are exact where `histogram_quantile` interpolates. Asked for are the edges that some limit needs.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from shift_operator.api.signals import TRAFFIC_SOURCES, LatencyLimits
from shift_operator.prometheus.query import DEFAULT_WINDOW_SECONDS, check_window, marked, metric_pods

MIX_WINDOWS = 3
"""Means over requests look this many windows back: the mix drifts slowly, and a quiet window has few requests."""

SPANS_PER_WINDOW = 4
"""Bursts are looked for in spans of this part of a window: each holds two scrapes where a window holds eight."""

LIVE = "vllm:num_requests_running"

TTFT_EDGES = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    *(160.0, 640.0, 2560.0),
)
"""Seconds. The edges of vLLM 0.32's vllm:time_to_first_token_seconds, but the infinite one."""

TPOT_EDGES = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""Seconds. The same of vllm:request_time_per_output_token_seconds."""


class TrafficPart(StrEnum):
    """The value of the label `signal` in the answer."""

    FINISH_RATE = "finish_rate"  # requests per second
    IN_SYSTEM_SLOPE = "in_system_slope"  # requests per second
    SPAN_MEAN = "span_mean"  # requests finished in a span, mean over the spans of MIX_WINDOWS windows
    SPAN_DEVIATION = "span_deviation"  # the standard deviation of the same
    PROMPT_TOKENS = "prompt_tokens"  # per request
    OUTPUT_TOKENS = "output_tokens"  # per request
    PREFIX_HIT_RATIO = "prefix_hit_ratio"
    RUNNING = "running"
    WAITING = "waiting"
    KV_USAGE = "kv_usage"
    KV_CAPACITY = "kv_capacity"  # 1, with the capacity in the labels kv_cache_size_tokens, num_gpu_blocks, block_size
    TTFT = "ttft"  # per le asked for: requests in the window whose first token took at most le seconds
    TPOT = "tpot"  # per le asked for: requests in the window whose tokens took at most le seconds each
    TPOT_SECONDS = "tpot_seconds"
    PODS_REPORTING = "pods_reporting"
    SAMPLED_AT = "sampled_at"  # when the longest unseen of the live pods was scraped, seconds since the epoch
    METRIC_PODS = "metric_pods"  # per __name__: live pods that have the metric


def traffic_parts(
    window_seconds: int = DEFAULT_WINDOW_SECONDS, limits: Iterable[LatencyLimits] = ()
) -> Mapping[TrafficPart, str]:
    """PromQL of each part, unmarked."""
    distinct = set(limits)
    ttft_edges = _edges(TTFT_EDGES, (limit.ttft_seconds for limit in distinct))
    tpot_edges = _edges(TPOT_EDGES, (limit.tpot_seconds for limit in distinct))

    def of(*more: str) -> str:
        return f"by({','.join(('namespace', 'deployment', *more))})"

    def over(function: str, metric: str, *more: str, windows: int = 1) -> str:
        promql = f"{function}({metric}[{windows * window_seconds}s])"
        return f"sum {of(*more)}({promql} and on(namespace,pod){LIVE})"

    def mean(total: str, count: str, windows: int) -> str:
        # Without any, the answer has no series: `0 / 0` would be NaN.
        return f"{over('rate', total, windows=windows)}/({over('rate', count, windows=windows)}>0)"

    def mean_of(histogram: str, windows: int = MIX_WINDOWS) -> str:
        return mean(f"{histogram}_sum", f"{histogram}_count", windows)

    def spans(function: str, count: str) -> str:
        # A subquery, since what varies is the sum over the pods: a replica more or less shifts each pod's own share.
        # Where a span does not hold two scrapes the next longer one stands in, so that it is known wherever a rate is.
        span = window_seconds // SPANS_PER_WINDOW
        counts = f"(increase({count}[{span}s])or increase({count}[{2 * span}s])/2)and on(namespace,pod){LIVE}"
        past, step = MIX_WINDOWS * window_seconds, max(span // 2, 1)
        # A subquery looks back where no pod is live any more, and would keep the deployment in the answer.
        return f"{function}_over_time(sum {of()}({counts})[{past}s:{step}s])and on(namespace,deployment){LIVE}"

    prompts, tpot = "vllm:request_prompt_tokens", "vllm:request_time_per_output_token_seconds"
    return {
        TrafficPart.FINISH_RATE: over("rate", "vllm:request_success_total"),
        TrafficPart.IN_SYSTEM_SLOPE: f"{over('deriv', LIVE)}+{over('deriv', 'vllm:num_requests_waiting')}",
        TrafficPart.SPAN_MEAN: spans("avg", f"{prompts}_count"),
        TrafficPart.SPAN_DEVIATION: spans("stddev", f"{prompts}_count"),
        TrafficPart.PROMPT_TOKENS: mean_of(prompts),
        TrafficPart.OUTPUT_TOKENS: mean_of("vllm:request_generation_tokens"),
        TrafficPart.PREFIX_HIT_RATIO: mean(
            "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total", MIX_WINDOWS
        ),
        TrafficPart.RUNNING: f"sum {of()}({LIVE})",
        TrafficPart.WAITING: f"sum {of()}(vllm:num_requests_waiting)",
        TrafficPart.KV_USAGE: f"max {of()}(vllm:kv_cache_usage_perc)",
        TrafficPart.KV_CAPACITY: f"group {of('kv_cache_size_tokens', 'num_gpu_blocks', 'block_size')}"
        "(vllm:cache_config_info)",
        TrafficPart.TTFT: over("increase", f"vllm:time_to_first_token_seconds_bucket{ttft_edges}", "le"),
        TrafficPart.TPOT: over("increase", f"{tpot}_bucket{tpot_edges}", "le"),
        TrafficPart.TPOT_SECONDS: mean_of(tpot, windows=1),
        TrafficPart.PODS_REPORTING: f"count {of()}(count {of('pod')}({LIVE}))",
        TrafficPart.SAMPLED_AT: f"min {of()}(timestamp({LIVE}))",
        TrafficPart.METRIC_PODS: metric_pods(TRAFFIC_SOURCES.values()),
    }


def traffic_query(window_seconds: int = DEFAULT_WINDOW_SECONDS, limits: Iterable[LatencyLimits] = ()) -> str:
    """The query. `window_seconds` is the past that requests are counted over: at least four scrape intervals.

    `limits` are those of the deployments that are decided on: `read_traffic` counts attainment at their edges.
    Finish rate and slope look at the same window, so that their sum is the mean arrival rate in it.
    Raises ValueError for a window that no two scrapes can lie in.
    """
    check_window(window_seconds)
    return marked(traffic_parts(window_seconds, limits))


def _edges(edges: Sequence[float], limits: Iterable[float | None]) -> str:
    """The matcher of the infinite bucket, which counts all requests, and of the edge that each limit is counted at."""
    # Of a limit below the lowest edge that one is asked for, so that the reader can say so.
    wanted = {max((e for e in edges if e <= keeps(limit)), default=edges[0]) for limit in limits if limit is not None}
    # Prometheus 2 writes le="1.0", Prometheus 3 le="1".
    written = [f"{edge:g}".replace(".", "[.]") + ("([.]0)?" if edge.is_integer() else "") for edge in sorted(wanted)]
    return f'{{le=~"{"|".join(("[+]Inf", *written))}"}}'


def keeps(limit_seconds: float) -> float:
    """The highest edge that a limit allows. 0.05 s is 50 ms / 1000: what that rounds to must still meet 0.05."""
    return limit_seconds * (1 + 1e-9)
