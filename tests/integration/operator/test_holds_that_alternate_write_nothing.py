"""A knob that is held for another reason at each look, and a signal that comes and goes: counted in the audit log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.integration.operator.conftest import Series
from tests.integration.operator.test_the_threshold_follows_the_metrics import series

ADeployment = Callable[..., dict[str, Any]]
LOOKS = 8


def without_steps(seen: Series) -> Series:
    """The deployment while it is idle: the window has no steps."""
    return [(labels, 0.0 if labels["signal"] in ("step_sizes", "steps") else value) for labels, value in seen]


def looks_that_held(operator: Any, reason: str) -> float:
    """Of all deployments of the session: there is only the test's own in mode Auto."""
    held = f'knob="Threshold",mode="Enforce",reason="{reason}",verb="Hold"'
    return float(operator.metric(f"shift_operator_decisions_total{{{held}}}"))


def test_two_reasons_in_turn_are_written_once_each(
    place: Any, prometheus: Any, operator: Any, audit: Any, a_deployment: ADeployment
) -> None:
    place.eventually(operator.ready)
    busy = series(place.namespace, crossover=257)
    prometheus.tell(busy)
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 256}))
    place.eventually(lambda: [d["reason"] for d in place.decisions("Threshold")][-1:] == ["BestAlready"])
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    place.eventually(place.has("ConfigurationApplied", "True"))

    lost = [(labels, value) for labels, value in busy if labels["signal"] != "step_time"]
    prometheus.tell_in_turn(without_steps(busy), lost)
    place.eventually(lambda: place.decisions("Threshold")[-1]["reason"] in ("TooFewSteps", "SignalsMissing"))
    place.eventually(place.has("MetricsAvailable", "False", "MetricsMissing"))
    time.sleep(2)
    begun = {reason: looks_that_held(operator, reason) for reason in ("TooFewSteps", "SignalsMissing")}
    audit.mark()
    place.eventually(lambda: all(looks_that_held(operator, why) >= begun[why] + LOOKS for why in begun))
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == []

    prometheus.tell(busy)
    place.eventually(place.has("MetricsAvailable", "True", "MetricsFound"))
    place.eventually(lambda: place.decisions("Threshold")[-1]["reason"] == "BestAlready")
