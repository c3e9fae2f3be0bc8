"""One gateway worker process: reads its settings, watches the cluster, serves until it is told to stop.

    python -m portway.gateway.worker INDEX  < settings.json

SIGTERM drains and exits 0, a second one exits at once; SIGHUP reads certificates, tokens and passwords again. Exit
code 78 (EX_CONFIG) says that starting it again would not help.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import uvloop

from portway.gateway.assembly import Followed
from portway.gateway.authentication import Authenticators, ConfigurationError
from portway.gateway.cluster import Cluster
from portway.gateway.filter import Filter
from portway.gateway.health import Health
from portway.gateway.hosts import Hosts
from portway.gateway.pipeline import Door, LocalAnswers
from portway.gateway.record import Recorder
from portway.gateway.server import ListenError, Listeners
from portway.gateway.settings import GatewaySettings

EX_CONFIG = 78
FLUSH = 0.01
"""Seconds between two looks at the records: short, so that formatting a batch never delays a request noticeably."""
SWEEP = 1.0
CERTIFICATE_CHECK = 10
"""Sweeps between two looks at the certificate files."""
PR_SET_PDEATHSIG = 1


Answers = Callable[[Cluster, Recorder], LocalAnswers]


class Worker:
    """The parts of one worker, put together."""

    def __init__(self, settings: GatewaySettings, index: int, answers: Answers | None = None) -> None:
        """`answers` makes what the door answers itself, of the cluster and the recorder; health checks by default."""
        self._settings = settings
        (followed,) = self._followed = [Followed(cluster) for cluster in settings.clusters]
        cluster = followed.cluster
        self._authenticators = Authenticators(settings.authentication, cluster.view)
        self._recorder = Recorder(settings.record, index)
        door = self._door = Door(
            settings,
            cluster,
            self._authenticators,
            self._recorder,
            (answers or _health)(cluster, self._recorder),
            hosts=Hosts(settings.host_bases) if settings.host_bases else None,
            filter=Filter(settings.filter) if settings.filter is not None else None,
        )
        self._recorder.metrics.gauge("portway_connections", lambda: len(door.crowd.connections))
        self._listeners = Listeners(door, settings)
        self._stop = asyncio.Event()

    async def run(self, ready: Callable[[Listeners], None] | None = None) -> None:
        """Serves until stopped. `ready` is called once it listens."""
        self._obey_signals()
        try:
            self._listeners.bind()
            for followed in self._followed:
                await followed.start()
            await self._serve(ready)
        finally:
            asyncio.get_running_loop().set_exception_handler(_at_the_end)
            self._listeners.close()
            self._recorder.close()
            self._authenticators.close()
            for followed in self._followed:
                await followed.stop()

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stopped)
        if not self._settings.authentication.local:
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not under nohup: it ends with its terminal
            loop.add_signal_handler(signal.SIGHUP, self._stopped)

    async def _serve(self, ready: Callable[[Listeners], None] | None) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._flush(), name="flush"), group.create_task(self._sweep(), name="sweep")]
            if not self._settings.authentication.local:
                await self._first_sync()
            if not self._stop.is_set():
                await self._listeners.open()
                if ready is not None:
                    ready(self._listeners)
                gc.collect()
                gc.freeze()
                await self._stop.wait()
                await self._listeners.drain()
            for task in tasks:
                task.cancel()

    async def _first_sync(self) -> None:
        """Nothing is served from half a view; but a stop while waiting for the first one is obeyed."""
        synced = asyncio.ensure_future(self._door.cluster.view.wait_synced())
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((synced, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (synced, stopped):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _stopped(self) -> None:
        if self._stop.is_set():
            os._exit(1)
        self._stop.set()

    def _reload(self) -> None:
        """Each by itself: a broken certificate must not keep a withdrawn token in force."""
        certificates = self._listeners.certificates
        for reload in (certificates.reload if certificates is not None else None, self._authenticators.reload):
            try:
                if reload is not None:
                    reload()
            except (ListenError, ConfigurationError) as error:
                print(f"portway: reload: {error}; what was read before stays in force", file=sys.stderr, flush=True)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH)
            self._recorder.flush()

    async def _sweep(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP)
            self._door.sweep()
            sweeps += 1
            certificates = self._listeners.certificates
            if sweeps % CERTIFICATE_CHECK == 0 and certificates is not None and certificates.changed():
                self._reload()


def _at_the_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A connection that is cut off because everything ends is nothing to report: uvloop complains of TLS handshakes."""
    if "transport" not in context:
        loop.default_exception_handler(context)


def _health(cluster: Cluster, recorder: Recorder) -> LocalAnswers:
    return Health(cluster.view, recorder)


async def _main(settings: GatewaySettings, index: int) -> int:
    code = 0
    try:
        await Worker(settings, index).run()
    except* (ListenError, ConfigurationError) as errors:
        print(f"portway: {errors.exceptions[0]}", file=sys.stderr, flush=True)
        code = EX_CONFIG
    return code


def prepare_process() -> None:
    """As many files as allowed, and a collector that does not look for garbage where there is next to none."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(20000, 20, 20)


def main() -> None:
    """The process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prepare_process()
    settings = GatewaySettings.from_json(sys.stdin.read())
    sys.exit(uvloop.run(_main(settings, int(sys.argv[1]))))


if __name__ == "__main__":
    main()
