"""The instant query that asks for the `Signals` of every deployment of the cluster: steps, curves, schedule.

What is asked of the deployments and how well they answer is `traffic_query`'s; both are asked as of one moment.

Each part below is an expression whose result has the labels namespace and deployment and perhaps some of its own; the
query joins them with `or`, each marked by a label `signal`, since `or` keeps a series only when its labels are new.
The query is one, whatever the number of deployments.

Only live pods count. A pod's live series is `shift_max_batched_tokens`, a gauge that each engine has from its start;
when a scrape fails or the target goes, Prometheus marks it stale and instant vectors lose it at once. Ranges ignore
that mark: for a whole window `increase` still shows the steps of a pod that is gone, hence `and on (pod)` behind it.
`increase` comes before `sum`: the sum of counters falls when one pod restarts, and would read as a reset of them all.
A pod's first sample has no increase yet; its steps count from its second.

A pod that lacks a metric which others have, of another engine version say, would be left out of a sum in silence: hence
the last part, which counts the pods that have each.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from shift_operator.api.signals import SOURCES

DEFAULT_WINDOW_SECONDS = 120
"""Eight scrapes at 15 s. `increase` needs two samples, and one failed scrape must not blank the window."""

MAX_LENGTH = 6144
"""Bytes of a query, percent-encoded. It travels in a request line, of which proxies commonly take 8 kB: nginx and
Apache by default. The rest is for the path, which may be long behind a gateway."""

LIVE = "shift_max_batched_tokens"


class Part(StrEnum):
    """The value of the label `signal` in the answer."""

    STEP_SIZES = "step_sizes"  # per le: steps of at most le tokens in the window
    STEPS = "steps"  # per sequence, tensor: steps in the window
    STEP_TIME = "step_time"  # per sequence, tensor, tokens: seconds
    MAX_BATCHED_TOKENS = "max_batched_tokens"
    MAX_SEQUENCES = "max_sequences"
    PODS_REPORTING = "pods_reporting"
    SAMPLED_AT = "sampled_at"  # when the longest unseen of the live pods was scraped, seconds since the epoch
    THRESHOLD_LOW = "threshold_low"
    THRESHOLD_HIGH = "threshold_high"
    GENERATION_LOW = "generation_low"
    GENERATION_HIGH = "generation_high"
    RUNNING = "running"
    WAITING = "waiting"
    METRIC_PODS = "metric_pods"  # per __name__: live pods that have the metric


def parts(window_seconds: int = DEFAULT_WINDOW_SECONDS) -> Mapping[Part, str]:
    """PromQL of each part, unmarked."""

    def of(*more: str) -> str:
        return f"by({','.join(('namespace', 'deployment', *more))})"

    def live_increase(metric: str) -> str:
        return f"(increase({metric}[{window_seconds}s])and on(namespace,deployment,pod){LIVE})"

    return {
        Part.STEP_SIZES: f"sum {of('le')}{live_increase('shift_batched_tokens_bucket')}",
        Part.STEPS: f"sum {of('sequence', 'tensor')}{live_increase('shift_steps_total')}",
        Part.STEP_TIME: f"avg {of('sequence', 'tensor', 'tokens')}(shift_step_time_seconds)",
        Part.MAX_BATCHED_TOKENS: f"min {of()}({LIVE})",
        Part.MAX_SEQUENCES: f"min {of()}(shift_max_sequences)",
        Part.PODS_REPORTING: f"count {of()}(count {of('pod')}({LIVE}))",
        Part.SAMPLED_AT: f"min {of()}(timestamp({LIVE}))",
        Part.THRESHOLD_LOW: f"min {of()}(shift_threshold_tokens)",
        Part.THRESHOLD_HIGH: f"max {of()}(shift_threshold_tokens)",
        Part.GENERATION_LOW: f"min {of()}(shift_schedule_generation)",
        Part.GENERATION_HIGH: f"max {of()}(shift_schedule_generation)",
        Part.RUNNING: f"sum {of()}(vllm:num_requests_running)",
        Part.WAITING: f"sum {of()}(vllm:num_requests_waiting)",
        Part.METRIC_PODS: metric_pods(SOURCES.values()),
    }


def cluster_query(window_seconds: int = DEFAULT_WINDOW_SECONDS) -> str:
    """The query. `window_seconds` is the past that step counts are taken over: at least four scrape intervals.

    Raises ValueError for a window that no two scrapes can lie in.
    """
    check_window(window_seconds)
    return marked(parts(window_seconds))


def metric_pods(metrics: Iterable[str], matchers: str = "") -> str:
    """PromQL of how many pods of each deployment have each of the metrics, by `__name__`.

    Of a histogram the last bucket is enough; where it has no `le`, that is the label missing.
    """
    selector = f'{{__name__=~"{"|".join(sorted(set(metrics)))}",le=~"[+]Inf|"{matchers}}}'
    return f"count by(namespace,deployment,__name__)(count by(namespace,deployment,pod,__name__)({selector}))"


def marked(promql_of: Mapping[Any, str]) -> str:
    """One expression of several: the series of each come with its key as the label `signal`."""
    return " or ".join(f'label_replace({promql},"signal","{part}","","")' for part, promql in promql_of.items())


def check_window(seconds: int) -> None:
    """Raises ValueError for a window that no two scrapes can lie in."""
    if seconds < 4:
        raise ValueError(f"a window of {seconds} s is too short: give at least four scrape intervals, so 4 s or more")
