"""GET /shift and the engine's tasks in the API process: vLLM's endpoint plugin `shift_engine`."""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from prometheus_client import REGISTRY

from . import __version__
from .board import Board
from .config import ShiftConfig
from .degree import Degree, DegreeReport, DegreeState
from .drain import Drain, DrainingResponses, may_block
from .metrics import ShiftCollector
from .schedule import Schedule
from .termination import note_death
from .vllm_version import installed, version_problem
from .watcher import FileReport, ScheduleWatcher

logger = logging.getLogger("vllm.shift_engine.endpoint")

STATS_SECONDS = 2.0  # between two polls of the ranks' counters


@dataclass
class EngineState:
    """What this API process knows of the engine; GET /shift and the metrics are views of it."""

    engine: Any
    config: ShiftConfig
    model: str
    vllm_version: str
    max_tokens: int
    max_sequences: int
    kv_tokens: int | None
    """Tokens that the KV cache holds, the same on every rank; None of a model without one."""
    stats: dict[str, Any] = field(default_factory=dict)  # rank 0's last `shift_stats`
    ranks: list[dict[str, int]] = field(default_factory=list)
    watcher: ScheduleWatcher | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def degree(self) -> Degree:
        """The first degree of `--shift-degree` that is loaded, 1 x P where none is."""
        return Degree.parse(self.stats["degree"])

    @property
    def degrees(self) -> dict[Degree, DegreeReport]:
        """Every degree of P GPUs, ascending by sequence."""
        building = self.file.building
        reports = map(DegreeReport.from_document, self.stats["reports"])
        return {
            each.degree: DegreeReport(each.degree, DegreeState.BUILDING) if each.degree == building else each
            for each in reports
        }

    @property
    def file(self) -> FileReport:
        """The schedule file's report."""
        return self.watcher.report if self.watcher else FileReport()

    async def poll(self) -> None:
        """Ask every rank for its confirmation, rank 0 for its counters too. vLLM answers between two steps."""
        answers = await self._call("shift_stats")
        self.stats, self.ranks = answers[0], _confirmations(answers)

    async def apply(self, schedule: Schedule) -> list[dict[str, int]]:
        """Hand a schedule to all ranks."""
        self.ranks = _confirmations(await self._call("shift_apply", schedule.to_document()))
        await self.poll()
        return self.ranks

    async def build(self, degree: Degree) -> None:
        """Have all ranks build a degree; no step runs meanwhile."""
        await self._call("shift_build", degree.sequence)
        await self.poll()

    async def poll_for_ever(self) -> None:
        """Keep the counters fresh. An engine that does not answer keeps its last ones; vLLM's own health tells."""
        while True:
            await asyncio.sleep(STATS_SECONDS)
            try:
                await self.poll()
            except Exception as error:  # the engine died or is stuck: /health says so, we only log the first time
                logger.debug("stats not answered error=%s", error)

    def document(self) -> dict[str, Any]:
        """The answer of GET /shift (docs/contract.md section 3)."""
        stats, calibration = self.stats, self.stats["calibration"]
        return {
            "version": __version__,
            "vllm": self.vllm_version,
            "model": self.model,
            "gpus": self.config.large.gpus,
            "maxBatchedTokens": self.max_tokens,
            "maxSequences": self.max_sequences,
            "kvCacheTokens": self.kv_tokens,
            "memory": stats["memory"],
            "degree": _degree(self.degree),
            "degrees": [report.to_document() for report in self.degrees.values()],
            "overlay": stats["overlay"],
            "graphs": [_degree(Degree.parse(text)) | {"upToTokens": n} for text, n in stats["graphs"].items()],
            "weights": stats["weights"],
            "schedule": stats["schedule"],
            "ranks": self.ranks,
            "file": {
                "path": self.config.schedule_file,
                "state": self.file.state,
                "generation": self.file.generation,
                "reason": self.file.reason,
                "error": self.file.error,
            },
            "calibration": {
                "state": "Done" if calibration["sizes"] else "Off",
                "crossoverTokens": calibration["crossoverTokens"],
                "tookSeconds": calibration["tookSeconds"],
                "curves": [
                    _degree(Degree.parse(text))
                    | {
                        "points": [
                            {"tokens": n, "seconds": s} for n, s in zip(calibration["sizes"], points, strict=True)
                        ]
                    }
                    for text, points in calibration["curves"].items()
                ],
            },
        }

    async def _call(self, method: str, *args: Any) -> list[dict[str, Any]]:
        # Without a limit: vLLM would leave an answer that comes too late in a rank's queue, as the answer to the next.
        answers = await self.engine.collective_rpc(method, args=args)
        return sorted(answers, key=lambda answer: int(answer["rank"]))


