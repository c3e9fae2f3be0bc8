"""Create, update and delete as values, and the compare-and-swap decision. Pure.

A write is held against the key's current state; out comes the change to make, or the error to raise. Who keeps the
state, and what is on disk when, is for `memory.py` and `writer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from portway.storage.errors import InvalidKey, KeyExists, KeyMissing, RevisionMismatch
from portway.storage.protocol import Event, KeyValue


@dataclass(frozen=True, slots=True)
class Change:
    """A write that has been granted: the event to tell, and the key before it (None: there was none)."""

    event: Event
    before: KeyValue | None

    @property
    def after(self) -> KeyValue | None:
        """The key after the write; None when it was deleted."""
        return self.event.kv if self.event.type == "PUT" else None


@dataclass(frozen=True, slots=True)
class Create:
    """Make a key that must not exist."""

    key: str
    value: bytes

    def decide(self, current: KeyValue | None, revision: int) -> Change:
        """The change this makes as write number `revision`; raises `KeyExists` or `InvalidKey`."""
        check_key(self.key)
        if current is not None:
            raise KeyExists(current)
        return Change(Event("PUT", KeyValue(self.key, self.value, revision, revision), None, True), None)


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the value of a key that must be at the expected revision."""

    key: str
    value: bytes
    expected_revision: int

    def decide(self, current: KeyValue | None, revision: int) -> Change:
        """The change this makes as write number `revision`; raises `RevisionMismatch`."""
        if current is None or current.mod_revision != self.expected_revision:
            raise RevisionMismatch(self.key, self.expected_revision, current)
        kv = KeyValue(self.key, self.value, current.create_revision, revision)
        return Change(Event("PUT", kv, current.value, False), current)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key that must be at the expected revision (0: at any)."""

    key: str
    expected_revision: int = 0

    def decide(self, current: KeyValue | None, revision: int) -> Change:
        """The change this makes as write number `revision`; raises `KeyMissing` or `RevisionMismatch`."""
        if current is None:
            raise KeyMissing(self.key)
        if self.expected_revision not in (0, current.mod_revision):
            raise RevisionMismatch(self.key, self.expected_revision, current)
        kv = KeyValue(self.key, current.value, current.create_revision, revision)
        return Change(Event("DELETE", kv, current.value, False), current)


Write = Create | Update | Delete


def check_key(key: str) -> None:
    """Refuse what a medium that stores UTF-8 could not give back. Only a create can bring in a new key."""
    try:
        valid = bool(key.encode())
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise InvalidKey(key)
