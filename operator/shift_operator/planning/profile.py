"""What the operator writes down of an engine's calibration: one ShiftProfile per kind of replica.

Pure: the key and the name follow from the deployment, the engine and its node's GPU, and whether there is something to
write follows from the profiles that are there. A measurement is written once: later ones of the same key, by other pods
or after a restart, are the same as long as they lie within the noise, so an operator that starts anew writes nothing.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shift_operator.api.base import API_VERSION
from shift_operator.api.labels import MANAGED_BY, OPERATOR
from shift_operator.api.profile import (
    KIND,
    MAX_KV_TOKENS,
    MAX_STEP_MICROSECONDS,
    OtherDegree,
    ProfileCurve,
    ProfileKey,
    ProfilePoint,
    ProfileSource,
    ShiftProfile,
    ShiftProfileSpec,
)
from shift_operator.api.schedule import MAX_TOKENS, Degree
from shift_operator.api.shiftdeployment import ShiftDeploymentSpec
from shift_operator.api.signals import CurvePoint
from shift_operator.planning.manifest import Body, Manifest

GPU_PRODUCT = "nvidia.com/gpu.product"
"""The node label that names the GPU, set by the device plugin's feature discovery."""

NOISE = 0.1
"""Curves whose times lie closer than this to each other, on average, are one measurement."""

