"""ServiceAccount tokens by TokenRequest, bound to the pod and renewed after 80 % of their life, as the kubelet does."""

from __future__ import annotations

import time
from dataclasses import dataclass

from localcluster.kubelet.api import Api
from localcluster.kubelet.objects import Json, seconds_of, uid_of

RENEW_AFTER = 0.8
RENEW_SECONDS = 24 * 3600.0
"""A long-lived token is renewed after a day at the latest."""


@dataclass(frozen=True)
class Token:
    """A token and the Unix times between which it serves."""

    text: str
    requested_at: float
    expires_at: float

    def is_due(self, now: float) -> bool:
        """Time to ask for the next one."""
        life = self.expires_at - self.requested_at
        return now >= self.requested_at + min(RENEW_AFTER * life, RENEW_SECONDS)


class Tokens:
    """The tokens of one pod, one per (audience, lifetime)."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._tokens: dict[tuple[str, int], Token] = {}

    async def token(self, pod: Json, audience: str, seconds: int) -> str:
        """A token with life left. An empty audience is the API server's own. Raises ApiError."""
        held = self._tokens.get((audience, seconds))
        now = time.time()
        if held is None or held.is_due(now):
            held = self._tokens[audience, seconds] = await self._request(pod, audience, seconds, now)
        return held.text

    async def _request(self, pod: Json, audience: str, seconds: int, now: float) -> Token:
        meta = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": uid_of(pod)}
        spec: Json = {"expirationSeconds": seconds, "boundObjectRef": bound}
        if audience:
            spec["audiences"] = [audience]
        answer = await self.api.create(
            f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        return Token(answer["status"]["token"], now, seconds_of(answer["status"]["expirationTimestamp"]))
