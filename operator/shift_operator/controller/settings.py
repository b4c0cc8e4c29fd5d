"""The operator's flags. Each can also be given in the environment: `--port` as SHIFT_OPERATOR_PORT; a flag wins."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from shift_operator import __version__

Value = TypeVar("Value")

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True)
class Settings:
    """How one operator process runs. The flags' help texts say what each means."""

    prometheus_url: str | None
    prometheus_token_file: Path | None
    prometheus_ca_file: Path | None
    decision_interval_seconds: float
    resync_seconds: float
    workers: int
    watch_namespaces: tuple[str, ...]
    instance: str
    lease: tuple[str, str] | None
    lease_seconds: float
    host: str
    port: int
    log_level: str

    @property
    def sees_all(self) -> bool:
        """Whether this operator serves every ShiftDeployment of the cluster, as far as its flags tell."""
        return not self.watch_namespaces and not self.instance


def parse_settings(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings from the command line and the environment. Exits with code 2 and a sentence on a bad one."""
    parser = argparse.ArgumentParser(
        prog="shift-operator", description="Runs ShiftDeployments and keeps their parallelism fitted to the traffic."
    )
    parser.add_argument("--version", action="version", version=f"shift-operator {__version__}")

    def flag(name: str, parse: Callable[[str], Value], default: str | None, metavar: str, text: str) -> None:
        variable = "SHIFT_OPERATOR_" + name.upper().replace("-", "_")
        text += f" Default: {default}." if default else ""
        # argparse parses a default that is a string by `type` too: a bad variable gets the same sentence as a flag.
        parser.add_argument(
            f"--{name}",
            type=parse,
            default=environ.get(variable) or default,
            metavar=metavar,
            help=f"{text} [{variable}]".replace("%", "%%"),
        )

    flag(
        "prometheus-url",
        _url,
        None,
        "URL",
        "Prometheus that scrapes the engines. Without it thresholds stay where they are.",
    )
    flag("prometheus-token-file", Path, None, "FILE", "Bearer token for Prometheus; read again for each query.")
    flag("prometheus-ca-file", Path, None, "FILE", "CA bundle that signed Prometheus's certificate.")
    flag("decision-interval-seconds", _seconds, "15", "SECONDS", "Time between two looks at the metrics.")
    flag("resync-seconds", _seconds, "600", "SECONDS", "Every object is read anew and compared at least this often.")
    flag("workers", _count, "2", "N", "ShiftDeployments reconciled at the same time.")
    flag("watch-namespaces", _namespaces, None, "NAMES", "Comma-separated namespaces to serve instead of all.")
    flag(
        "instance",
        _instance,
        None,
        "NAME",
        "Serve the ShiftDeployments with the label shiftparallel.io/operator=NAME, and no others. Without it: those "
        "without that label.",
    )
    flag(
        "lease",
        _lease,
        None,
        "NAMESPACE/NAME",
        "Lease that decides which of several processes works; the others stand by. Without it this one takes it "
        "that it is alone.",
    )
    flag(
        "lease-seconds",
        _lease_seconds,
        "12",
        "SECONDS",
        "A leader that does not renew its lease for so long is followed. The same for all processes.",
    )
    flag("host", _address, "127.0.0.1", "IP", "Address for /healthz, /readyz and /metrics.")
    flag("port", _port, "8080", "PORT", "Port for /healthz, /readyz and /metrics; 0 takes a free one.")
    flag("log-level", _log_level, "INFO", "LEVEL", f"One of {', '.join(LOG_LEVELS)}.")

    values = vars(parser.parse_args(argv))
    values["watch_namespaces"] = values["watch_namespaces"] or ()
    values["instance"] = values["instance"] or ""
    for name in ("prometheus_token_file", "prometheus_ca_file"):
        if values[name] is not None and not os.access(values[name], os.R_OK):
            parser.error(
                f"argument --{name.replace('_', '-')}: {values[name]} cannot be read; mount it, or drop the flag"
            )
    return Settings(**values)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise argparse.ArgumentTypeError(f"{text!r} is no http(s) URL; write it as http://prometheus.monitoring:9090")
    return text.rstrip("/")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds between 0.1 and 86400")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number between 1 and 256")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write a number between 0 and 65535")
    return int(text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address; in a pod write $(POD_IP)") from None


def _namespaces(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    bad = [name for name in names if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)]
    if bad:
        raise argparse.ArgumentTypeError(f"{bad[0]!r} is no namespace name; write them as team-a,team-b")
    return names


def _instance(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no label value; write a name as team-a")
    return text


def _lease(text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace) or not re.fullmatch(
        r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", name
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is no Lease; write it as $(POD_NAMESPACE)/shift-operator")
    return namespace, name


def _lease_seconds(text: str) -> float:
    # Below 3 s a renewal every sixth of it would come late on a busy machine.
    if not text.isdecimal() or not 3 <= int(text) <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds between 3 and 600")
    return float(text)


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is no log level; choose one of {', '.join(LOG_LEVELS)}")
    return text.upper()
