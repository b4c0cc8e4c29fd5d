"""The contract query in Prometheus's own engine: pods per series, with and without the labels that are needed."""

from collections.abc import Callable, Mapping

from shift_operator.prometheus.contract import contract_query

Evaluates = Callable[[Mapping[str, str], str, str, Mapping[str, float]], None]

POD_0 = 'namespace="prod",deployment="chat",pod="chat-0"'
POD_1 = 'namespace="prod",deployment="chat",pod="chat-1"'
SMALL, LARGE = 'sequence="1",tensor="2"', 'sequence="2",tensor="1"'


def test_pods_are_counted_by_series_and_by_series_with_their_labels(evaluates: Evaluates) -> None:
    series = {
        f"shift_max_batched_tokens{{{POD_0}}}": "2048x8",
        f"shift_max_batched_tokens{{{POD_1}}}": "2048x4 _x4",
        f"shift_steps_total{{{POD_0},{SMALL}}}": "1x8",
        f"shift_steps_total{{{POD_0},{LARGE}}}": "1x8",
        f'shift_steps_total{{{POD_1},sequence="1"}}': "1x8",
        f'vllm:num_requests_running{{{POD_0},engine="0"}}': "1x8",
        f'vllm:num_requests_running{{{POD_0},engine="1"}}': "1x8",
        f"vllm:kv_cache_usage_perc{{{POD_1}}}": "0.1x6 stale",
        'vllm:num_requests_waiting{instance="10.0.0.7:8000"}': "1x8",
        f'shift_batched_tokens_bucket{{{POD_0},{SMALL},le="8"}}': "1x8",
        f'shift_batched_tokens_bucket{{{POD_0},{SMALL},le="+Inf"}}': "1x8",
        f"shift_batched_tokens_bucket{{{POD_1},{SMALL}}}": "1x8",
        f"other{{{POD_0}}}": "1x8",
    }

    def found(metric: str, signal: str) -> str:
        return f'{metric}{{namespace="prod",deployment="chat",signal="{signal}"}}'

    expected = {
        found("shift_max_batched_tokens", "pods"): 2.0,
        found("shift_max_batched_tokens", "labelled"): 2.0,
        found("shift_steps_total", "pods"): 2.0,
        found("shift_steps_total", "labelled_sequence_tensor"): 1.0,
        found("shift_batched_tokens_bucket", "pods"): 2.0,
        found("shift_batched_tokens_bucket", "labelled_sequence_tensor_le"): 1.0,
        found("vllm:num_requests_running", "pods"): 1.0,
        found("vllm:num_requests_running", "labelled"): 1.0,
        'vllm:num_requests_waiting{signal="pods"}': 1.0,
        found("", "steps_sampled_at"): 60.0,
        found("", "traffic_sampled_at"): 120.0,
    }
    evaluates(series, contract_query(), "2m", expected)
