"""The query's parts in Prometheus's own engine: what counts, and what must not, when pods and scrapes come and go.

Scrapes are 15 s apart, at 0 s, 15 s and so on; a window is 60 s, which is five samples.
"""

from collections.abc import Callable, Mapping

from shift_operator.prometheus.query import Part, cluster_query, parts

Evaluates = Callable[[Mapping[str, str], str, str, Mapping[str, float]], None]

PROMQL = parts(window_seconds=60)
POD_0 = 'namespace="prod",deployment="chat",pod="chat-0"'
POD_1 = 'namespace="prod",deployment="chat",pod="chat-1"'
LIVE_0, LIVE_1 = f"shift_max_batched_tokens{{{POD_0}}}", f"shift_max_batched_tokens{{{POD_1}}}"
SMALL = 'sequence="1",tensor="2"'
STEPS_0, STEPS_1 = f"shift_steps_total{{{POD_0},{SMALL}}}", f"shift_steps_total{{{POD_1},{SMALL}}}"
ANSWER = f'{{namespace="prod",deployment="chat",{SMALL}}}'
DEPLOYMENT = '{namespace="prod",deployment="chat"}'


def test_steps_are_summed_over_pods(evaluates: Evaluates) -> None:
    series = {LIVE_0: "2048x8", LIVE_1: "2048x8", STEPS_0: "0+150x8", STEPS_1: "0+300x8"}
    evaluates(series, PROMQL[Part.STEPS], "2m", {ANSWER: 600 + 1200})


def test_an_idle_deployment_has_zero_steps_and_not_none(evaluates: Evaluates) -> None:
    evaluates({LIVE_0: "2048x8", STEPS_0: "70x8"}, PROMQL[Part.STEPS], "2m", {ANSWER: 0})


def test_a_restarted_pod_counts_from_zero_again(evaluates: Evaluates) -> None:
    """The reset loses the steps between the last sample and the restart, and adds none."""
    series = {LIVE_0: "2048x8", STEPS_0: "10000+150x5 0+150x2"}
    # In (1m, 2m]: 10750, then 0, 150, 300 (samples at 75, 90, 105, 120 s): 300 more, extrapolated from 45 to 60 s.
    evaluates(series, PROMQL[Part.STEPS], "2m", {ANSWER: 300 / 45 * 60})


def test_a_reset_of_one_pod_does_not_swallow_the_steps_of_another(evaluates: Evaluates) -> None:
    series = {LIVE_0: "2048x8", LIVE_1: "2048x8", STEPS_0: "10000+150x5 0+150x2", STEPS_1: "0+150x8"}
    evaluates(series, PROMQL[Part.STEPS], "2m", {ANSWER: 300 / 45 * 60 + 600})


def test_a_deleted_pod_counts_no_more_at_once(evaluates: Evaluates) -> None:
    """Its counters are in the window still; its gauges went with the mark that its target's end leaves."""
    series = {LIVE_0: "2048x8", LIVE_1: "2048x6 stale", STEPS_0: "0+150x8", STEPS_1: "0+300x6 stale"}
    evaluates(series, PROMQL[Part.STEPS], "2m", {ANSWER: 600})
    evaluates(series, PROMQL[Part.PODS_REPORTING], "2m", {DEPLOYMENT: 1})


def test_a_new_pod_reports_with_its_first_sample_and_counts_with_its_second(evaluates: Evaluates) -> None:
    series = {LIVE_0: "2048x9", LIVE_1: "_x8 2048x1", STEPS_0: "0+150x9", STEPS_1: "_x8 5000 5300"}
    evaluates(series, PROMQL[Part.PODS_REPORTING], "2m", {DEPLOYMENT: 2})
    evaluates(series, PROMQL[Part.STEPS], "2m", {ANSWER: 600})
    # A quarter of the window was seen of it; Prometheus stretches that by half an interval into what was not.
    evaluates(series, PROMQL[Part.STEPS], "2m15s", {ANSWER: 600 + 300 * 1.5})


def test_one_failed_scrape_within_the_window_does_not_change_the_steps(evaluates: Evaluates) -> None:
    series = {LIVE_0: "2048x5 stale 2048x3", STEPS_0: "0+150x5 stale 1050+150x3"}
    evaluates(series, PROMQL[Part.STEPS], "2m", {ANSWER: 600})


def test_a_pod_whose_last_scrape_failed_does_not_report(evaluates: Evaluates) -> None:
    series = {LIVE_0: "2048x8", LIVE_1: "2048x7 stale"}
    evaluates(series, PROMQL[Part.PODS_REPORTING], "2m", {DEPLOYMENT: 1})


def test_a_target_that_goes_without_a_mark_shows_by_the_age_of_its_sample(evaluates: Evaluates) -> None:
    """Prometheus was restarted, say: for five minutes the value is still answered, as if it were new."""
    series = {LIVE_0: "2048x20", LIVE_1: "2048x8"}
    evaluates(series, PROMQL[Part.PODS_REPORTING], "4m", {DEPLOYMENT: 2})
    evaluates(series, PROMQL[Part.SAMPLED_AT], "4m", {DEPLOYMENT: 120})


