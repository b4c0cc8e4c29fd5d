"""From the objects of the API to the laws' own numbers."""

from typing import Any

import pytest
from shift_operator.api.policy import ClusterShiftPolicySpec, PolicyMode
from shift_operator.api.profile import OtherDegree, ShiftProfile
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeploymentSpec
from shift_operator.api.signals import CurvePoint
from shift_operator.control.budget import NamespaceBudget
from shift_operator.control.guidance import measured, profile_of, settings_of
from shift_operator.control.inputs import PolicySettings

H100, L4 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"
SPEC = ShiftDeploymentSpec.model_validate(
    {
        "model": {"uri": "hf://org/m", "revision": "r1"},
        "engine": {"image": "engine:1"},
        "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
    }
)


def policy(**spec: Any) -> PolicySettings:
    return settings_of(ClusterShiftPolicySpec.model_validate(spec))


def profile(name: str, created: str = "2026-01-01T00:00:00Z", source: str = "Operator", **key: Any) -> ShiftProfile:
    points = [{"tokens": 1, "microseconds": 8000}, {"tokens": 2048, "microseconds": 24_000}]
    return ShiftProfile.from_body(
        {
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {
                "key": {
                    "model": "hf://org/m",
                    "revision": "r1",
                    "gpu": H100,
                    "gpusPerReplica": 2,
                    "degree": {"sequence": 2, "tensor": 1},
                    "engineVersion": "0.1.0",
                }
                | key,
                "source": source,
                "curves": [{"sequence": s, "tensor": t, "points": points} for s, t in ((1, 2), (2, 1))],
                "kvTokens": 480_000,
            },
        }
    )


def test_a_policy_without_fields_is_the_built_in_one() -> None:
    assert policy() == PolicySettings()


def test_each_field_reaches_its_law() -> None:
    settings = policy(
        intervalSeconds=30,
        signals={"windowSeconds": 240, "maxAgeSeconds": 180},
        behavior={
            "threshold": {"minGainPercent": 5},
            "degree": {"minGainPercent": 20, "holdSeconds": 7200},
            "replicas": {"stabilizationSeconds": 900},
        },
        onMissingMetrics="Fallback",
        fallbackAfterSeconds=600,
        budget={"maxGPUs": 48, "namespaces": [{"namespace": "a", "maxGPUs": 32, "guaranteedGPUs": 16, "weight": 2}]},
    )
    ages = {settings.threshold.max_age_seconds, settings.degree.max_age_seconds, settings.replicas.max_age_seconds}
    assert ages == {180.0}
    assert settings.threshold.min_gain_percent == 5
    assert (settings.degree.min_gain_percent, settings.degree.hold_seconds) == (20, 7200)
    assert settings.replicas.stabilization_seconds == 900
    assert (settings.fallback_after_seconds, settings.interval_seconds) == (600.0, 30.0)
    assert settings.budget.max_gpus == 48
    assert settings.budget.namespaces == {"a": NamespaceBudget(32, 16, 2)}


@pytest.mark.parametrize("whole", PolicyMode)
@pytest.mark.parametrize("knob", [None, *PolicyMode])
def test_a_knob_never_may_more_than_its_policy(whole: PolicyMode, knob: PolicyMode | None) -> None:
    rank = [PolicyMode.DISABLED, PolicyMode.ADVISORY, PolicyMode.ENFORCE]
    settings = policy(mode=whole, behavior={"replicas": {"mode": knob}})
    assert settings.threshold_mode is settings.degree_mode is whole
    assert settings.replicas_mode is (whole if knob is None else min(whole, knob, key=rank.index))


def test_microseconds_become_seconds() -> None:
    found = measured(profile("m"))
    degree = Degree(sequence=2, tensor=1)
    assert found.curves[degree] == (CurvePoint(1, 0.008), CurvePoint(2048, 0.024))
    assert found.kv_capacity_tokens == {degree: 480_000.0}


def test_the_kv_cache_at_other_degrees_reaches_the_law() -> None:
    plain = profile("m")
    other = OtherDegree(sequence=1, tensor=2, kv_tokens=500_000)
    known = plain.model_copy(update={"spec": plain.spec.model_copy(update={"other_degrees": (other,)})})
    assert measured(known).kv_capacity_tokens == {other.degree: 500_000.0, plain.key.degree: 480_000.0}


@pytest.mark.parametrize(
    ("profiles", "gpus", "name"),
    [
        ([], [H100], None),
        ([profile("a")], [H100], "a"),
        ([profile("a")], [], "a"),
        ([profile("a")], [L4], None),
        ([profile("a")], [H100, L4], None),
        ([profile("a", model="hf://org/other")], [H100], None),
        ([profile("a", revision="r2")], [H100], None),
        ([profile("a"), profile("b", gpu=L4)], [], None),
        ([profile("a"), profile("b", gpu=L4)], [L4], "b"),
        ([profile("a"), profile("b", "2026-02-01T00:00:00Z", engineVersion="0.2.0")], [H100], "b"),
        ([profile("a", source="User"), profile("b", "2026-02-01T00:00:00Z", engineVersion="0.2.0")], [H100], "a"),
    ],
)
def test_the_profile_is_that_of_the_replicas(profiles: list[ShiftProfile], gpus: list[str], name: str | None) -> None:
    found = profile_of(SPEC, profiles, gpus)
    assert (found and found.name) == name
