"""The CRDs on a real API server, and a way to ask it about specs."""

from __future__ import annotations

import copy
import http.client
import json
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from localcluster.errors import CommandFailed

from localcluster import Cluster
from tests.integration.served import served

REPOSITORY = Path(__file__).parents[3]

Answer = Callable[..., str]

# An operator that another folder's tests run in the same cluster must not touch what these tests look at.
UNSERVED = {"shiftparallel.io/operator": "nobody"}

GOOD: dict[str, Any] = {
    "model": {"uri": "hf://org/name"},
    "engine": {"image": "example.com/shift-engine:1"},
    "parallelism": {"gpusPerReplica": 8, "degree": {"sequence": 4, "tensor": 2}},
}


def changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the values at these dotted paths; ... removes one."""
    result: dict[str, Any] = copy.deepcopy(dict(spec))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = result
        for name in parents:
            place = place.setdefault(name, {})
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return result


@pytest.fixture(scope="session", name="changed")
def _changed() -> Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]:
    """`changed` above, for the test files: importlib mode lets them import nothing from here."""
    return changed


@pytest.fixture(scope="session")
def crd(cluster: Cluster) -> Cluster:
    """The session's cluster with the CRDs in it."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds"))
    served(cluster, "shiftdeployments", "clustershiftpolicies", "shiftprofiles")
    return cluster


@pytest.fixture(scope="session")
def api_server(crd: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[http.client.HTTPSConnection]:
    """The API server itself: a hundred questions through kubectl would be a hundred processes."""
    config = yaml.safe_load(crd.kubeconfig.read_text())
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    pair = tmp_path_factory.mktemp("admin") / "pair.pem"
    pair.write_bytes(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
    tls = ssl.create_default_context(cadata=b64decode(server["certificate-authority-data"]).decode())
    tls.load_cert_chain(pair)
    address = urlsplit(server["server"])
    connection = http.client.HTTPSConnection(str(address.hostname), address.port, context=tls, timeout=60)
    yield connection
    connection.close()


@pytest.fixture
def verdict(api_server: http.client.HTTPSConnection) -> Answer:
    """What the API server would say to a new object: the good spec with these changes. Nothing is stored."""

    def verdict(changes: Mapping[str, Any] | None = None, *, name: str = "chat") -> str:
        body = _object("ShiftDeployment", {"name": name}, changed(GOOD, changes or {}))
        return _would_be(api_server, "namespaces/default/shiftdeployments", body)

    return verdict


@pytest.fixture
def answer(crd: Cluster, namespace: str) -> Answer:
    """What the API server says when the good spec with these changes is applied."""
    return partial(_ask, crd, namespace)


@pytest.fixture
def verdict_on(api_server: http.client.HTTPSConnection) -> Callable[[str, Mapping[str, Any]], str]:
    """What the API server would say to a new object of this cluster-wide kind and spec. Nothing is stored."""
    plurals = {"ClusterShiftPolicy": "clustershiftpolicies", "ShiftProfile": "shiftprofiles"}
    return lambda kind, spec: _would_be(api_server, plurals[kind], _object(kind, {"name": "one"}, spec))


@pytest.fixture
def answer_on(crd: Cluster) -> Callable[[str, str, Mapping[str, Any]], str]:
    """What the API server says when an object of this kind, name and spec is applied."""
    return lambda kind, name, spec: _say(crd, _object(kind, {"name": name}, spec))


def _object(kind: str, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "shiftparallel.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _ask(cluster: Cluster, namespace: str, changes: Mapping[str, Any] | None = None, *, name: str = "chat") -> str:
    """ "accepted", or the refusal of the good spec with these changes."""
    metadata = {"name": name, "namespace": namespace, "labels": UNSERVED}
    return _say(cluster, _object("ShiftDeployment", metadata, changed(GOOD, changes or {})))


def _say(cluster: Cluster, body: Mapping[str, Any]) -> str:
    """ "accepted", or the refusal."""
    try:
        cluster.kubectl("apply", "--validate=strict", "-f", "-", stdin=json.dumps(body))
    except CommandFailed as refusal:
        return str(refusal)
    return "accepted"


def _would_be(api_server: http.client.HTTPSConnection, collection: str, body: Mapping[str, Any]) -> str:
    """ "accepted", or the refusal, of creating this without storing it."""
    path = f"/apis/shiftparallel.io/v1alpha1/{collection}?dryRun=All&fieldValidation=Strict"
    api_server.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = api_server.getresponse()
    answer = json.loads(response.read())
    return "accepted" if response.status == 201 else str(answer["message"])
