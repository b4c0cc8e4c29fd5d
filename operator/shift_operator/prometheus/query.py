"""The one instant query that asks for every signal of every deployment of the cluster.

Each part below is an expression whose result has the labels namespace and deployment and perhaps some of its own; the
query joins them with `or`, each marked by a label `signal`, since `or` keeps a series only when its labels are new.
The number of queries is one, whatever the number of deployments.

Only live pods count. A pod's live series is `shift_max_batched_tokens`, a gauge that each engine has from its start;
when a scrape fails or the target goes, Prometheus marks it stale and instant vectors lose it at once. Ranges ignore
that mark: for a whole window `increase` still shows the steps of a pod that is gone, hence `and on (pod)` behind it.
`increase` comes before `sum`: the sum of counters falls when one pod restarts, and would read as a reset of them all.
A pod's first sample has no increase yet; its steps count from its second.
"""

from collections.abc import Mapping
from enum import StrEnum

DEFAULT_WINDOW_SECONDS = 120
"""Eight scrapes at 15 s. `increase` needs two samples, and one failed scrape must not blank the window."""

MAX_LENGTH = 4096
"""Bytes of the query. It travels in a URL, of which proxies commonly take 8 kB and percent-encoding eats a part."""

LIVE = "shift_max_batched_tokens"


class Part(StrEnum):
    """The value of the label `signal` in the answer."""

    STEP_SIZES = "step_sizes"  # per le: steps of at most le tokens in the window
    STEPS = "steps"  # per sequence, tensor: steps in the window
    STEP_TIME = "step_time"  # per sequence, tensor, tokens: seconds
    MAX_BATCHED_TOKENS = "max_batched_tokens"
    PODS_REPORTING = "pods_reporting"
    SAMPLED_AT = "sampled_at"  # when the longest unseen of the live pods was scraped, seconds since the epoch
    THRESHOLD_LOW = "threshold_low"
    THRESHOLD_HIGH = "threshold_high"
    GENERATION_LOW = "generation_low"
    GENERATION_HIGH = "generation_high"
    RUNNING = "running"
    WAITING = "waiting"


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
        Part.PODS_REPORTING: f"count {of()}(count {of('pod')}({LIVE}))",
        Part.SAMPLED_AT: f"min {of()}(timestamp({LIVE}))",
        Part.THRESHOLD_LOW: f"min {of()}(shift_threshold_tokens)",
        Part.THRESHOLD_HIGH: f"max {of()}(shift_threshold_tokens)",
        Part.GENERATION_LOW: f"min {of()}(shift_schedule_generation)",
        Part.GENERATION_HIGH: f"max {of()}(shift_schedule_generation)",
        Part.RUNNING: f"sum {of()}(vllm:num_requests_running)",
        Part.WAITING: f"sum {of()}(vllm:num_requests_waiting)",
    }


def cluster_query(window_seconds: int = DEFAULT_WINDOW_SECONDS) -> str:
    """The query. `window_seconds` is the past that step counts are taken over: at least four scrape intervals.

    Raises ValueError for a window that no two scrapes can lie in.
    """
    if window_seconds < 4:
        raise ValueError(
            f"a window of {window_seconds} s is too short: give at least four scrape intervals, so 4 s or more"
        )
    return " or ".join(
        f'label_replace({promql},"signal","{part}","","")' for part, promql in parts(window_seconds).items()
    )
