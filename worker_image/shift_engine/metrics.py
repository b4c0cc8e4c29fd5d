"""The engine's metrics (docs/contract.md section 4), collected from the last answer of rank 0."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from . import __version__
from .degree import Degree, DegreeReport, DegreeState
from .steps import TOKEN_BUCKETS
from .watcher import FileReport, FileState


class EngineView(Protocol):
    """What the metrics are made of; the endpoint's state has it."""

    model: str
    vllm_version: str
    max_tokens: int
    max_sequences: int
    stats: dict[str, Any]  # rank 0's last `shift_stats`
    ranks: list[dict[str, int]]  # each rank's last confirmation

    @property
    def degree(self) -> Degree: ...
    @property
    def degrees(self) -> Mapping[Degree, DegreeReport]: ...
    @property
    def file(self) -> FileReport: ...


class ShiftCollector:
    """A collector of prometheus_client: asked at each scrape, it never waits for the engine."""

    def __init__(self, view: EngineView) -> None:
        self._view = view

    def describe(self) -> list[Metric]:
        """Nothing to check for duplicates at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, the same ones at every scrape."""
        yield from self._steps()
        yield from self._curves()
        yield self._loaded()
        yield self._weights()
        yield from self._schedule()
        view = self._view
        info = _gauge("shift_info", "What runs", ["version", "vllm", "gpus", "sequence", "tensor"])
        degree = view.degree
        info.add_metric(
            [view.model, __version__, view.vllm_version, str(degree.gpus), str(degree.sequence), str(degree.tensor)], 1
        )
        yield info

    def _steps(self) -> Iterator[Metric]:
        labels = ["sequence", "tensor"]
        steps = _counter("shift_steps", "Engine steps run at this degree", labels)
        seconds = _counter("shift_step_seconds", "Seconds spent in the steps of this degree", labels)
        tokens = HistogramMetricFamily(
            "shift_batched_tokens", "Tokens per engine step, before padding", labels=["model_name", *labels]
        )
        stats = self._view.stats
        # Every degree that is loaded from its first scrape on, so that a rate has a zero to start from.
        loaded = [str(each.degree) for each in self._view.degrees.values() if each.state is DegreeState.LOADED]
        for text in dict.fromkeys((*loaded, *stats["degrees"])):
            totals = stats["degrees"].get(text)
            at = [self._view.model, *text.split("x")]
            steps.add_metric(at, totals["steps"] if totals else 0)
            seconds.add_metric(at, totals["seconds"] if totals else 0.0)
            counts = totals["buckets"] if totals else [0] * (len(TOKEN_BUCKETS) + 1)
            tokens.add_metric(at, _cumulative(counts), sum_value=totals["tokens"] if totals else 0)
        yield from (steps, tokens, seconds)
        yield self._count("shift_transitions", "Steps whose degree differed from the step before", stats["transitions"])
        yield self._count("shift_pad_tokens", "Rows of padding computed", stats["padTokens"])
        yield self._by_reason(
            "shift_fallback_steps",
            "Steps that ran 1 x P although the schedule named another degree",
            stats["fallbacks"],
        )

    def _curves(self) -> Iterator[Metric]:
        curve = _gauge(
            "shift_step_time_seconds", "Seconds of a step of so many tokens", ["sequence", "tensor", "tokens"]
        )
        calibration = self._view.stats["calibration"]
        for text, points in calibration["curves"].items():
            for tokens, value in zip(calibration["sizes"], points, strict=True):
                curve.add_metric([self._view.model, *text.split("x"), str(tokens)], value)
        yield curve

    def _loaded(self) -> Metric:
        family = _gauge("shift_degree_loaded", "1 where steps can run at this degree", ["sequence", "tensor"])
        for degree, report in self._view.degrees.items():
            at = [self._view.model, str(degree.sequence), str(degree.tensor)]
            family.add_metric(at, float(report.state is DegreeState.LOADED))
        return family

    def _weights(self) -> Metric:
        family = _gauge("shift_weight_bytes", "Bytes of the overlays' weights on rank 0", ["kind"])
        weights = self._view.stats["weights"]
        for kind, count in (("shared", weights["sharedBytes"]), ("copied", weights["copiedBytes"])):
            family.add_metric([self._view.model, kind], count)
        return family

    def _schedule(self) -> Iterator[Metric]:
        view = self._view
        confirmed = [rank["generation"] for rank in view.ranks]
        newest = view.file.generation or 0
        yield self._value("shift_threshold_tokens", "Larger steps run at the next range", view.stats["thresholdTokens"])
        yield self._value("shift_max_batched_tokens", "vLLM's max_num_batched_tokens", view.max_tokens)
        yield self._value("shift_max_sequences", "vLLM's max_num_seqs", view.max_sequences)
        yield self._value("shift_schedule_generation", "The lowest generation of any rank", min(confirmed, default=0))
        yield self._value(
            "shift_schedule_ranks_confirmed",
            "Ranks that run the newest generation read",
            sum(generation == newest for generation in confirmed),
        )
        yield self._value(
            "shift_schedule_file_valid", "0 while the file is invalid", float(view.file.state is not FileState.INVALID)
        )
        yield self._by_reason("shift_schedule_errors", "Schedule files refused or not applied", view.file.errors)

    def _value(self, name: str, text: str, value: float) -> Metric:
        family = _gauge(name, text, [])
        family.add_metric([self._view.model], value)
        return family

    def _count(self, name: str, text: str, value: float) -> Metric:
        family = _counter(name, text, [])
        family.add_metric([self._view.model], value)
        return family

    def _by_reason(self, name: str, text: str, counts: Mapping[Any, int]) -> Metric:
        family = _counter(name, text, ["reason"])
        for reason, count in counts.items():
            family.add_metric([self._view.model, str(reason)], count)
        return family


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["model_name", *labels])


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=["model_name", *labels])


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    """[count per bucket] -> [(upper bound, count up to it)], as Prometheus wants a histogram."""
    total, buckets = 0, []
    for bound, count in zip([*map(float, TOKEN_BUCKETS), float("inf")], counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return buckets
