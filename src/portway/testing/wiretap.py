"""A TCP relay that keeps what passes through it: for tests that must know what a real client and a server said.

with wiretap(("127.0.0.1", 8001)) as tap:
    ... # a client of 127.0.0.1:{tap.port}
    assert b"Content-Type: application/json" in tap.answered
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

_CHUNK = 65536


@dataclass
class Tap:
    """`asked` is all that clients sent, `answered` all that they got, over every connection, as it came."""

    port: int
    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


@contextmanager
def wiretap(target: tuple[str, int]) -> Iterator[Tap]:
    """Listens on a port of 127.0.0.1 for the time of the block; then every connection is ended."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        tap = Tap(listener.getsockname()[1])
        sockets = [listener]
        serving = threading.Thread(target=_serve, args=(listener, target, tap, sockets))
        serving.start()
        stack.callback(serving.join)
        stack.callback(_end, sockets)
        yield tap


def _end(sockets: list[socket.socket]) -> None:
    for sock in list(sockets):
        with suppress(OSError):  # its peer has gone
            sock.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, target: tuple[str, int], tap: Tap, sockets: list[socket.socket]) -> None:
    """Takes connections until the listener is shut down, and waits for the end of all."""
    pumps: list[threading.Thread] = []
    with suppress(OSError):
        while True:
            client, server = listener.accept()[0], socket.create_connection(target)
            sockets += [client, server]
            pumps.append(threading.Thread(target=_pump, args=(client, server, tap.asked)))
            pumps.append(threading.Thread(target=_pump, args=(server, client, tap.answered)))
            pumps[-2].start()
            pumps[-1].start()
    for pump in pumps:
        pump.join()
    for sock in sockets:
        sock.close()


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):  # either end may go at any time
        while data := source.recv(_CHUNK):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
