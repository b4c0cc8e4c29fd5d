"""The contract self-test: whether Prometheus has each series that the laws need, of every pod, fresh, with its labels.

`read_signals` and `read_traffic` say of one deployment what they could not read. This says why, for a person who sets
up scraping: which series are missing, on how many pods, and which label nobody gives them. It decides nothing.

A series is asked for twice: by its name alone, and with the labels that the queries group and join by. What exists only
in the first answer lacks a label; what is there without the label `deployment` belongs to nobody, and is counted.
All series of a pod come with one scrape, so the age of its live series is the age of each.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from shift_operator.api.signals import DeploymentKey, Unknown, UnknownWhy
from shift_operator.prometheus import query, traffic_query
from shift_operator.prometheus.client import QueryResult
from shift_operator.prometheus.query import marked, metric_pods
from shift_operator.prometheus.reading import warning_in


class Series(NamedTuple):
    """A metric as exposed, and the labels of its own that a query groups by."""

    metric: str
    labels: tuple[str, ...] = ()


DEGREE = ("sequence", "tensor")

STEP_SERIES = (
    Series(query.LIVE),
    Series("shift_max_sequences"),
    Series("shift_threshold_tokens"),
    Series("shift_schedule_generation"),
    Series("shift_steps_total", DEGREE),
    Series("shift_batched_tokens_bucket", (*DEGREE, "le")),
    Series("shift_step_time_seconds", (*DEGREE, "tokens")),
)
"""What `cluster_query` reads of the shift engine: all for the threshold, the sequences for the replicas."""

TRAFFIC_SERIES = (
    Series(traffic_query.LIVE),
    Series("vllm:num_requests_waiting"),
    Series("vllm:request_success_total"),
    Series("vllm:request_prompt_tokens_sum"),
    Series("vllm:request_prompt_tokens_count"),
    Series("vllm:request_generation_tokens_sum"),
    Series("vllm:request_generation_tokens_count"),
    Series("vllm:prefix_cache_hits_total"),
    Series("vllm:prefix_cache_queries_total"),
    Series("vllm:kv_cache_usage_perc"),
    Series("vllm:cache_config_info", ("block_size",)),
    Series("vllm:time_to_first_token_seconds_bucket", ("le",)),
    Series("vllm:request_time_per_output_token_seconds_bucket", ("le",)),
    Series("vllm:request_time_per_output_token_seconds_sum"),
    Series("vllm:request_time_per_output_token_seconds_count"),
)
"""What `traffic_query` reads of vLLM: the laws on replicas and degree need it besides."""

RELABEL = "relabel the pods' series as docs/contract.md section 4 says"


class _Part(StrEnum):
    PODS = "pods"  # per metric: pods that have it
    LABELLED = "labelled"  # per metric: pods that have it with its labels; followed by which labels those are
    STEPS_SAMPLED_AT = "steps_sampled_at"
    TRAFFIC_SAMPLED_AT = "traffic_sampled_at"


_SAMPLED_AT = ((STEP_SERIES, _Part.STEPS_SAMPLED_AT), (TRAFFIC_SERIES, _Part.TRAFFIC_SAMPLED_AT))


@dataclass(frozen=True, slots=True)
class Expected:
    """What Prometheus should have of a deployment: the series of `pods` pods, which are those that are ready."""

    pods: int
    steps: bool = True
    traffic: bool = True


def contract_query() -> str:
    """The query, for all deployments of the cluster. Read by `read_contract`."""
    own = "namespace,deployment"
    every = STEP_SERIES + TRAFFIC_SERIES

    def labels_of(series: Series) -> tuple[str, ...]:
        return series.labels

    # Each group has a mark of its own: `or` compares all labels but the name, and would drop the second group's series.
    labelled = {
        "_".join((_Part.LABELLED, *labels)): metric_pods(
            (series.metric for series in alike), "".join(f',{label}!=""' for label in ("pod", *labels))
        )
        for labels, alike in groupby(sorted(every, key=labels_of), key=labels_of)
    }
    return marked(
        {
            _Part.PODS: metric_pods(series.metric for series in every),
            **labelled,
            _Part.STEPS_SAMPLED_AT: f"min by({own})(timestamp({query.LIVE}))",
            _Part.TRAFFIC_SAMPLED_AT: f"min by({own})(timestamp({traffic_query.LIVE}))",
        }
    )


def read_contract(
    result: QueryResult, expected: Mapping[DeploymentKey, Expected], *, max_age_seconds: float
) -> dict[DeploymentKey, tuple[Unknown, ...]]:
    """What is wrong with the series of each deployment in `expected`, from the answer to `contract_query`.

    An empty tuple where the contract holds. Each Unknown names a metric in `source`: Absent, Partial (fewer pods have
    it than are ready), or Stale (scraped more than `max_age_seconds` before the query). Nothing is wrong with a
    deployment of 0 ready pods. Where the answer came with warnings it may lack series, so nothing is said but that.
    """
    warning = warning_in(result)
    if warning is not None:
        of_all = (Unknown(UnknownWhy.PARTIAL, "Prometheus", warning),)
        return {key: of_all if of.pods else () for key, of in expected.items()}
    found: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for sample in result.samples:
        labels = sample.labels
        part = labels.get("signal", "")
        part = _Part.LABELLED if part.startswith(_Part.LABELLED) else part
        owner = (labels.get("namespace", ""), labels.get("deployment", ""), part)
        found[owner][labels.get("__name__", "")] = sample.value
    nobodys = {
        metric
        for (namespace, deployment, part), metrics in found.items()
        if part == _Part.PODS and not (namespace and deployment)
        for metric in metrics
    }

    def faults(key: DeploymentKey, of: Expected) -> Iterable[Unknown]:
        def values(part: _Part) -> Mapping[str, float]:
            return found.get((*key, part), {})

        for series_of, sampled_at in _SAMPLED_AT:
            if not (of.traffic if series_of is TRAFFIC_SERIES else of.steps):
                continue
            wrong = [
                unknown
                for series in series_of
                if (unknown := _fault(series, of.pods, values(_Part.PODS), values(_Part.LABELLED), nobodys))
            ]
            yield from wrong
            age = max((result.at - at for at in values(sampled_at).values()), default=0.0)
            if age > max_age_seconds:
                detail = f"{age:.0f} s old, at most {max_age_seconds:.0f} s allowed"
                yield Unknown(UnknownWhy.STALE, series_of[0].metric, detail)

    return {key: tuple(faults(key, of)) if of.pods else () for key, of in expected.items()}


def contract_sentence(faults: Mapping[DeploymentKey, Iterable[Unknown]]) -> str | None:
    """The metrics that are wrong, each once with what is wrong and of how many deployments; None where nothing is."""
    owners: dict[Unknown, list[DeploymentKey]] = defaultdict(list)
    for key, unknowns in faults.items():
        for unknown in unknowns:
            owners[unknown].append(key)
    if not owners:
        return None
    return "; ".join(
        f"{unknown}, of {min(keys)}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
        for unknown, keys in owners.items()
    )


def _fault(
    series: Series, ready: int, pods: Mapping[str, float], labelled: Mapping[str, float], nobodys: set[str]
) -> Unknown | None:
    have, whole = pods.get(series.metric, 0.0), labelled.get(series.metric, 0.0)
    if whole >= ready:
        return None
    if not have:
        detail = f"only series without the labels namespace and deployment; {RELABEL}"
        return Unknown(UnknownWhy.ABSENT, series.metric, detail if series.metric in nobodys else "")
    if not whole:
        labels = ", ".join(("pod", *series.labels))
        own = f"only series without all of its labels, {labels}; {RELABEL}, and drop none of the engine's"
        return Unknown(UnknownWhy.ABSENT, series.metric, own)
    return Unknown(UnknownWhy.PARTIAL, series.metric, f"{whole:.0f} of {ready} ready pods have it")