class ShiftEndpoint:
    """vLLM's EndpointPlugin protocol (plugins/endpoint_plugins/interface.py)."""

    name = "shift_engine"
    required_tasks = None

    def attach_router(self, app: FastAPI) -> None:
        """Add GET /shift, what a drain needs around all routes, and our metrics where there are several API servers.

        Beside another vLLM nothing is added. Ours would not have started on it, so this server is somebody else's, and
        serves without us.
        """
        if problem := version_problem():
            logger.warning("no GET /shift: %s", problem)
            return
        app.state.drain = Drain()
        app.add_middleware(DrainingResponses, drain=app.state.drain)
        if board := Board.of_this_process():
            from .compat.server import add_to_metrics

            add_to_metrics(app, board)

        @app.get("/shift")
        async def shift() -> JSONResponse:
            state: EngineState | Board | None = getattr(app.state, "shift", None)
            if state is None:
                return JSONResponse({"error": "this server runs without the shift engine's worker"}, status_code=503)
            return JSONResponse(state.document())

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Runs before the server accepts requests: a valid schedule file is applied before /health says 200."""
        if engine_client is None or version_problem():
            return
        from .compat import api_process  # here: beside another vLLM this module, too, is imported

        vllm_config = engine_client.vllm_config
        board = Board.of_this_process()
        if board is not None and not api_process.is_first(vllm_config):
            await board.until_written()
            state.shift = board
            _end_in_order(engine_client, state)
            return
        config = ShiftConfig.from_vllm(vllm_config.additional_config)
        shift = EngineState(
            engine=engine_client,
            config=config,
            model=vllm_config.model_config.served_model_name,
            vllm_version=installed(),
            max_tokens=vllm_config.scheduler_config.max_num_batched_tokens,
            max_sequences=vllm_config.scheduler_config.max_num_seqs,
            kv_tokens=api_process.kv_cache_tokens(vllm_config),
        )
        await shift.poll()
        if config.schedule_file is not None:
            path = Path(config.schedule_file)
            running = Schedule.from_document(shift.stats["schedule"])
            shift.watcher = ScheduleWatcher(
                path, shift, running, started_with=config.started_with, max_tokens=shift.max_tokens
            )
            await shift.watcher.look()
            shift.tasks.append(asyncio.create_task(shift.watcher.watch(), name="shift schedule watcher"))
        shift.tasks.append(asyncio.create_task(shift.poll_for_ever(), name="shift stats"))
        metrics = ShiftCollector(shift)
        if board is None:
            REGISTRY.register(metrics)
            state.shift = shift
        else:
            board.post(shift.document(), metrics)
            shift.tasks.append(asyncio.create_task(board.post_for_ever(shift, metrics), name="shift board"))
            state.shift = board
        _end_in_order(engine_client, state)


def _end_in_order(engine: Any, state: Any) -> None:
    """Drain before vLLM shuts its client down after SIGTERM, and note what an engine died of.

    vLLM shuts the client down after a death too, and it looks dead afterwards either way: so look before.
    """
    from .compat import api_process

    def end(timeout: float | None) -> float | None:
        if timeout and may_block():
            timeout = state.drain.wait(timeout, state.server, alive=lambda: not engine.errored)
        if engine.errored:
            note_death(engine.dead_error)
        return timeout

    api_process.before_shutdown(engine, end)


def _confirmations(answers: list[dict[str, Any]]) -> list[dict[str, int]]:
    return [{key: answer[key] for key in ("rank", "generation", "step")} for answer in answers]


def _degree(degree: Degree) -> dict[str, int]:
    return {"sequence": degree.sequence, "tensor": degree.tensor}
