"""The service proxy's process: reads its settings, watches the cluster, serves until it is told to stop.

    python -m portway.gateway.l4  < settings.json

SIGTERM closes the listeners, lets connections end and exits 0; a second one exits at once.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys

import uvloop

from portway.client.api import ApiClient
from portway.client.cluster import ClusterConfig
from portway.client.view import ClusterView
from portway.gateway.l4.proxy import KINDS, ServiceProxy
from portway.gateway.l4.settings import ServiceProxySettings
from portway.gateway.process import end_with_parent, prepare_process

USER, GROUPS = "system:kube-proxy", ("system:authenticated",)


async def _main(settings: ServiceProxySettings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def stopped() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped)
    client = ApiClient(ClusterConfig.local(settings.api_socket, USER, GROUPS), user_agent="portway (kube-proxy)")
    view = ClusterView(kinds=KINDS)
    proxy = ServiceProxy(settings, view, client, loop)
    await view.start(client, retry_cap=2.0)
    running = asyncio.create_task(proxy.run(), name="service proxy")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([running, stopping, *filter(None, [view.task])], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise RuntimeError("the service proxy or its view of the cluster ended")
    finally:
        for task in (running, stopping):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await proxy.drain(settings.limits.drain_timeout)
        await view.stop()
        await client.close()


def main() -> None:
    """The process. It ends with the supervisor, however that ends."""
    end_with_parent()
    prepare_process()
    logging.basicConfig(level=logging.WARNING, format="portway: %(message)s", stream=sys.stderr)
    uvloop.run(_main(ServiceProxySettings.from_json(sys.stdin.read())))


if __name__ == "__main__":
    main()
