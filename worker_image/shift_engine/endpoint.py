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
from .config import ShiftConfig
from .degree import Degree
from .metrics import ShiftCollector
from .watcher import RPC_SECONDS, FileReport, ScheduleWatcher

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
    stats: dict[str, Any] = field(default_factory=dict)
    ranks: list[dict[str, int]] = field(default_factory=list)
    watcher: ScheduleWatcher | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def degree(self) -> Degree:
        """The degree of large steps that the engine has: 1 x P where the overlay is not active."""
        large = self.config.large
        return large if self.stats["overlay"]["active"] else Degree.full_tensor(large.gpus)

    @property
    def file(self) -> FileReport:
        """The schedule file's report."""
        return self.watcher.report if self.watcher else FileReport()

    async def poll(self) -> None:
        """Ask every rank for its confirmation, rank 0 for its counters too. vLLM answers between two steps."""
        answers = await self._call("shift_stats")
        self.stats, self.ranks = answers[0], _confirmations(answers)

    async def apply(self, document: dict[str, Any]) -> list[dict[str, int]]:
        """Hand a schedule to all ranks."""
        self.ranks = _confirmations(await self._call("shift_apply", document))
        await self.poll()
        return self.ranks

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
            "gpus": self.degree.gpus,
            "maxBatchedTokens": self.max_tokens,
            "degree": _degree(self.degree),
            "overlay": stats["overlay"],
            "schedule": stats["schedule"],
            "ranks": self.ranks,
            "file": {
                "path": self.config.schedule_file,
                "state": self.file.state,
                "generation": self.file.generation,
                "error": self.file.error,
            },
            "calibration": {
                "state": "Done" if self.config.calibration else "Off",
                "crossoverTokens": calibration["crossoverTokens"],
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
        answers = await self.engine.collective_rpc(method, timeout=RPC_SECONDS, args=args)
        return sorted(answers, key=lambda answer: int(answer["rank"]))


class ShiftEndpoint:
    """vLLM's EndpointPlugin protocol (plugins/endpoint_plugins/interface.py)."""

    name = "shift_engine"
    required_tasks = None

    def attach_router(self, app: FastAPI) -> None:
        """Add GET /shift."""

        @app.get("/shift")
        async def shift() -> JSONResponse:
            state: EngineState | None = getattr(app.state, "shift", None)
            if state is None:
                return JSONResponse({"error": "this server runs without the shift engine's worker"}, status_code=503)
            return JSONResponse(state.document())

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Runs before the server accepts requests: a valid schedule file is applied before /health says 200."""
        if engine_client is None:
            return
        from vllm import __version__ as vllm_version

        vllm_config = engine_client.vllm_config
        config = ShiftConfig.from_vllm(vllm_config.additional_config)
        shift = EngineState(
            engine=engine_client,
            config=config,
            model=vllm_config.model_config.served_model_name,
            vllm_version=vllm_version.partition("+")[0],
            max_tokens=vllm_config.scheduler_config.max_num_batched_tokens,
        )
        await shift.poll()
        if config.schedule_file is not None:
            path = Path(config.schedule_file)
            shift.watcher = ScheduleWatcher(path, config.large, config.first_schedule, shift.apply)
            await shift.watcher.look()
            shift.tasks.append(asyncio.create_task(shift.watcher.watch(), name="shift schedule watcher"))
        shift.tasks.append(asyncio.create_task(shift.poll_for_ever(), name="shift stats"))
        REGISTRY.register(ShiftCollector(shift))
        state.shift = shift
        _note_the_end(engine_client)


_deaths: list[str] = []


def _note_the_end(engine: Any) -> None:
    """vLLM shuts its client down both after SIGTERM and after a death, and looks dead afterwards either way: so look
    before."""
    shutdown = engine.shutdown

    def noting(*args: Any, **options: Any) -> Any:
        if engine.errored:
            _deaths.append(f"{type(engine.dead_error).__name__}: {engine.dead_error}")
        engine.shutdown = shutdown
        return shutdown(*args, **options)

    engine.shutdown = noting


def engine_death() -> str | None:
    """After the server ended: None if it was asked to, else what the engine died of."""
    return next(iter(_deaths), None)


def _confirmations(answers: list[dict[str, Any]]) -> list[dict[str, int]]:
    return [{key: answer[key] for key in ("rank", "generation", "step")} for answer in answers]


def _degree(degree: Degree) -> dict[str, int]:
    return {"sequence": degree.sequence, "tensor": degree.tensor}
