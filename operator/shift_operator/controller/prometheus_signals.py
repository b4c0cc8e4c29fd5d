"""Prometheus as the decision loop asks it."""

from __future__ import annotations

from shift_operator.controller.decision_loop import Look
from shift_operator.controller.settings import Settings


def signal_reader(settings: Settings) -> Look | None:
    """None where no Prometheus is configured."""
    return None
