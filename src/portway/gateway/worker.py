"""One gateway worker process: reads its settings, watches the cluster, serves until it is told to stop.

    python -m portway.gateway.worker INDEX  < settings.json

SIGTERM drains and exits 0, a second one exits at once; SIGHUP reads certificates, tokens and passwords again. Exit
code 78 (EX_CONFIG) says that starting it again would not help.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

from portway.client.kubeconfig import KubeconfigError
from portway.gateway.assembly import Followed
from portway.gateway.authentication import Authenticators, ConfigurationError
from portway.gateway.delegation import Delegated
from portway.gateway.filter import Filter
from portway.gateway.health import Health
from portway.gateway.hosts import Hosts
from portway.gateway.localanswers import LocalAnswers
from portway.gateway.pipeline import Door
from portway.gateway.process import end_with_parent, prepare_process
from portway.gateway.record import Recorder
from portway.gateway.server import ListenError, Listeners
from portway.gateway.settings import GatewaySettings

EX_CONFIG = 78
FLUSH = 0.01
"""Seconds between two looks at the records: short, so that formatting a batch never delays a request noticeably."""
SWEEP = 1.0
CERTIFICATE_CHECK = 10
"""Sweeps between two looks at the certificate files."""


Answers = Callable[[Followed, Health], LocalAnswers]
Ready = Callable[[Listeners], None]


class Worker:
    """The parts of one worker, put together."""

    def __init__(self, settings: GatewaySettings, index: int, answers: Answers | None = None) -> None:
        """`answers` makes what the door answers itself, of the first cluster and its health; by default the latter."""
        self._settings = settings
        self._followed = [Followed(cluster) for cluster in settings.clusters]
        cluster, *others = (followed.cluster for followed in self._followed)
        delegated = self._delegated = _delegated(settings, self._followed)
        self._authenticators = Authenticators(
            settings.authentication, cluster.view, delegated.authenticators, delegated.anonymous
        )
        self._recorder = Recorder(settings.record, index)
        health = Health(cluster.view, self._recorder, delegated.checks())
        door = self._door = Door(
            settings,
            cluster,
            self._authenticators,
            self._recorder,
            answers(self._followed[0], health) if answers is not None else health,
            hosts=Hosts(settings.host_bases, (c.label for c in others)) if settings.host_bases else None,
            filter=Filter(settings.filter) if settings.filter is not None else None,
            others=others,
        )
        self._recorder.metrics.gauge("portway_connections", lambda: len(door.crowd.connections))
        self._listeners = Listeners(door, settings)
        self._stop = asyncio.Event()

    async def run(self, ready: Ready | None = None) -> None:
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
            await self._delegated.close()
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

    async def _serve(self, ready: Ready | None) -> None:
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
        # Authenticators come last: they forget what was decided about anonymous callers, whose rules are delegated's.
        of_certificates = certificates.reload if certificates is not None else None
        for reload in (of_certificates, self._delegated.reload, self._authenticators.reload):
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
            for followed in self._followed:
                followed.sweep(self._settings.delegation.outage_grace)
            sweeps += 1
            if sweeps % CERTIFICATE_CHECK == 0 and self._changed():
                self._reload()

    def _changed(self) -> bool:
        """Whether a file that is followed looks different."""
        certificates = self._listeners.certificates
        return (certificates is not None and certificates.changed()) or self._delegated.changed()


def _at_the_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A connection that is cut off because everything ends is nothing to report: uvloop complains of TLS handshakes."""
    if "transport" not in context:
        loop.default_exception_handler(context)


def _delegated(settings: GatewaySettings, clusters: Sequence[Followed]) -> Delegated:
    """The first cluster is asked about tokens; each that is to decide for itself about what happens in it."""
    keys, issuer = settings.authentication.service_account_key_files, settings.authentication.service_account_issuer
    delegated = Delegated(settings.delegation, clusters[0].client, issuer if keys else "")
    for followed, cluster in zip(clusters, settings.clusters, strict=True):
        if cluster.authorization_mode == "Webhook":
            followed.cluster.authorizer = delegated.authorizer(followed.client)
    return delegated


async def _main(settings: GatewaySettings, index: int, answers: Answers | None, ready: Ready | None) -> int:
    code = 0
    try:
        await Worker(settings, index, answers).run(ready if index == 0 else None)
    except* (ListenError, ConfigurationError, KubeconfigError) as errors:
        print(f"portway: {errors.exceptions[0]}", file=sys.stderr, flush=True)
        code = EX_CONFIG
    return code


def main(answers: Callable[[GatewaySettings], Answers] | None = None, ready: Ready | None = None) -> None:
    """The process. `answers`: what makes the door's own answers, of the settings. `ready`: told by the first worker."""
    end_with_parent()
    prepare_process()
    settings = GatewaySettings.from_json(sys.stdin.read())
    made = answers(settings) if answers is not None else None
    sys.exit(uvloop.run(_main(settings, int(sys.argv[1]), made, ready)))


if __name__ == "__main__":
    main()
