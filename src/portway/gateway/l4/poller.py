"""One epoll instance below the event loop: thousands of sockets, one callback of the loop for all that are ready.

The loop's own `add_reader` costs several system calls and objects for each socket; here registering is one call and
closing a socket is all it takes to forget it. Level-triggered. A handler may be called for an event of a socket that
was closed a moment ago and whose number has been given to another: it must take "not ready" for an answer.
"""

import asyncio
import select
from collections.abc import Callable

IN, OUT = select.EPOLLIN, select.EPOLLOUT
BROKEN = select.EPOLLERR | select.EPOLLHUP
_BATCH = 256
"""Events handled before the loop gets a turn."""

Handler = Callable[[int], None]
"""Called with the events that are there."""


class Poller:
    """Watches sockets for a loop until closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def add(self, fd: int, events: int, handler: Handler) -> None:
        """Begin to watch a socket that is not watched."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Watch it for something else."""
        self._epoll.modify(fd, events)

    def rest(self, fd: int) -> None:
        """Watch it no longer, not even for its end, which epoll would tell for ever; `add` begins again."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Before a socket that may be watched is closed. The kernel does the rest."""
        self._handlers.pop(fd, None)

    def _turn(self) -> None:
        handlers = self._handlers
        for fd, events in self._epoll.poll(0, _BATCH):
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
