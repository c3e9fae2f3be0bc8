"""What stands in for the transport of a connection that is lost.

A connection's objects refer to each other: transport, protocol, parser. Left so, they and their TLS buffers would
wait for the cycle collector; with the transport replaced and the parser dropped they are freed at once.
"""

import asyncio


class _Gone(asyncio.Transport):
    """Takes everything and does nothing."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody reads it."""

    def write_eof(self) -> None:
        """It has ended."""

    def can_write_eof(self) -> bool:
        """It has ended."""
        return False

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""

    def close(self) -> None:
        """It is closed."""

    def abort(self) -> None:
        """It is closed."""

    def is_closing(self) -> bool:
        """It is closed."""
        return True


GONE = _Gone()
