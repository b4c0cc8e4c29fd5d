"""kopf's part: it watches what concerns us and tells the cache and the queue, nothing else.

Only `on.event` handlers: kopf then adds no finalizer, no annotation and no handler state to any object, so a
ShiftDeployment can be deleted while we are down, and our own status is the only thing we write to it. kopf's errors and
retries cover its requests; ours are the queue's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from shift_operator.api import labels
from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.credentials import Credentials
from shift_operator.cluster.resources import SHIFT_DEPLOYMENTS, WATCHED, Resource

Handler = Callable[..., Awaitable[None]]


async def watch(
    credentials: Credentials,
    cache: Cache,
    on_change: Callable[[DeploymentKey], None],
    *,
    namespaces: tuple[str, ...],
    on_started: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Keeps `cache` current and reports whose children changed, until `stop` is set. Needs a filled cache.

    Raises kopf's error when the API server refuses a watch for good, e.g. for a missing permission.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login(credentials))
    for resource in WATCHED:
        kopf.on.event(resource.group or "", resource.version, resource.plural, registry=registry)(
            _handler(resource, cache, on_change)
        )
    ignored = asyncio.all_tasks()  # kopf ends by cancelling every task that it takes for its own
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=_settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        stop_flag=stop,
    )
    on_started()
    await kopf.run_tasks(tasks, ignored=ignored)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Neither namespaces nor CRDs are watched: what we serve is fixed at start, and RBAC stays small.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.networking.enforce_retry_after = True
    settings.watching.chunk_size = 500
    for resource in WATCHED:
        if resource is not SHIFT_DEPLOYMENTS:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = labels.OURS
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


def _handler(resource: Resource, cache: Cache, on_change: Callable[[DeploymentKey], None]) -> Handler:
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        body = event["object"]
        is_news = cache.drop(resource, body) if event["type"] == "DELETED" else cache.put(resource, body)
        owner = cache.owner_of(resource, body)
        if is_news and owner is not None:
            on_change(DeploymentKey(*owner))

    changed.__name__ = f"{resource.plural}_changed"
    return changed
