"""The worker of one rank: the platform's own vLLM worker, plus the overlay, the schedule and what they count.

Selected by `--worker-cls shift_engine.worker.ShiftWorker`. Methods named `shift_*` are called by `collective_rpc`,
which vLLM orders with the steps: a schedule arrives between the same two steps on every rank.
"""

import logging
import time
from typing import Any

import torch
import torch.distributed

from .calibration import calibrate
from .clock import step_clock
from .compat import v032 as vllm
from .compat import v2_runner
from .config import ShiftConfig
from .curves import calibration_sizes
from .degree import Degree
from .forward import ForwardSwitch
from .overlay import OverlayUnsupported, build_overlay
from .schedule import check_schedule
from .shared_weights import WeightBytes
from .steps import StepLedger

logger = logging.getLogger("vllm.shift_engine.worker")

SELF_CHECK_TOKENS = 61  # odd, so that every degree pads
SELF_CHECK_TOLERANCE = {torch.float32: 1e-3}  # of the largest hidden state; 16-bit types: 0.1
Base: Any = vllm.base_worker()


class ShiftWorker(Base):
    """One rank of a replica."""

    def load_model(self, **options: Any) -> None:
        """Load the host model as stock vLLM does, then the overlay beside it."""
        super().load_model(**options)
        config = ShiftConfig.from_vllm(self.vllm_config.additional_config)
        self._large = config.large
        self._full = Degree.full_tensor(self.parallel_config.tensor_parallel_size)
        self._calibration = config.calibration
        self._serving = False  # vLLM's warm-up calls execute_model too: those steps are the host's and not counted
        self._switch = ForwardSwitch(self.model_runner.get_model(), self._full.gpus)
        self._clock = step_clock(self.device)
        self._ledger = StepLedger(
            config.first_schedule,
            max_tokens=self.scheduler_config.max_num_batched_tokens,
            probe_share=config.probe_share,
        )
        self._share_weights = config.share_weights
        self._weights = WeightBytes()
        self._reason = self._load_overlay()
        self._ledger.active = self._reason is None

    def compile_or_warm_up_model(self) -> Any:
        """Warm up as stock vLLM does; then check the overlay against the host, and time both."""
        if self.use_v2_model_runner:
            v2_runner.steer_graphs(self.model_runner, lambda: self._switch.is_armed)
        times = super().compile_or_warm_up_model()
        if self._ledger.active:
            self._check_overlay()
        if self._calibration:
            self._calibrate()
        vllm.reset_random_state(self.vllm_config)
        self._serving = True
        return times

    def determine_available_memory(self) -> int:
        """As stock vLLM, but the profile run's peak covers the overlay's activations too."""
        if self._ledger.active and self.use_v2_model_runner:
            stock_profile_run = self.model_runner.profile_run

            def profile_run(**options: Any) -> None:
                stock_profile_run(**options)
                self._switch.arm(self._large)
                try:
                    stock_profile_run(**options)
                finally:
                    self._switch.disarm()

            self.model_runner.profile_run = profile_run
        return int(super().determine_available_memory())

    def execute_model(self, scheduler_output: Any) -> Any:
        """One engine step, at the degree that the schedule names for its number of batched tokens."""
        tokens = scheduler_output.total_num_scheduled_tokens
        if tokens == 0 or not self._serving:  # bookkeeping without a forward pass, or warm-up
            return super().execute_model(scheduler_output)
        ledger = self._ledger
        self._switch.arm(ledger.wanted(tokens))
        self._clock.start()
        output = super().execute_model(scheduler_output)
        outcome = self._switch.disarm()
        if outcome.fallback is not None:
            ledger.fallbacks[outcome.fallback] += 1
        ledger.ran(outcome.degree, tokens, outcome.pad_tokens)
        for degree, n, seconds in self._clock.stop(outcome.degree, tokens):
            ledger.took(degree, n, seconds)
        return output

    def reload_weights(self, *args: Any, **options: Any) -> None:
        """The overlay's weights would stay behind, so it goes."""
        self._retire("the weights were reloaded while serving; restart the engine to have the overlay again")
        super().reload_weights(*args, **options)

    def shift_apply(self, document: dict[str, Any]) -> dict[str, int]:
        """RPC: run by this schedule from the next step on. -> this rank's confirmation."""
        self._ledger.schedule = check_schedule(document, self._large)
        return self._confirmation()

    def shift_stats(self) -> dict[str, Any]:
        """RPC: this rank's confirmation; from rank 0 also what it counted."""
        confirmation: dict[str, Any] = self._confirmation()
        if self.rank != 0:
            return confirmation
        ledger = self._ledger
        curves = ledger.curves
        return confirmation | {
            "schedule": ledger.schedule.to_document(),
            "thresholdTokens": ledger.schedule.threshold(ledger.max_tokens),
            "overlay": {"active": ledger.active, "reason": self._reason},
            "weights": {"sharedBytes": self._weights.shared, "copiedBytes": self._weights.copied},
            "degrees": {str(degree): totals.to_document() for degree, totals in ledger.totals.items()},
            "transitions": ledger.transitions,
            "padTokens": ledger.pad_tokens,
            "fallbacks": {str(reason): count for reason, count in ledger.fallbacks.items()},
            "calibration": {
                "sizes": list(curves.sizes),
                "curves": {str(degree): list(curves.seconds(degree)) for degree in curves.calibrated},
                "crossoverTokens": curves.crossover(self._large),
            },
        }

    def _confirmation(self) -> dict[str, int]:
        return {"rank": self.rank, "generation": self._ledger.schedule.generation, "step": self._ledger.step}

    def _load_overlay(self) -> str | None:
        """Collective. -> None, or why this engine runs plain tensor parallelism. Never fails the engine for it."""
        if self._large.is_full_tensor:
            return f"--shift-degree {self._large} is full tensor parallelism"
        if problem := vllm.configuration_problem(self.vllm_config, v2=self.use_v2_model_runner):
            return problem
        overlay, problem, began = None, None, time.perf_counter()
        try:
            overlay = build_overlay(
                self.vllm_config, self.model_runner.get_model(), self._large, share_weights=self._share_weights
            )
        except OverlayUnsupported as unsupported:
            problem = str(unsupported)
        except Exception as error:
            logger.exception("the overlay %s did not load", self._large)
            problem = f"the overlay did not load on rank {self.rank}: {type(error).__name__}: {error}"
        problem = self._first_problem(problem)
        if problem is None and overlay is not None:
            self._switch.install(overlay)
            self._weights = overlay.weights
            logger.info("overlay loaded degree=%s seconds=%.1f", self._large, time.perf_counter() - began)
        return problem

    def _first_problem(self, problem: str | None) -> str | None:
        """Collective. The problem of the lowest rank that has one: an overlay is there on all ranks or on none."""
        problems: list[str | None] = [None] * self._full.gpus
        torch.distributed.all_gather_object(problems, problem, group=vllm.replica_group())
        return next((each for each in problems if each is not None), None)

    def _retire(self, reason: str) -> None:
        if self._ledger.active:
            self._switch.remove_all()
            self._ledger.active, self._reason = False, reason
            logger.warning("overlay off reason=%s", reason)

    def _check_overlay(self) -> None:
        """Collective. Both modes must compute the same hidden states from random tokens, or the overlay goes."""
        if self.load_config.load_format == "dummy" and not self._weights.shared:
            return  # each instance of the model drew its own random weights
        tokens = min(SELF_CHECK_TOKENS, self._ledger.max_tokens, self.model_config.max_model_len - 1)
        host, overlay = (self._dummy_step(d, tokens, randomized=True) for d in (self._full, self._large))
        error = float((host - overlay).abs().max() / host.abs().max().clamp_min(1e-6))
        [error] = vllm.agree([error if error == error else float("inf")])
        if error > SELF_CHECK_TOLERANCE.get(host.dtype, 0.1):
            self._retire(f"the self-check failed: hidden states differ by {error:.1e} of the largest between the modes")

    def _calibrate(self) -> None:
        """Collective. Time each mode at about ten sizes."""
        degrees = [self._full, self._large] if self._ledger.active else [self._full]
        began = time.perf_counter()
        self._ledger.curves = calibrate(
            self._timed_step, vllm.agree, degrees, calibration_sizes(self._ledger.max_tokens)
        )
        logger.info(
            "calibrated sizes=%d crossover=%s seconds=%.1f",
            *(len(self._ledger.curves.sizes), self._ledger.curves.crossover(self._large), time.perf_counter() - began),
        )

    def _timed_step(self, degree: Degree, tokens: int) -> float:
        began = time.perf_counter()
        self._dummy_step(degree, tokens)
        self.synchronize_device()
        return time.perf_counter() - began

    def _dummy_step(self, degree: Degree, tokens: int, *, randomized: bool = False) -> torch.Tensor:
        """-> hidden states [n, d]."""
        self._switch.arm(degree)
        try:
            return vllm.dummy_step(self.model_runner, tokens, v2=self.use_v2_model_runner, randomized=randomized)
        finally:
            self._switch.disarm()
