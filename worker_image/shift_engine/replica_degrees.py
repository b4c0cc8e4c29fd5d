"""The degrees of a replica as one of its ranks has them: loaded at start, built while it serves, or out of reach."""

import logging
import time
from collections.abc import Collection
from itertools import chain
from typing import Any

from torch import nn

from .compat import configuration, memory
from .compat.agreement import agree, first_of_ranks
from .degree import Degree, DegreeReport, DegreeState, degrees_of
from .forward import ForwardSwitch
from .overlay import Overlay, OverlayUnsupported, build_overlay, degree_problem, model_problem
from .shared_weights import WeightBytes, distinct_bytes

logger = logging.getLogger("vllm.shift_engine.degrees")

STEP_BYTES = 512 * 2**20
"""What has to be left beside an overlay's weights for a step, where vLLM has not measured one."""


class NoRoom(Exception):
    """A rank has not the memory for an overlay."""


class ReplicaDegrees:
    """Every rank has the same degrees in the same states: each step of building is agreed on."""

    def __init__(
        self,
        vllm_config: Any,
        host: nn.Module,
        switch: ForwardSwitch,
        *,
        gpus: int,
        v2: bool,
        share_weights: bool,
        kept_bytes: int,
    ) -> None:
        """`v2`: the engine uses vLLM's V2 model runner; `kept_bytes`: of the memory that is free as it starts, what is
        neither for weights nor for a step."""
        self._vllm_config = vllm_config
        self._host = host
        self._switch = switch
        self._full = Degree.full_tensor(gpus)
        self._share_weights = share_weights
        self._kept_bytes = kept_bytes
        self.step_bytes = STEP_BYTES  # what a step allocates for its time, as far as it is known
        self._overlays: dict[Degree, Overlay] = {}
        self._host_moved = False  # its weights lie in an overlay's
        self.problem = configuration.configuration_problem(vllm_config, v2=v2) or model_problem(vllm_config, host)
        self._reports = {degree: self._first_report(degree) for degree in degrees_of(gpus)}

    @property
    def reports(self) -> tuple[DegreeReport, ...]:
        """Every degree of P GPUs, ascending by sequence."""
        return tuple(self._reports.values())

    @property
    def loaded(self) -> tuple[Degree, ...]:
        """The degrees of overlays, in the order they came."""
        return tuple(self._overlays)

    @property
    def weights(self) -> WeightBytes:
        """Of all overlays on this rank."""
        parts = [overlay.weights for overlay in self._overlays.values()]
        return WeightBytes(sum(part.shared for part in parts), sum(part.copied for part in parts))

    @property
    def weight_bytes(self) -> int:
        """What the weights of the host and of all overlays take on this rank, each byte once."""
        parts = (each.parameters() for each in (self._host, *self._overlays.values()))
        return distinct_bytes(chain.from_iterable(parts))

    def is_gathered(self, degree: Degree) -> bool:
        """Whether the overlay's weights follow from the host's."""
        return self._overlays[degree].is_gathered

    def report(self, degree: Degree) -> DegreeReport:
        """One degree's. A product other than P is a programming error: schedules are checked before."""
        return self._reports[degree]

    def load_at_start(self, degrees: Collection[Degree]) -> None:
        """Collective, before CUDA graphs are captured: the widest first, since the others' weights lie in its."""
        for degree in sorted(degrees, key=lambda each: -each.sequence):
            if self._reports[degree].state is DegreeState.BUILDABLE:
                self._build(degree, serving=False)

    def build(self, degree: Degree) -> DegreeReport:
        """Collective, while the engine serves: no weight of the host moves, and memory is asked for first."""
        if self._reports[degree].state is DegreeState.BUILDABLE:
            self._build(degree, serving=True)
        return self._reports[degree]

    def drop(self, degree: Degree, reason: str) -> None:
        """An overlay that was built, but is not right: its steps run 1 x P from now on."""
        self._overlays.pop(degree, None)
        self._switch.remove(degree)
        self._reports[degree] = DegreeReport(degree, DegreeState.NEEDS_RESTART, reason)
        logger.warning("overlay off degree=%s reason=%s", degree, reason)

    def close(self, reason: str) -> None:
        """No degree but 1 x P from now on."""
        self._switch.remove_all()
        self._overlays.clear()
        for degree, report in self._reports.items():
            if degree != self._full and report.state is not DegreeState.UNSUPPORTED:
                self._reports[degree] = DegreeReport(degree, DegreeState.NEEDS_RESTART, reason)

    def _first_report(self, degree: Degree) -> DegreeReport:
        if degree == self._full:
            return DegreeReport(degree, DegreeState.LOADED)
        problem = self.problem or degree_problem(self._vllm_config, degree)
        return DegreeReport(degree, DegreeState.UNSUPPORTED if problem else DegreeState.BUILDABLE, problem)

    def _build(self, degree: Degree, *, serving: bool) -> None:
        """Collective. Leaves a report, and the overlay where every rank has it. Never fails the engine for it."""
        overlay, problem, state, began = None, None, DegreeState.NEEDS_RESTART, time.perf_counter()
        wider = next((found for each in self._overlays.values() if (found := each.around(degree))), None)
        try:
            overlay = build_overlay(
                *(self._vllm_config, self._host, degree),
                share_weights=self._share_weights,
                wider=wider,
                move_host=not serving and not self._host_moved,
                room=self._ask_for_room if serving else self._ask_for_room_at_start,
                room_for_copy=self._ask_for_room if serving else self._ask_for_half,
            )
        except OverlayUnsupported as unsupported:
            problem, state = str(unsupported), DegreeState.UNSUPPORTED
        except NoRoom as lack:
            problem = str(lack)
        except Exception as error:
            logger.exception("the overlay %s did not load", degree)
            problem = f"the overlay {degree} did not load: {type(error).__name__}: {error}"
        problem, state = first_of_ranks(problem and (problem, state)) or (None, state)
        if problem is None and overlay is not None:
            self._switch.install(overlay)
            self._overlays[degree] = overlay
            self._host_moved = self._host_moved or not serving
            self._reports[degree] = DegreeReport(degree, DegreeState.LOADED)
            logger.info("overlay loaded degree=%s seconds=%.1f", degree, time.perf_counter() - began)
        else:
            self._reports[degree] = DegreeReport(degree, state, problem)
            logger.warning("overlay not loaded degree=%s state=%s reason=%s", degree, state, problem)

    def _ask_for_half(self, needed: int) -> None:
        """Collective, at start. Raises NoRoom where weights that are there already would take more than half of what
        vLLM has left for its KV cache and a step."""
        most, least = self._needed_and_free(needed)
        if most > least / 2:
            raise NoRoom(
                f"its weights cannot be the host's, and a copy of {_mebibytes(most)} MiB would take more than half of "
                f"the {_mebibytes(least)} MiB that a rank has left"
            )

    def _ask_for_room_at_start(self, needed: int) -> None:
        """Collective, before anything of the host moves. Raises NoRoom on every rank where one of them lacks memory."""
        self._ask(needed, self._kept_bytes + self.step_bytes)

    def _ask_for_room(self, needed: int) -> None:
        """Collective, while the engine serves. Raises NoRoom on every rank where one of them lacks memory."""
        self._ask(needed, self.step_bytes)

    def _ask(self, needed: int, beside: int) -> None:
        most, least = self._needed_and_free(needed)
        if most + beside > least:
            raise NoRoom(
                f"a rank needs {_mebibytes(most)} MiB of memory for it and {_mebibytes(beside)} MiB beside, "
                f"and has {_mebibytes(least)} MiB"
            )

    def _needed_and_free(self, needed: int) -> tuple[float, float]:
        """Collective. -> the most that a rank needs, and the least that one has."""
        memory.release()
        most, lack = agree([float(needed), -float(memory.free_bytes())])
        return most, -lack


def _mebibytes(count: float) -> int:
    return round(count / 2**20)
