"""`python -m localcluster.kubelet`: the node agent's process. On SIGTERM or SIGINT it ends every container."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import signal
from pathlib import Path

from localcluster.kubelet.agent import Agent, Settings
from localcluster.kubelet.api import Api, Credentials
from localcluster.kubelet.launch import ApiServer
from localcluster.kubelet.node import NodeSpec
from localcluster.kubelet.server import serve
from localcluster.services.proxy import ServiceProxy

log = logging.getLogger("localcluster.kubelet")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m localcluster.kubelet", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="how to reach the API server")
    parser.add_argument("--node", type=NodeSpec.parse, action="append", required=True, metavar="NAME:GPUS")
    parser.add_argument(
        "--images", type=Path, help="the images file (images.py shows its form); without it no image is known"
    )
    parser.add_argument("--root", type=Path, required=True, help="directory of all pods' files; emptied at the start")
    parser.add_argument("--pod-cidr", required=True, help="loopback network of the pods, for example 127.10.0.0/16")
    parser.add_argument(
        "--service-cidr", required=True, help="the API server's --service-cluster-ip-range, loopback too"
    )
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1 for logs and health")
    parser.add_argument("--tls-cert", type=Path, required=True)
    parser.add_argument("--tls-key", type=Path, required=True)
    parser.add_argument("--client-ca", type=Path, required=True, help="whose client certificates may read logs")
    parser.add_argument("--sync-seconds", type=float, default=60.0, help="how often volumes are refreshed (default 60)")
    parser.add_argument("--backoff-seconds", type=float, default=10.0, help="first restart back-off (default 10)")
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    services = ipaddress.IPv4Network(options.service_cidr)
    settings = Settings(
        nodes=options.node,
        root=options.root.absolute(),
        images=options.images.absolute() if options.images else None,
        pod_cidr=options.pod_cidr,
        api_service=ApiServer(str(services[1]), 443),
        port=options.port,
        sync_seconds=options.sync_seconds,
        backoff_seconds=options.backoff_seconds,
    )
    credentials = Credentials.from_kubeconfig(options.kubeconfig)
    loop = asyncio.get_running_loop()
    async with Api(credentials) as api:
        agent = Agent(api, settings)
        proxy = ServiceProxy(api, services, api_server=credentials.server)
        runner = await serve(agent, options.port, options.tls_cert, options.tls_key, options.client_ca)
        try:
            await agent.start()
            work = asyncio.gather(agent.run(), proxy.run())
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, work.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            await agent.stop()
            await proxy.stop()
            await runner.cleanup()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_run(_options()))


if __name__ == "__main__":
    main()