def test_one_name_in_two_namespaces_is_two_deployments(evaluates: Evaluates) -> None:
    series = {
        LIVE_0: "2048x8",
        STEPS_0: "0+150x8",
        LIVE_0.replace("prod", "dev"): "4096x8",
        STEPS_0.replace("prod", "dev"): "0+15x8",
    }
    evaluates(series, PROMQL[Part.STEPS], "2m", {ANSWER: 600, ANSWER.replace("prod", "dev"): 60})
    both = {DEPLOYMENT: 2048, DEPLOYMENT.replace("prod", "dev"): 4096}
    evaluates(series, PROMQL[Part.MAX_BATCHED_TOKENS], "2m", both)


def test_the_pods_that_have_a_metric_are_counted(evaluates: Evaluates) -> None:
    """Pod 1 is of another version: it has one degree's steps and no histogram."""
    series = {LIVE_0: "2048x8", LIVE_1: "2048x8", STEPS_0: "0+150x8", STEPS_0.replace('"2"', '"4"'): "0x8"}
    series |= {STEPS_1: "0+150x8"}
    series |= {f'shift_batched_tokens_bucket{{{POD_0},{SMALL},le="{le}"}}': "1x8" for le in ("8", "+Inf")}
    expected = {"shift_max_batched_tokens": 2.0, "shift_steps_total": 2.0, "shift_batched_tokens_bucket": 1.0}
    counted = {f"{metric}{DEPLOYMENT}": pods for metric, pods in expected.items()}
    evaluates(series, PROMQL[Part.METRIC_PODS], "2m", counted)


def test_step_sizes_are_pooled_over_degrees_and_pods(evaluates: Evaluates) -> None:
    def bucket(pod: str, degree: str, le: str) -> str:
        return f'shift_batched_tokens_bucket{{{pod},{degree},le="{le}"}}'

    large = 'sequence="2",tensor="1"'
    series = {
        LIVE_0: "2048x8",
        LIVE_1: "2048x8",
        bucket(POD_0, SMALL, "8"): "0+15x8",
        bucket(POD_0, SMALL, "+Inf"): "0+15x8",
        bucket(POD_0, large, "8"): "0x8",
        bucket(POD_0, large, "+Inf"): "0+30x8",
        bucket(POD_1, SMALL, "8"): "0+15x8",
        bucket(POD_1, SMALL, "+Inf"): "0+15x8",
    }
    expected = {
        '{namespace="prod",deployment="chat",le="8"}': 120,
        '{namespace="prod",deployment="chat",le="+Inf"}': 240,
    }
    evaluates(series, PROMQL[Part.STEP_SIZES], "2m", expected)


def test_curves_are_the_mean_over_pods_by_degree_and_size(evaluates: Evaluates) -> None:
    def point(pod: str, degree: str, tokens: int) -> str:
        return f'shift_step_time_seconds{{{pod},{degree},tokens="{tokens}"}}'

    series = {
        point(POD_0, SMALL, 8): "0.004x8",
        point(POD_1, SMALL, 8): "0.006x8",
        point(POD_0, SMALL, 64): "0.01x8",
        point(POD_1, SMALL, 64): "0.01x8",
    }
    expected = {
        f'{{namespace="prod",deployment="chat",{SMALL},tokens="8"}}': 0.005,
        f'{{namespace="prod",deployment="chat",{SMALL},tokens="64"}}': 0.01,
    }
    evaluates(series, PROMQL[Part.STEP_TIME], "2m", expected)


def test_the_whole_query_marks_each_part_and_keeps_what_there_is(evaluates: Evaluates) -> None:
    """Parts without series take nothing from the others."""
    series = {
        LIVE_0: "2048x8",
        LIVE_1: "1024x8",
        f"shift_threshold_tokens{{{POD_0}}}": "512x8",
        f"shift_threshold_tokens{{{POD_1}}}": "256x8",
        f'vllm:num_requests_running{{{POD_0},engine="0"}}': "3x8",
        f'vllm:num_requests_running{{{POD_1},engine="0"}}': "4x8",
    }
    expected = {
        Part.MAX_BATCHED_TOKENS: 1024,
        Part.PODS_REPORTING: 2,
        Part.SAMPLED_AT: 120,
        Part.THRESHOLD_LOW: 256,
        Part.THRESHOLD_HIGH: 512,
        Part.RUNNING: 7,
    }
    marked = {
        f'{{namespace="prod",deployment="chat",signal="{part}"}}': float(value) for part, value in expected.items()
    } | {
        f'{metric}{{namespace="prod",deployment="chat",signal="metric_pods"}}': 2.0
        for metric in ("shift_max_batched_tokens", "shift_threshold_tokens", "vllm:num_requests_running")
    }
    evaluates(series, cluster_query(60), "2m", marked)
