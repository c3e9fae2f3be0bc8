"""Credentials from a plugin: when it is run, and how. What is said to it and what it answers is in `execplugin`.

Run when a credential is needed and there is none that is good: at first, when it has expired, after a 401. Clocks may
be wrong: an answer that is already past by ours is used for a second, and what the server says (401) always counts.
"""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from portway.client.credentials import Credential, CredentialError, bearer
from portway.client.execplugin import ExecPlugin, ExecStatus, decoded, exec_info, is_interactive
from portway.client.tls import TlsContexts, TlsError, TlsSettings

RUN_SECONDS = 300.0
"""A person may have to log in at a browser meanwhile."""
MAX_OUTPUT_BYTES = 1 << 20
"""A token and a chain of certificates are some kilobytes."""
EXPIRED_SECONDS = 1.0
"""How long an answer that is already past is used, so that a wrong clock doesn't mean a run for each request."""
FAILURE_SECONDS = 1.0
"""How long a failure is the answer to everybody who asks."""
MAX_REFUSALS, REFUSAL_SECONDS = 3, 30.0
"""So many runs within so many seconds are made because of 401s: a plugin may open a browser each time."""
DRAIN_SECONDS = 1.0
"""How long output is waited for after the plugin has ended: a child of its may hold the pipe open for ever."""

Runner = Callable[[ExecPlugin], Awaitable[bytes]]
"""Runs a plugin and returns its output. Raises CredentialError."""


class ExecCredentials:
    """`Credentials` that a plugin gives, kept until they expire.

    `tls` has the trust; a client certificate of the plugin is added. `clock` gives unix seconds, `monotonic` seconds.
    """

    def __init__(
        self,
        plugin: ExecPlugin,
        tls: TlsSettings,
        run: Runner | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plugin, self._settings, self._run = plugin, tls, run or PluginProcess()
        self._clock, self._monotonic = clock, monotonic
        self._tls = TlsContexts(tls)
        self._known: Credential | None = None
        self._obtained = 0.0
        self._expired_at_once = False
        self._failure, self._failed_at = "", 0.0
        self._refusals: list[float] = []
        self._running: asyncio.Task[Credential] | None = None

    def cached(self) -> Credential | None:
        known = self._known
        if known is None or self._is_over(known):
            return None
        context = self._tls.current()
        if context is not known.tls:
            self._known = known = replace(known, tls=context)
        return known

    async def current(self) -> Credential:
        known = self.cached()
        if known is not None:
            return known
        if self._failure and self._monotonic() - self._failed_at < FAILURE_SECONDS:
            raise CredentialError(self._failure)
        task = self._running
        if task is None or task.done():
            name = f"credential plugin {self._plugin.command}"
            task = self._running = asyncio.create_task(self._renew(), name=name)
            task.add_done_callback(_retrieve)
        # Who gives up must not end the run that others wait for.
        return await asyncio.shield(task)

    def refused(self, credential: Credential) -> None:
        if credential != self._known:
            return
        now = self._monotonic()
        self._refusals = [moment for moment in self._refusals if now - moment < REFUSAL_SECONDS]
        if len(self._refusals) < MAX_REFUSALS:
            self._refusals.append(now)
            self._known = None
        self._tls.look_again()

    def _is_over(self, known: Credential) -> bool:
        if known.expires is None or self._clock() <= known.expires:
            return False
        return not self._expired_at_once or self._monotonic() - self._obtained >= EXPIRED_SECONDS

    async def _renew(self) -> Credential:
        try:
            self._known = self._made(decoded(self._plugin, await self._run(self._plugin)))
        except CredentialError as error:
            self._failure, self._failed_at = str(error), self._monotonic()
            raise
        self._failure = ""
        self._obtained = self._monotonic()
        self._expired_at_once = self._known.expires is not None and self._clock() > self._known.expires
        return self._known

    def _made(self, status: ExecStatus) -> Credential:
        certificate, key = status.certificate.encode(), status.key.encode()
        settings = replace(self._settings, certificate_data=certificate, key_data=key)
        if settings != self._tls.settings:
            # The context of an unchanged certificate stays the same, and with it the connections.
            try:
                self._tls = TlsContexts(settings)
            except TlsError as error:
                raise CredentialError(f"failed parsing client key/certificate: {error}") from error
        return Credential(bearer(status.token), self._tls.current(), status.expires)


class PluginProcess:
    """Runs a plugin as kubectl does: with our environment and its own, and with our standard error as its own.

    Standard input is ours if it is interactive, else empty. `environ` replaces the process's, `seconds` bounds a run.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, seconds: float = RUN_SECONDS) -> None:
        self._environ = os.environ if environ is None else environ
        self._seconds = seconds

    async def __call__(self, plugin: ExecPlugin) -> bytes:
        interactive = is_interactive(plugin, _is_terminal())
        environ = {**self._environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": exec_info(plugin, interactive)}
        command = self._found(plugin)
        try:
            transport, output = await asyncio.get_running_loop().subprocess_exec(
                _Output,
                command,
                *plugin.args,
                env=environ,
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None,
            )
        except OSError as error:
            raise CredentialError(f"exec: fork/exec {command}: {str(error.strerror).lower()}") from error
        except ValueError as error:
            raise CredentialError(f"exec: {command}: {error}") from error
        try:
            return await self._finished(plugin, transport, output)
        finally:
            if transport.get_returncode() is None:
                with suppress(ProcessLookupError):
                    transport.kill()
                await output.exited.wait()
            transport.close()

    async def _finished(self, plugin: ExecPlugin, transport: asyncio.SubprocessTransport, output: "_Output") -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                await output.news.wait()
        except TimeoutError:
            reason = f"exec: executable {plugin.command} did not end within {self._seconds:g} s"
            raise CredentialError(reason) from None
        if len(output.data) <= MAX_OUTPUT_BYTES:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await output.drained.wait()
        if len(output.data) > MAX_OUTPUT_BYTES:
            raise CredentialError(f"exec: executable {plugin.command} printed more than a credential")
        if transport.get_returncode():
            code = max(transport.get_returncode() or 0, -1)  # -1 is Go's for a program that a signal ended
            raise CredentialError(f"exec: executable {plugin.command} failed with exit code {code}")
        return bytes(output.data)

    def _found(self, plugin: ExecPlugin) -> str:
        """The program's path. Our PATH counts, not the plugin's; one beside us by a relative PATH is none, as in Go."""
        if "/" in plugin.command:
            return plugin.command
        found = shutil.which(plugin.command, path=self._environ.get("PATH", ""))
        if found is None or not os.path.isabs(found):
            raise CredentialError(plugin.not_found())
        return found


class _Output(asyncio.SubprocessProtocol):
    """What a plugin prints, up to the limit, and when it is over."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.news = asyncio.Event()
        """Set when it has ended, or has printed too much."""
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        """Set when nothing more can come."""

    def pipe_data_received(self, _: int, data: bytes) -> None:
        if len(self.data) <= MAX_OUTPUT_BYTES:
            self.data += data
        else:
            self.news.set()
            self.drained.set()

    def pipe_connection_lost(self, *_: object) -> None:
        self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()
        self.news.set()


def _is_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def _retrieve(task: "asyncio.Task[Credential]") -> None:
    """Look at a failure that nobody waits for any more, so that asyncio doesn't complain of it."""
    if not task.cancelled():
        task.exception()
