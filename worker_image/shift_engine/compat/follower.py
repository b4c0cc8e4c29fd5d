"""vLLM 0.32's ranks on a node that does not serve, for the engine of another node: `vllm serve --headless` with a
--node-rank above 0 (entrypoints/cli/serve.py, run_headless), but it ends after the node that serves.

vLLM's own ends its ranks at SIGTERM, and with them every request of the replica. All nodes of a replica are told to end
at about the same time, and only the one with the API server knows when its last request is answered.
"""

import logging
import signal
import socket
import threading
import time
from typing import Any

from vllm import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

logger = logging.getLogger("vllm.shift_engine.follower")

POLL_SECONDS = 0.5
CONNECT_SECONDS = 2.0


def follow(args: Any) -> str | None:
    """Run this node's ranks until SIGTERM, and then until nobody serves. -> None, or that a rank ended before."""
    told, leaving = threading.Event(), threading.Event()

    def leave() -> None:
        told.wait()
        while _serves(args.master_addr, args.port):
            time.sleep(POLL_SECONDS)
        logger.info("follower: %s:%d serves no more", args.master_addr, args.port)
        leaving.set()
        executor.shutdown()

    config = AsyncEngineArgs.from_cli_args(args).create_engine_config(
        usage_context=UsageContext.OPENAI_API_SERVER, headless=True
    )
    executor = MultiprocExecutor(config, monitor_workers=False)
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    last = threading.Thread(target=leave, name="follower", daemon=True)
    last.start()
    executor.start_worker_monitor(inline=True)
    if not leaving.is_set():
        return f"a rank of node {args.node_rank} ended"
    last.join()
    return None


def _serves(host: str, port: int) -> bool:
    """Whether anybody listens there."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
