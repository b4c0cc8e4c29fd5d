"""The worker of one rank: the platform's own vLLM worker, plus the overlays, the schedule and what they count.

Selected by `--worker-cls shift_engine.worker.ShiftWorker`. Methods named `shift_*` are called by `collective_rpc`,
which vLLM orders with the steps: a schedule arrives between the same two steps on every rank.
"""

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .calibration import calibrate, calibrate_further
from .capture_sizes import capture_sizes
from .clock import step_clock
from .compat import configuration, device, memory, random_state
from .compat.agreement import agree, first_of_ranks
from .compat.logits_rows import LogitsRows
from .compat.step_graphs import HOST, StepGraphs
from .config import ShiftConfig
from .curves import calibration_sizes
from .degree import Degree, DegreeState
from .degree_checks import Check, DegreeChecks
from .forward import ForwardSwitch
from .replica_degrees import ReplicaDegrees
from .schedule import Schedule
from .self_check import tolerance
from .shared_weights import distinct_bytes
from .steps import StepLedger
from .trial_steps import TrialSteps

logger = logging.getLogger("vllm.shift_engine.worker")

Base: Any = device.base_worker()


class ShiftWorker(Base):
    """One rank of a replica."""

    def load_model(self, **options: Any) -> None:
        """Load the host model as stock vLLM does, then the overlays beside it."""
        super().load_model(**options)
        config = ShiftConfig.from_vllm(self.vllm_config.additional_config)
        self._config = config
        self._full = Degree.full_tensor(self.parallel_config.tensor_parallel_size)
        self._captures = (
            self.use_v2_model_runner  # V1 captures pieces, never the whole of a step
            and not self.model_config.enforce_eager
            and config.graphs == "on"
        )
        # What the scheduler can fill; a dummy step of more has a request that is longer than its block table.
        self._largest_step = min(
            self.scheduler_config.max_num_batched_tokens,
            self.scheduler_config.max_num_seqs * self.model_config.max_model_len,
        )
        self._graphs_up_to: dict[Degree, int] = {}  # tokens of the largest step of a degree that replays one
        self._calibration_seconds = 0.0
        self._serving = False  # vLLM's warm-up calls execute_model too: those steps are the host's and not counted
        host = self.model_runner.get_model()
        self._switch = ForwardSwitch(host, self._full.gpus)
        self._clock = step_clock(self.device, device.current_stream)
        self._ledger = StepLedger(
            *(config.first_schedule, self._clock.seconds),
            max_tokens=self.scheduler_config.max_num_batched_tokens,
            probe_share=config.probe_share,
        )
        self._share_weights = config.share_weights
        self._degrees = ReplicaDegrees(
            *(self.vllm_config, host, self._switch),
            gpus=self._full.gpus,
            v2=self.use_v2_model_runner,
            share_weights=config.share_weights,
            kept_bytes=memory.kept_at_start(self),
        )
        self._trial = TrialSteps(self.model_runner, self._switch, self.synchronize_device, v2=self.use_v2_model_runner)
        self._checks = DegreeChecks(
            *(self._trial, self._full),
            rounding=tolerance(
                self.model_config.dtype,
                is_quantised=self.vllm_config.quant_config is not None,
                has_experts=self.model_config.is_moe,
            ),
            largest_step=self._largest_step,
            longest_prompt=self.model_config.max_model_len,
        )
        speculative = self.vllm_config.speculative_config
        self._rows_read = (
            None
            if self._degrees.problem
            else LogitsRows(self.model_runner, v2=self.use_v2_model_runner, speculative=speculative)
        )
        self._degrees.load_at_start(config.started_with)
        self._ledger.loaded = set(self._degrees.loaded)

    def compile_or_warm_up_model(self) -> Any:
        """Warm up as stock vLLM does; then capture each overlay, check it against the host, and time all degrees."""
        graphs = StepGraphs(self.model_runner, self._switch) if self.use_v2_model_runner else None
        times = super().compile_or_warm_up_model()
        for degree in self._degrees.loaded:
            self._prove(degree, graphs if self._captures else None)
        if graphs is not None and self._captures and self._degrees.loaded:
            self._capture_host(graphs)
        # Replicas agree on no times, so each would time another number of steps, and one wait for the others for ever.
        if self._config.calibration and not configuration.steps_wait_for_other_replicas(self.vllm_config):
            self._calibrate()
        self._weight_bytes = self._degrees.weight_bytes
        self._kv_cache_bytes = distinct_bytes(memory.kv_cache_tensors(self.model_runner))
        random_state.reset(self.vllm_config)
        self._serving = True
        return times

    def determine_available_memory(self) -> int:
        """As stock vLLM, but the profile run's peak covers the overlays' activations, and their graphs have room."""
        if self._degrees.loaded and self.use_v2_model_runner:
            memory.after_profile_run(self.model_runner, self._profile_overlays)
        available = int(super().determine_available_memory())
        self._degrees.step_bytes = max(self._degrees.step_bytes, memory.step_bytes(self))
        return available

    def execute_model(self, scheduler_output: Any) -> Any:
        """One engine step, at the degree that the schedule names for its number of batched tokens."""
        tokens = scheduler_output.total_num_scheduled_tokens
        if tokens == 0 or not self._serving:  # bookkeeping without a forward pass, or warm-up
            return super().execute_model(scheduler_output)
        self._switch.arm(self._ledger.wanted(tokens), self._rows_read)
        began = self._clock.now()
        output = super().execute_model(scheduler_output)
        self._ledger.ran(self._switch.disarm(), tokens, began, self._clock.now())
        return output

    def reload_weights(self, *args: Any, **options: Any) -> None:
        """The overlays' weights would stay behind, so they go."""
        self._degrees.close("the weights were reloaded while serving; restart the engine to have the overlay again")
        self._ledger.loaded = set()
        super().reload_weights(*args, **options)

    def shift_apply(self, document: dict[str, Any]) -> dict[str, int]:
        """RPC: run by this schedule, which the API process has judged, from the next step on. -> the confirmation."""
        self._ledger.schedule = Schedule.from_document(document)
        return self._confirmation()

    def shift_build(self, sequence: int) -> dict[str, Any]:
        """RPC, collective: load the overlay of `sequence` x P / `sequence` while serving, check and time it.
        -> the confirmation, and the degree's report.

        It never raises: an answer that is an error would leave the other ranks' answers unread in vLLM's queues.
        """
        degree = Degree(sequence, self._full.gpus // sequence)
        with random_state.unchanged():
            if self._degrees.build(degree).state is DegreeState.LOADED and degree not in self._ledger.loaded:
                self._prove(degree, graphs=None)  # it has none: its steps are launched kernel by kernel
        self._ledger.loaded = set(self._degrees.loaded)
        self._weight_bytes = self._degrees.weight_bytes
        return self._confirmation() | {"degree": self._degrees.report(degree).to_document()}

    def shift_stats(self) -> dict[str, Any]:
        """RPC: this rank's confirmation; from rank 0 also what it counted."""
        confirmation: dict[str, Any] = self._confirmation()
        if self.rank != 0:
            return confirmation
        ledger, degrees = self._ledger, self._degrees
        curves, weights, reason = ledger.curves, degrees.weights, self._overlay_reason
        return confirmation | {
            "schedule": ledger.schedule.to_document(),
            "thresholdTokens": ledger.schedule.threshold(ledger.max_tokens),
            "degree": str(self._large),
            "reports": [report.to_document() for report in degrees.reports],
            "overlay": {"active": reason is None, "reason": reason},
            "graphs": {str(each): self._graphs_up_to.get(each, 0) for each in sorted((self._full, *degrees.loaded))},
            "weights": {"sharedBytes": weights.shared, "copiedBytes": weights.copied},
            "memory": {"weightBytes": self._weight_bytes, "kvCacheBytes": self._kv_cache_bytes},
            "degrees": {str(degree): totals.to_document() for degree, totals in ledger.totals.items()},
            "transitions": ledger.transitions,
            "padTokens": ledger.pad_tokens,
            "fallbacks": {str(reason): count for reason, count in ledger.fallbacks.items()},
            "calibration": {
                "sizes": list(curves.sizes),
                "curves": {str(degree): list(curves.seconds(degree)) for degree in curves.calibrated},
                "crossoverTokens": curves.crossover(self._large),
                "tookSeconds": self._calibration_seconds,
            },
        }

    @property
    def _large(self) -> Degree:
        """The first degree of `--shift-degree` that is loaded; 1 x P where none is."""
        loaded = (self._full, *self._degrees.loaded)
        return next((degree for degree in self._config.started_with if degree in loaded), self._full)

    @property
    def _overlay_reason(self) -> str | None:
        """Why no overlay is there, or None where one is."""
        if self._degrees.loaded:
            return None
        reports = self._degrees.reports
        first = [self._degrees.report(degree).reason for degree in self._config.started_with]
        reasons = (*first, self._degrees.problem, *(report.reason for report in reports))
        asked_for = " and ".join(map(str, self._config.started_with))
        return next((reason for reason in reasons if reason), f"--shift-degree {asked_for} is full tensor parallelism")

    def _confirmation(self) -> dict[str, int]:
        return {"rank": self.rank, "generation": self._ledger.schedule.generation, "step": self._ledger.step}

    def _sizes(self, degree: Degree) -> tuple[int, ...]:
        return capture_sizes(degree.sequence, self._largest_step)

    def _host_sizes(self) -> tuple[int, ...]:
        """Of the host's steps with prefills that get whole graphs."""
        largest = configuration.largest_step_in_pieces(self.vllm_config)
        return () if largest is None else capture_sizes(1, min(largest, self._largest_step))

    def _profile_overlays(self, profile_run: Callable[[], None]) -> None:
        """Collective, while vLLM profiles memory: the peak of a step of each overlay, and room for graphs."""
        for degree in self._degrees.loaded:
            self._switch.arm(degree)
            try:
                profile_run()
            finally:
                self._switch.disarm()
        if self._captures:
            host = self._host_sizes()
            sizes = [size for degree in self._degrees.loaded for size in self._sizes(degree)]
            memory.reserve_for_graphs(
                self.model_runner,
                largest=max(sizes),
                graphs=len(sizes) + len(host),
                largest_of_host=max(host, default=0),
            )

    def _prove(self, degree: Degree, graphs: StepGraphs | None) -> None:
        """Collective. Capture the overlay, check it against the host and, while serving, time it. One that fails is
        dropped; the engine goes on without it."""
        capture = [] if graphs is None else [partial(self._capture, graphs, degree)]
        timing = [partial(self._calibrate_further, degree)] if self._serving and self._config.calibration else []
        problem = self._first_problem([*capture, *self._checks_of(degree), *timing])
        if problem is not None:
            self._degrees.drop(degree, problem)
            self._ledger.loaded = set(self._degrees.loaded)
            if graphs is not None:
                graphs.drop(degree)

    def _first_problem(self, attempts: Iterable[Check]) -> str | None:
        """Collective. Make them one after the other. -> what is wrong with the first that fails on some rank."""
        for attempt in attempts:
            try:
                problem = attempt()
            except Exception as error:
                logger.exception("an overlay or a graph does not run")
                problem = f"it does not run: {type(error).__name__}: {error}"
            if found := first_of_ranks(problem):
                return str(found)
        return None

    def _capture(self, graphs: StepGraphs, degree: Degree) -> None:
        """Collective."""
        sizes, began = self._sizes(degree), time.perf_counter()
        if problem := graphs.capture(degree, sizes):
            logger.info("overlay without CUDA graphs degree=%s reason=%s", degree, problem)
        else:
            self._graphs_up_to[degree] = sizes[-1]
            logger.info(
                "overlay captured degree=%s graphs=%d largest=%d seconds=%.1f",
                *(degree, len(sizes), sizes[-1], time.perf_counter() - began),
            )

    def _capture_host(self, graphs: StepGraphs) -> None:
        """Collective. Whole graphs of the host's steps with prefills, if they compute what stock vLLM's pieces do."""
        sizes, began = self._host_sizes(), time.perf_counter()
        if not sizes or graphs.problem:
            return
        checks = self._checks.of_whole_graphs(graphs.stock_host, sizes[-1])
        if problem := self._first_problem([partial(graphs.capture, HOST, sizes), *checks]):
            graphs.drop(HOST)
            logger.warning("steps with prefills as stock vLLM replays them degree=%s reason=%s", self._full, problem)
            return
        self._graphs_up_to[self._full] = sizes[-1]
        logger.info(
            "steps of %s with prefills captured graphs=%d largest=%d seconds=%.1f",
            *(self._full, len(sizes), sizes[-1], time.perf_counter() - began),
        )

    def _checks_of(self, degree: Degree) -> list[Check]:
        if self.load_config.load_format == "dummy" and not self._degrees.is_gathered(degree):
            return []  # each instance of the model drew its own random weights
        if self._serving:
            return self._checks.while_serving(degree)
        if not self.use_v2_model_runner:  # the steps of a prompt are made by V2's door
            return self._checks.without_cache(degree)
        return self._checks.at_start(degree, self._sizes(degree)[-1] if self._captures else None)

    def _calibrate(self) -> None:
        """Collective. Time each degree at about ten sizes, and choose the first schedule where no flag did."""
        ledger, began = self._ledger, time.perf_counter()
        degrees = [self._full, *self._degrees.loaded]
        largest_graph = self._graphs_up_to.get(self._full, configuration.largest_decode_graph(self.vllm_config))
        sizes = calibration_sizes(self._largest_step, largest_graph)
        ledger.curves = calibrate(self._trial.seconds, agree, degrees, sizes)
        if self._config.threshold is None:
            ledger.schedule = Schedule(0, ledger.curves.fastest_ranges())
        self._calibration_seconds = time.perf_counter() - began
        logger.info(
            "calibrated sizes=%d crossover=%s first_schedule=%s seconds=%.1f",
            *(len(ledger.curves.sizes), ledger.curves.crossover(self._large)),
            *(ledger.schedule.to_document()["ranges"], self._calibration_seconds),
        )

    def _calibrate_further(self, degree: Degree) -> None:
        """Collective. The curve of a degree that was built while serving, in a second or two: steps wait for it."""
        curves = self._ledger.curves
        if curves.sizes:
            curves.add(degree, calibrate_further(self._trial.seconds, agree, degree, curves, self._full))
