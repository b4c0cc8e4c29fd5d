"""`shift-operator`, also `python -m shift_operator.controller`: flags in, exit code out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from shift_operator.cluster.credentials import NoCredentials
from shift_operator.cluster.errors import Forbidden, LeaseLost, Unauthorized
from shift_operator.cluster.resources import LEASES
from shift_operator.controller.garbage import collect_rarely
from shift_operator.controller.logs import configure_logs
from shift_operator.controller.process import operate
from shift_operator.controller.settings import parse_settings

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the operator. 0 after SIGTERM or SIGINT, 1 with the cause in the log, 2 for a bad flag."""
    settings = parse_settings(argv)
    configure_logs(settings.log_level)
    collect_rarely()
    try:
        asyncio.run(operate(settings))
    except Exception as error:
        cause = _cause(error)
        log.critical("ended by an error", extra={"error": explain(cause)}, exc_info=None if _is_told(cause) else cause)
        return 1
    return 0


def explain(error: BaseException) -> str:
    """The error in a sentence that says what to do about it where we know."""
    match error:
        case Forbidden(resource=resource) if resource == str(LEASES):
            namespace = error.request.namespace
            return f"{error}. Give the operator's Role in {namespace} the verb {error.verb!r} on {resource!r}"
        case Forbidden():
            return f"{error}. Give the operator's ClusterRole the verb {error.verb!r} on {error.resource!r}"
        case Unauthorized():
            return f"{error}. The API server does not know us: check the ServiceAccount's token, or KUBECONFIG"
        case _:
            return str(error) or type(error).__name__


def _cause(error: BaseException) -> BaseException:
    """The first error inside groups of them: what ended one task ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_told(error: BaseException) -> bool:
    """Whether the sentence tells it all, so that a stack trace would only frighten."""
    return isinstance(error, NoCredentials | Forbidden | LeaseLost | Unauthorized | OSError)
