"""`shift-engine serve` on a node that does not serve, with a child that sleeps in the place of its rank: what watches
the rank and ends the node is vLLM's and ours. Once it hears SIGTERM it prints the rank's pid."""

import multiprocessing
import time
from types import SimpleNamespace
from typing import Any

from shift_engine import serve
from shift_engine.compat import follower


class OneRank(follower.MultiprocExecutor):  # type: ignore[misc]
    """vLLM's executor, but for what it starts."""

    def __init__(self, *_: Any, **__: Any) -> None:
        rank = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,), daemon=True, name="rank")
        rank.start()
        self.workers = [SimpleNamespace(proc=rank, death_writer=None, worker_response_mq=None)]
        self.is_failed, self.failure_callback = False, None

    def start_worker_monitor(self, inline: bool = False) -> None:
        """Called last, with the handler of SIGTERM in place."""
        print(f"rank {self.workers[0].proc.pid}", flush=True)
        super().start_worker_monitor(inline)


class NoModel:
    """In the place of vLLM's arguments: no configuration is made of them."""

    @classmethod
    def from_cli_args(cls, _: Any) -> "NoModel":
        return cls()

    def create_engine_config(self, **_: Any) -> None:
        """Nothing reads it."""


if __name__ == "__main__":
    follower.MultiprocExecutor, follower.AsyncEngineArgs = OneRank, NoModel
    serve.main()
