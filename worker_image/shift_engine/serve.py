"""The command `shift-engine serve MODEL ...`: our flags and vLLM's, then vLLM's own API server in this process."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import __version__, termination
from .config import KEY, ShiftConfig
from .degree import Degree

USAGE = (
    "shift-engine serve MODEL [--shift-degree SxT ...] [--shift-threshold N] [--shift-schedule-file PATH] [vLLM flags]"
)
WORKER = "shift_engine.worker.ShiftWorker"
BAD_FLAGS, NO_ENGINE = 2, 1  # exit codes


class FlagError(Exception):
    """A flag that cannot work; the sentence names flag and rule."""


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point. Exits 0 after SIGTERM, 1 where the engine did not start or died, 2 on bad flags."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        ours, theirs = split_flags(arguments)
        code = _serve(ours, theirs)
    except FlagError as error:
        termination.leave_message(str(error))
        code = BAD_FLAGS
    sys.exit(code)


def split_flags(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """-> (the `--shift-*` flags, all others for vLLM). Raises FlagError."""
    if arguments in (["--version"], ["version"]):
        print(__version__)
        sys.exit(0)
    parser = _OurParser(prog="shift-engine", usage=USAGE, allow_abbrev=False)
    parser.add_argument("command", choices=["serve"], help="serve a model by vLLM's OpenAI-compatible API")
    parser.add_argument(
        "--shift-degree",
        type=_degree,
        action="append",
        help="a degree to load, SEQUENCExTENSOR; the first one is the large steps'; may be given again; default Px1",
    )
    parser.add_argument(
        "--shift-threshold", type=_whole, help="tokens; larger steps run at the degree; default: by calibration"
    )
    parser.add_argument("--shift-schedule-file", help="the schedule file to watch (docs/contract.md)")
    parser.add_argument("--shift-calibration", choices=["on", "off"], default="on", help="time the degrees at start")
    parser.add_argument("--shift-graphs", choices=["on", "off"], default="on", help="capture steps")
    parser.add_argument(
        "--shift-probe-share",
        type=_share,
        default=ShiftConfig.probe_share,
        help="share of the steps near the threshold that run in the other mode; 0 is off; default %(default)s",
    )
    known, rest = parser.parse_known_args(arguments)
    if wrong := next((flag for flag in rest if flag.startswith("--shift")), None):
        raise FlagError(f"{wrong.partition('=')[0]}: no such flag; usage: {USAGE}")
    return known, rest


def shift_config(ours: argparse.Namespace, gpus: int) -> ShiftConfig:
    """Our flags for an engine of so many GPUs. Raises FlagError."""
    degrees = ours.shift_degree or [Degree(gpus, 1)]
    for degree in degrees:
        if degree.gpus != gpus:
            raise FlagError(
                f"--shift-degree {degree}: sequence {degree.sequence} x tensor {degree.tensor} is {degree.gpus}, "
                f"--tensor-parallel-size is {gpus}; choose a pair whose product is {gpus}"
            )
    first, *further = map(str, dict.fromkeys(degrees))
    return ShiftConfig(
        degree=first,
        further_degrees=tuple(further),
        threshold=ours.shift_threshold,
        schedule_file=ours.shift_schedule_file,
        calibration=ours.shift_calibration == "on",
        graphs=ours.shift_graphs,
        probe_share=ours.shift_probe_share,
    )


def install(vllm_args: Any, ours: argparse.Namespace) -> None:
    """Put our settings into vLLM's parsed flags. Raises FlagError on those that are ours to set."""
    if vllm_args.worker_cls != "auto":
        raise FlagError(f"--worker-cls {vllm_args.worker_cls}: the shift engine brings its own worker; leave it out")
    if vllm_args.api_server_count is not None and vllm_args.api_server_count < 1:
        raise FlagError(f"--api-server-count {vllm_args.api_server_count}: a replica has at least one API server")
    if KEY in (vllm_args.additional_config or {}):
        raise FlagError(f"--additional-config: the key {KEY} is the engine's own; use the --shift-* flags")
    config = shift_config(ours, vllm_args.tensor_parallel_size)
    vllm_args.additional_config = dict(vllm_args.additional_config or {}) | config.to_additional_config()
    vllm_args.worker_cls = WORKER


def _serve(ours: argparse.Namespace, theirs: list[str]) -> int:
    """Run until the end. -> the exit code."""
    notes = termination.begin_notes()
    try:
        # Imports vLLM: seconds, so after our own flags are known to be right. Raises UnsupportedVllm.
        from .compat import server

        vllm_args = server.parse(theirs)
        install(vllm_args, ours)
        died = server.run(vllm_args)
    except FlagError:
        raise
    except KeyboardInterrupt:  # SIGTERM or Ctrl-C while loading
        return 0
    except Exception as error:
        termination.leave_message(
            f"the engine did not start: {termination.cause(notes) or termination.sentence(error)}"
        )
        return NO_ENGINE
    else:
        if died is None:
            return 0
        termination.leave_message(
            f"the engine died: {termination.cause(notes, termination.LAST_WORDS_SECONDS) or died}"
        )
        return NO_ENGINE
    finally:
        notes.unlink(missing_ok=True)
        os.environ.pop(termination.NOTES, None)


class _OurParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise FlagError(f"{message}; usage: {USAGE}")


def _degree(text: str) -> Degree:
    try:
        return Degree.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number of tokens from 0 on')
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 0.5:
        raise argparse.ArgumentTypeError(f'"{text}" is no share from 0 to 0.5')
    return share


if __name__ == "__main__":
    main()
