"""kopf's part: it watches what concerns us and tells the cache and the queue, nothing else.

Only `on.event` handlers: kopf then adds no finalizer, no annotation and no handler state to any object, so a
ShiftDeployment can be deleted while we are down, and our own status is the only thing we write to it. kopf's errors and
retries cover its requests; ours are the queue's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import kopf

from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import PAGE_SIZE
from shift_operator.cluster.credentials import Credentials
from shift_operator.cluster.resources import NODES, PODS, WATCHED, Resource

Handler = Callable[..., Awaitable[None]]

IDLE_SECONDS = 0.1
"""kopf has a task per object that changes, which keeps the last event for so long; its default is 5 s."""


class _NoEssence(kopf.DiffBaseStorage):
    """What kopf compares with for handlers of changes, of which we have none.

    By default it copies the object of each event deeply, which for a child Deployment costs more than all else that
    kopf does with the event.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is compared, so nothing is kept; kopf writes to no object."""


async def watch(
    credentials: Credentials,
    cache: Cache,
    on_change: Callable[[DeploymentKey], None],
    on_free_gpus: Callable[[], None],
    *,
    namespaces: tuple[str, ...],
    on_started: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Keeps `cache` current and reports whose children changed, until `stop` is set. Needs a filled cache.

    `on_free_gpus` is called when a pod of ours is gone, or a node came or offers something else.

    Raises kopf's error when the API server refuses a watch for good, e.g. for a missing permission.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login(credentials))
    for resource in WATCHED:
        if namespaces and not resource.namespaced:
            continue  # no permission to see it goes with some namespaces
        kopf.on.event(resource.group or "", resource.version, resource.plural, registry=registry)(
            _handler(resource, cache, on_change, on_free_gpus)
        )
    ignored = asyncio.all_tasks()  # kopf ends by cancelling every task that it takes for its own
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=_settings(cache),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
    )
    on_started()
    await kopf.run_tasks(tasks, ignored=ignored)


def _settings(cache: Cache) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Neither namespaces nor CRDs are watched: what we serve is fixed at start, and RBAC stays small.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.networking.enforce_retry_after = True
    settings.persistence.diffbase_storage = _NoEssence()
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.watching.chunk_size = PAGE_SIZE
    for resource in WATCHED:
        selector = cache.selector_of(resource)
        if selector:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
    return settings


def _login(credentials: Credentials) -> Callable[..., Awaitable[kopf.ConnectionInfo]]:
    async def login(**_: Any) -> kopf.ConnectionInfo:
        """Called at start and after each 401, so a renewed token is read then."""
        configuration = credentials.configuration
        return kopf.ConnectionInfo(
            server=credentials.server,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            token=credentials.token(fresh=True),
            proxy_url=configuration.proxy,
        )

    return login


def _handler(
    resource: Resource, cache: Cache, on_change: Callable[[DeploymentKey], None], on_free_gpus: Callable[[], None]
) -> Handler:
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        body = event["object"]
        known = cache.get(NODES, "", body["metadata"]["name"]) if resource is NODES else None
        is_news = cache.drop(resource, body) if event["type"] == "DELETED" else cache.put(resource, body)
        owner = cache.owner_of(resource, body)
        if is_news and owner is not None:
            on_change(DeploymentKey(*owner))
        is_gone = resource is PODS and event["type"] == "DELETED"
        if is_news and (is_gone or (resource is NODES and _offer(known) != _offer(body))):
            on_free_gpus()

    changed.__name__ = f"{resource.plural}_changed"
    return changed


def _offer(node: Mapping[str, Any] | None) -> object:
    """What of a node decides which pods it takes; it also tells every few minutes that it lives."""
    if node is None:
        return None
    status = node.get("status") or {}
    conditions = {(c["type"], c["status"]) for c in status.get("conditions") or ()}
    return node["metadata"].get("labels"), node.get("spec"), status.get("allocatable"), conditions
