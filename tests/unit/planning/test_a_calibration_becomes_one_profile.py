"""Which ShiftProfile is written of an engine's calibration, under which key and name, and when none is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.profile import ProfileKey, ProfileSource, ShiftProfile
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeploymentSpec
from shift_operator.api.signals import CurvePoint
from shift_operator.planning.profile import Calibration, Memory, gpu_product, new_profile, profile_key, profile_name

from tests.sample_calibration import AS_A_PROFILE, GPU

TENSOR, SEQUENCE = Degree(sequence=1, tensor=2), Degree(sequence=2, tensor=1)
CALIBRATION = Calibration(
    engine_version="0.1.0",
    gpus=2,
    degree=SEQUENCE,
    curves={
        TENSOR: (CurvePoint(1, 0.0021), CurvePoint(512, 0.0124)),
        SEQUENCE: (CurvePoint(1, 0.0040), CurvePoint(512, 0.0101)),
    },
    crossover_tokens=384,
    kv_tokens=480_000,
)


WIDE, MIXED, FULL = (Degree(sequence=4 // tensor, tensor=tensor) for tensor in (1, 2, 4))
OF_FOUR = replace(
    CALIBRATION,
    gpus=4,
    degree=MIXED,
    curves={FULL: CALIBRATION.curves[TENSOR], MIXED: CALIBRATION.curves[SEQUENCE]},
    degrees=frozenset({FULL, MIXED, WIDE}),
    memory=Memory(weight_bytes=8_000, kv_bytes=40_000, loaded=frozenset({FULL, MIXED})),
)


def a_spec(**changes: object) -> ShiftDeploymentSpec:
    body = {
        "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "revision": "main"},
        "engine": {"image": "shift-engine:0.1.0"},
        "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
    }
    return ShiftDeploymentSpec.from_body(body | changes)


def a_key(**changes: object) -> ProfileKey:
    key = profile_key(a_spec(), CALIBRATION, GPU)
    assert key is not None
    return key.model_copy(update=changes)


def written(calibration: Calibration = CALIBRATION, *profiles: ShiftProfile) -> ShiftProfile | None:
    manifest = new_profile(a_key(), calibration, profiles)
    return manifest and ShiftProfile.from_body(manifest.body)


def the_profile() -> ShiftProfile:
    profile = written()
    assert profile is not None
    return profile


def test_a_first_calibration_is_written_down() -> None:
    profile = the_profile()
    assert profile.name == profile_name(a_key())
    assert profile.spec.to_body() == {
        "key": {
            "model": "hf://meta-llama/Llama-3.1-8B-Instruct",
            "revision": "main",
            "gpu": GPU,
            "gpusPerReplica": 2,
            "degree": {"sequence": 2, "tensor": 1},
            "engineVersion": "0.1.0",
        },
        **AS_A_PROFILE,
        "otherDegrees": [],
    }


@given(st.floats(min_value=0.95, max_value=1.05), st.floats(min_value=0.95, max_value=1.05))
def test_the_same_within_the_noise_is_not_written_again(time: float, memory: float) -> None:
    """Another pod of the same kind, or an operator that starts anew."""
    curves = {d: tuple(CurvePoint(n, s * time) for n, s in points) for d, points in CALIBRATION.curves.items()}
    again = replace(CALIBRATION, curves=curves, kv_tokens=int(480_000 * memory))
    assert written(again, the_profile()) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(CALIBRATION, kv_tokens=240_000),
        replace(
            CALIBRATION,
            curves=dict(CALIBRATION.curves) | {SEQUENCE: (CurvePoint(1, 0.006), CurvePoint(512, 0.02))},
        ),
        replace(
            CALIBRATION,
            curves={d: (*points, CurvePoint(2048, 0.04)) for d, points in CALIBRATION.curves.items()},
        ),
    ],
    ids=["half the memory", "slower steps", "another size"],
)
def test_another_measurement_replaces_the_operators_own(other: Calibration) -> None:
    replaced = written(other, the_profile())
    assert replaced is not None
    assert replaced.name == the_profile().name, "one profile per key"
    assert written(other, replaced) is None


def test_other_degrees_have_the_kv_cache_that_their_weights_leave() -> None:
    """Loaded are 1x4 and 2x2, so a GPU keeps half of the weights, 8,000 bytes. 4x1 takes them whole: 8,000 more of the
    40,000 that the KV cache has, a fifth."""
    assert OF_FOUR.kv_tokens_with(WIDE) == 384_000
    assert OF_FOUR.kv_tokens_with(FULL) == 480_000
    key = a_key(gpus_per_replica=4, degree=MIXED)
    manifest = new_profile(key, OF_FOUR, [])
    assert manifest is not None
    assert manifest.body["spec"]["otherDegrees"] == [
        {"sequence": 1, "tensor": 4, "kvTokens": 480_000},
        {"sequence": 4, "tensor": 1, "kvTokens": 384_000},
    ]
    profile = ShiftProfile.from_body(manifest.body)
    assert new_profile(key, OF_FOUR, [profile]) is None
    tight = replace(OF_FOUR, memory=Memory(8_000, 16_000, frozenset({FULL, MIXED})))
    assert new_profile(key, tight, [profile]) is not None


def test_weights_that_leave_no_kv_cache_leave_0_and_what_is_not_known_is_left_out() -> None:
    full = replace(OF_FOUR, memory=Memory(8_000, 8_000, frozenset({FULL, MIXED})))
    assert full.kv_tokens_with(WIDE) == 0
    assert replace(OF_FOUR, memory=None).kv_tokens_with(WIDE) is None
    manifest = new_profile(a_key(gpus_per_replica=4, degree=MIXED), replace(OF_FOUR, memory=None), [])
    assert manifest is not None
    assert not manifest.body["spec"].get("otherDegrees")


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.sampled_from([frozenset({FULL}), frozenset({FULL, MIXED})]))
def test_more_weights_on_a_gpu_never_leave_more_tokens(weights: int, kv: int, loaded: frozenset[Degree]) -> None:
    measured = replace(OF_FOUR, memory=Memory(weights, kv, loaded))
    tokens = [measured.kv_tokens_with(degree) for degree in (WIDE, MIXED, FULL)]
    assert tokens == sorted(tokens, key=lambda count: count or 0)
    assert tokens[-1] == 480_000


def test_a_users_own_profile_is_left_alone() -> None:
    own = the_profile().model_copy(
        update={"spec": the_profile().spec.model_copy(update={"source": ProfileSource.USER, "kv_tokens": 1})}
    )
    assert written(CALIBRATION, own) is None
    assert written(CALIBRATION, own, the_profile()) is None


def test_a_new_engine_version_makes_a_new_profile() -> None:
    newer = replace(CALIBRATION, engine_version="0.2.0")
    key = profile_key(a_spec(), newer, GPU)
    assert key is not None
    manifest = new_profile(key, newer, [the_profile()])
    assert manifest is not None
    assert manifest.name != the_profile().name


def test_each_part_of_the_key_gives_another_name() -> None:
    others = [
        a_key(),
        a_key(model="hf://meta-llama/Llama-3.1-70B-Instruct"),
        a_key(revision=None),
        a_key(gpu="NVIDIA-H200"),
        a_key(gpus_per_replica=4, degree=Degree(sequence=4, tensor=1)),
        a_key(gpus_per_replica=4, degree=Degree(sequence=2, tensor=2)),
        a_key(engine_version="0.2.0"),
    ]
    names = [profile_name(key) for key in others]
    assert len(set(names)) == len(others)
    assert names[0].startswith("llama-3-1-8b-instruct-2x1-")


@given(st.text(min_size=1, max_size=512))
def test_every_name_is_one_that_kubernetes_takes(model: str) -> None:
    name = profile_name(a_key(model=model))
    assert len(name) <= 63
    assert name.strip("-") == name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    "engine",
    [replace(CALIBRATION, gpus=4, degree=Degree(sequence=4, tensor=1)), replace(CALIBRATION, degree=TENSOR)],
    ids=["another envelope", "plain tensor parallelism"],
)
def test_an_engine_that_runs_something_else_has_no_key(engine: Calibration) -> None:
    assert profile_key(a_spec(), engine, GPU) is None


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {SEQUENCE: CALIBRATION.curves[SEQUENCE]},
        {TENSOR: CALIBRATION.curves[TENSOR]},
        {d: points[:1] for d, points in CALIBRATION.curves.items()},
    ],
    ids=["calibration is off", "no small steps", "no large steps", "one size"],
)
def test_a_calibration_that_lacks_something_is_not_written(curves: dict[Degree, tuple[CurvePoint, ...]]) -> None:
    assert written(replace(CALIBRATION, curves=curves)) is None


def test_without_a_kv_cache_there_is_no_profile() -> None:
    assert written(replace(CALIBRATION, kv_tokens=0)) is None


def test_the_gpu_is_the_nodes() -> None:
    assert gpu_product({"metadata": {"labels": {"nvidia.com/gpu.product": GPU}}}) == GPU
    assert gpu_product({"metadata": {"labels": {}}}) is None
    assert gpu_product({"metadata": {}}) is None
    assert gpu_product(None) is None
