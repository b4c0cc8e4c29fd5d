"""kube-apiserver: RBAC, loopback Services, an audit log of every write; the anonymous see its health alone."""

from __future__ import annotations

from typing import Any

import yaml

from localcluster.ports import LOOPBACK
from localcluster.site import Component, Site

AUDIT_LOG = "audit.log"
WRITES = ["create", "update", "patch", "delete", "deletecollection"]
AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One line per request, when it is answered. Reads are left out: the log is there to count writes by.
    "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
    "omitManagedFields": True,
    "rules": [
        # With the object as stored, whose resourceVersion gives the order: what ran at any time can be told afterwards.
        {
            "level": "RequestResponse",
            "verbs": WRITES,
            "resources": [
                {"group": "", "resources": ["pods", "pods/status"]},
                {"group": "apps", "resources": ["deployments"]},
            ],
        },
        {"level": "Metadata", "verbs": WRITES},
        {"level": "None"},
    ],
}
AUTHENTICATION: dict[str, Any] = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AuthenticationConfiguration",
    "anonymous": {"enabled": True, "conditions": [{"path": path} for path in ("/livez", "/readyz", "/healthz")]},
}


def apiserver(site: Site, *, audit: bool) -> Component:
    authority, server = site.authority.certificate, site.server
    to_kubelet = site.authority.issue("kube-apiserver-kubelet-client")
    authentication = site.path("authentication.yaml")
    authentication.write_text(yaml.safe_dump(AUTHENTICATION))
    argv = [
        str(site.binaries["kube-apiserver"]),
        f"--etcd-servers=https://{site.address('etcd')}",
        f"--etcd-cafile={authority}",
        f"--etcd-certfile={site.admin.certificate}",
        f"--etcd-keyfile={site.admin.key}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={site.ports['kube-apiserver']}",
        f"--tls-cert-file={server.certificate}",
        f"--tls-private-key-file={server.key}",
        f"--client-ca-file={authority}",
        f"--authentication-config={authentication}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={site.signing.certificate}",
        f"--service-account-signing-key-file={site.signing.key}",
        f"--service-cluster-ip-range={site.network.service_cidr}",
        # Endpoints must not be loopback addresses; the node agent takes the Service `kubernetes` to this server.
        "--endpoint-reconciler-type=none",
        f"--kubelet-certificate-authority={authority}",
        f"--kubelet-client-certificate={to_kubelet.certificate}",
        f"--kubelet-client-key={to_kubelet.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]
    if audit:
        policy = site.path("audit-policy.yaml")
        policy.write_text(yaml.safe_dump(AUDIT_POLICY))
        argv += [
            f"--audit-policy-file={policy}",
            f"--audit-log-path={site.path(AUDIT_LOG)}",
            "--audit-log-mode=blocking",  # a request's line is in the file before its answer is sent
        ]
    return Component("kube-apiserver", tuple(argv), site.address("kube-apiserver"), f"{site.api_server}/readyz")
