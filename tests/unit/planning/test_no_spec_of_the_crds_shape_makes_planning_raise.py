"""Specs drawn from the CRD's schema, also those that its rules would refuse: planning answers with children and status.

That is more than what the API server accepts, so an object that was stored before a rule was added is planned, too.
tests/integration/crd/test_accepted_specs_have_acceptable_children.py asks a real API server which of them it accepts.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.plan import OPTIONAL, plan
from shift_operator.planning.replicas import wanted_replicas
from shift_operator.planning.schedule import next_schedule
from shift_operator.planning.status import Observed, status_of

from tests.unit.planning.schema_specs import likely, shapes

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.one_of(likely, shapes), st.none() | st.integers(1, 131072), st.none() | st.integers(0, 1000))
def test_any_shape_has_children_and_a_status(spec: dict[str, Any], threshold: int | None, decided: int | None) -> None:
    deployment = ShiftDeployment.from_body({"metadata": {"name": "chat", "uid": "5f1c"}, "spec": spec})
    schedule = next_schedule(deployment.spec, None, threshold)
    replicas = wanted_replicas(deployment, decided, None)
    children = plan(deployment, schedule, replicas, OPTIONAL)
    assert {child.kind for child in children} >= {"Deployment", "Service", "ConfigMap", *OPTIONAL}
    assert all(json.loads(json.dumps(child.body)) == child.body for child in children)
    status = status_of(Observed(deployment, schedule, replicas), NOW)
    assert status.conditions
    assert json.dumps(status.to_body())
