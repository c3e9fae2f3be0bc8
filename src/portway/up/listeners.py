"""Are the ports free? Asked by binding, before anything starts; the answer is one line, not a crash of a child."""

import contextlib
import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from portway.up.errors import UpError


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that will be listened on, and the flags that move it."""

    host: str
    port: int
    port_flag: str
    host_flag: str


def check(listeners: Iterable[Listener]) -> None:
    """Bind each and let go again; UpError names the first that cannot be had.

    SO_REUSEADDR as the workers set it, so that a port in TIME_WAIT counts as free; not SO_REUSEPORT, with which a
    second cluster would quietly share the port of the first.
    """
    for listener in listeners:
        family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listener.host, listener.port))
            except OSError as error:
                raise UpError(_explain(listener, error)) from error


def _explain(listener: Listener, error: OSError) -> str:
    where = f"{listener.host}:{listener.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken by another program; choose another port with {listener.port_flag}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} needs privileges to listen on; choose a port above 1023 with {listener.port_flag}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{listener.host} is not an address of this machine; choose another with {listener.host_flag}"
    return f"cannot listen on {where}: {error.strerror}"
