"""What happens to forwards, as values: a terminal shows them, `-o json` prints one a line."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from portway.kube.objects import now_rfc3339


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the forward of one port of a target.

    Attributes:
        event: listening, waiting (no pod to connect to), ready (there is one again), connected, closed, failed (a
            local connection that reached no pod, or was lost), trouble (something that is tried again).
        target, remote: as the user called them.
        address, local: where it listens.
        pod, port: what the connection leads to.
        message: why.
        sent, received: bytes of a connection that closed, as the local client sees them.
        connection: number of the connection, from 1.
    """

    event: str
    target: str
    remote: str
    address: str = ""
    local: int = 0
    pod: str = ""
    port: int = 0
    connection: int = 0
    message: str = ""
    sent: int = 0
    received: int = 0

    def to_json(self) -> dict[str, Any]:
        """What says something, with the time."""
        kept = {key: value for key, value in asdict(self).items() if value not in ("", 0) or key in _ALWAYS}
        if self.event == "closed":
            kept |= {"sent": self.sent, "received": self.received}
        return {"time": now_rfc3339(), **kept}


_ALWAYS = ("event", "target", "remote")
Teller = Callable[[Event], None]
