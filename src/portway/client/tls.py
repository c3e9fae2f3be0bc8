"""TLS settings of a connection to an API server, checked as Go's clients do; contexts that follow changing files.

Private keys that come as data never touch a disk: OpenSSL wants a path, and an anonymous memory file has one.
"""

import functools
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter

LOOK_SECONDS = 10.0
"""How often files are looked at. client-go looks every 5 minutes; a look costs a few microseconds."""

logger = logging.getLogger(__name__)


class TlsError(Exception):
    """A certificate or key that can't be read or used, in one line."""


class Session(ssl.SSLObject):
    """A TLS session that uvloop reads and writes without a call of Python's in between: ssl's own methods only pass on
    to the object behind them.
    """

    read = property(attrgetter("_sslobj.read"))
    write = property(attrgetter("_sslobj.write"))
    pending = property(attrgetter("_sslobj.pending"))


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Whom to trust and what to show. Data wins over files, as in a kubeconfig; without an authority: the system's."""

    authority_file: str = ""
    authority_data: bytes = b""
    verify: bool = True
    certificate_file: str = ""
    certificate_data: bytes = field(default=b"", repr=False)
    key_file: str = ""
    key_data: bytes = field(default=b"", repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a context is made from."""
        found = (
            "" if self.authority_data else self.authority_file,
            "" if self.certificate_data else self.certificate_file,
            "" if self.key_data else self.key_file,
        )
        return tuple(filter(None, found))

    def context(self) -> ssl.SSLContext:
        """A client's context. Raises TlsError."""
        try:
            context = _trusting(self.authority_file, self.authority_data)
        except OSError as error:
            where = "data" if self.authority_data else self.authority_file
            raise TlsError(f"cannot use the certificate authority {where}: {_said(error)}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        has_certificate, has_key = self.certificate_data or self.certificate_file, self.key_data or self.key_file
        if bool(has_certificate) != bool(has_key):
            raise TlsError("a client certificate and its key are only of use together")
        if has_certificate:
            _identify(context, self)
        return context


class TlsContexts:
    """The context of some settings, made anew when their files have changed. Raises TlsError when made.

    Files that can't be used later (half-written, a key that isn't the certificate's yet) leave the last context in use
    until they can.
    """

    def __init__(self, settings: TlsSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self._clock = settings, clock
        self._stamps = _stamps(settings.files)
        self._context = settings.context()
        self._look_at = clock() + LOOK_SECONDS

    def current(self) -> ssl.SSLContext:
        """The context for new connections: the same object until something has changed."""
        if self._stamps and self._clock() >= self._look_at:
            self._look()
        return self._context

    def look_again(self) -> None:
        """Make the next `current` look at the files."""
        self._look_at = 0.0

    def _look(self) -> None:
        self._look_at = self._clock() + LOOK_SECONDS
        stamps = _stamps(self.settings.files)
        if stamps == self._stamps:
            return
        try:
            self._context = self.settings.context()
        except TlsError as error:
            logger.warning("%s; what was read before stays in use", error)
        else:
            self._stamps = stamps


@functools.cache
def default_context() -> ssl.SSLContext:
    """The system's trust and no certificate."""
    return TlsSettings().context()


def _stamps(files: tuple[str, ...]) -> tuple[tuple[int, int, int] | None, ...]:
    """What tells one state of the files from another; a mounted Secret changes by its inodes."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = os.stat(file)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _trusting(file: str, data: bytes) -> ssl.SSLContext:
    if data:
        context = ssl.create_default_context(cadata=data.decode("utf-8", "replace"))
    else:
        context = ssl.create_default_context(cafile=file or None)
    context.sslobject_class = Session
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Go trusts whatever certificate it is given as an authority, also one that is not self-signed, and does not insist
    # on key identifiers; clusters in the field rely on both.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _identify(context: ssl.SSLContext, settings: TlsSettings) -> None:
    certificate_at = _path(settings.certificate_file, settings.certificate_data)
    try:
        with certificate_at as certificate, _path(settings.key_file, settings.key_data) as key:
            # An encrypted key must not make OpenSSL ask at the terminal: an empty passphrase fails instead.
            context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        where = "data" if settings.certificate_data else settings.certificate_file
        raise TlsError(f"cannot use the client certificate {where}: {_said(error)}") from error


@contextmanager
def _path(file: str, data: bytes) -> Iterator[str]:
    """A path under which the content can be read."""
    if not data:
        yield file
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _said(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