MAX_POINTS = 64
"""Points of a curve, at most."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What an engine's weights and its KV cache take on one GPU, in bytes, with the degrees that it has loaded."""

    weight_bytes: int
    kv_bytes: int
    loaded: frozenset[Degree]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one engine measured at its start. `curves`: points by ascending tokens, by degree. `degrees`: all that the
    model can run at, loaded or not."""

    engine_version: str
    gpus: int
    degree: Degree
    curves: Mapping[Degree, tuple[CurvePoint, ...]]
    crossover_tokens: int | None
    kv_tokens: int
    degrees: frozenset[Degree] = frozenset()
    memory: Memory | None = None

    def kv_tokens_with(self, degree: Degree) -> int | None:
        """Tokens that the KV cache holds in an engine that is started with this degree beside those that are loaded
        now; None where the memory is not known, 0 where the weights leave none.

        A GPU keeps 1 / tensor of the weights of the degree with the least tensor parallelism: the others' lie in its
        storage. All of the weights are taken to grow so, those too that every GPU has whole, and what is saved by less
        sequence parallelism is left out: both err to fewer tokens.
        """
        memory = self.memory
        if memory is None or not memory.loaded or memory.kv_bytes <= 0:
            return None
        tensor = min(loaded.tensor for loaded in memory.loaded)
        more = memory.weight_bytes * max(tensor / degree.tensor - 1, 0.0)
        return int(self.kv_tokens * max(1 - more / memory.kv_bytes, 0.0))


def gpu_product(node: Body | None) -> str | None:
    """The GPU of a node; None where nothing names it, or the node is not seen."""
    return ((node or {}).get("metadata", {}).get("labels") or {}).get(GPU_PRODUCT) or None


def profile_key(spec: ShiftDeploymentSpec, calibration: Calibration, gpu: str) -> ProfileKey | None:
    """The kind of replica that was measured; None where the engine does not run what the spec says.

    That is so during a rollout, and where the model runs plain tensor parallelism only: its curves say nothing of the
    degree that the deployment asks for.
    """
    parallelism = spec.parallelism
    if (calibration.gpus, calibration.degree) != (parallelism.gpus_per_replica, parallelism.degree):
        return None
    return ProfileKey(
        model=spec.model.uri,
        revision=spec.model.revision,
        gpu=gpu,
        gpus_per_replica=parallelism.gpus_per_replica,
        degree=parallelism.degree,
        engine_version=calibration.engine_version,
    )


def profile_name(key: ProfileKey) -> str:
    """The name of the operator's profile of this key: the model's for people, a hash of the whole key for the rest."""
    model = re.sub("[^a-z0-9]+", "-", key.model.rpartition("/")[2].lower()).strip("-")[:40].rstrip("-") or "model"
    digest = hashlib.sha256(json.dumps(key.to_body(), sort_keys=True).encode()).hexdigest()[:10]
    return f"{model}-{key.degree.sequence}x{key.degree.tensor}-{digest}"


def new_profile(key: ProfileKey, calibration: Calibration, profiles: Iterable[ShiftProfile]) -> Manifest | None:
    """The profile to apply; None where there is nothing to write.

    That is so where a user's own profile has the key, where the operator's says the same within the noise, and where
    the calibration lacks a curve that a profile needs or two points of it.
    """
    of_key = [profile for profile in profiles if profile.key == key]
    if any(profile.spec.source is ProfileSource.USER for profile in of_key):
        return None
    spec = _spec(key, calibration)
    if spec is None or any(_same(profile.spec, spec) for profile in of_key):
        return None
    metadata = {"name": profile_name(key), "labels": {MANAGED_BY: OPERATOR}}
    return Manifest({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec.to_body()})


def _spec(key: ProfileKey, calibration: Calibration) -> ShiftProfileSpec | None:
    needed = {Degree(sequence=1, tensor=key.gpus_per_replica), key.degree}
    points = {
        degree: tuple(
            ProfilePoint(tokens=tokens, microseconds=_microseconds(seconds))
            for tokens, seconds in curve
            if 1 <= tokens <= MAX_TOKENS
        )
        for degree, curve in calibration.curves.items()
        if degree.gpus == key.gpus_per_replica
    }
    curves = {degree: of for degree, of in points.items() if 2 <= len(of) <= MAX_POINTS}
    if not needed <= curves.keys() or not 1 <= calibration.kv_tokens <= MAX_KV_TOKENS:
        return None
    return ShiftProfileSpec(
        key=key,
        source=ProfileSource.OPERATOR,
        curves=tuple(
            ProfileCurve(sequence=degree.sequence, tensor=degree.tensor, points=of)
            for degree, of in sorted(curves.items(), key=lambda curve: curve[0].sequence)
        ),
        crossover_tokens=calibration.crossover_tokens,
        kv_tokens=calibration.kv_tokens,
        other_degrees=tuple(
            OtherDegree(sequence=degree.sequence, tensor=degree.tensor, kv_tokens=tokens)
            for degree in sorted(calibration.degrees - {key.degree}, key=lambda each: each.sequence)
            for tokens in [calibration.kv_tokens_with(degree)]
            if tokens is not None and degree.gpus == key.gpus_per_replica
        ),
    )


def _microseconds(seconds: float) -> int:
    return min(max(1, round(seconds * 1e6)), MAX_STEP_MICROSECONDS)


def _same(one: ShiftProfileSpec, other: ShiftProfileSpec) -> bool:
    """Whether two specs of one key differ by no more than measuring twice does."""
    tokens, other_tokens = _kv_tokens(one), _kv_tokens(other)
    if tokens.keys() != other_tokens.keys():
        return False
    if any(abs(tokens[d] - other_tokens[d]) > NOISE * max(tokens[d], other_tokens[d]) for d in tokens):
        return False
    ones, others = _times(one), _times(other)
    if ones.keys() != others.keys():
        return False
    apart = [abs(ones[at] - others[at]) / max(ones[at], others[at]) for at in ones]
    return sum(apart) <= NOISE * len(apart)


def _kv_tokens(spec: ShiftProfileSpec) -> dict[Degree, int]:
    return {other.degree: other.kv_tokens for other in spec.other_degrees} | {spec.key.degree: spec.kv_tokens}


def _times(spec: ShiftProfileSpec) -> dict[tuple[Degree, int], int]:
    return {(curve.degree, point.tokens): point.microseconds for curve in spec.curves for point in curve.points}
