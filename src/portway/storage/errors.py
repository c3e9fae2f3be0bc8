"""What can go wrong with a store, as one tree.

    StorageError
    ├── InvalidKey          the key is empty or is not Unicode text
    ├── ValueTooLarge       the medium takes no value of this size
    ├── KeyExists           create, and the key is there
    ├── KeyMissing          delete, and the key is not there
    ├── RevisionMismatch    update or delete, and the key has another revision, or none
    ├── Compacted           the revision asked for is too old: its history has been dropped
    ├── FutureRevision      the revision asked for has not happened yet
    ├── WatchLagged         the watcher read too slowly and was cut off
    ├── StoreClosed         the store was closed
    └── StoreUnavailable    the medium behind the store refuses; the message says the way out
        ├── OutcomeUnknown  the write may or may not have happened, and the medium cannot be asked
        ├── StoreFull       there is no room; what was stored before is intact
        ├── MediumFailed    reading or writing failed, maybe for a moment
        ├── CorruptDatabase what the file holds is not what was written
        └── NewerSchema     the file comes from a later Portway

None of them carries a stored value in its message: values may be Secrets. The names say what happened and go without
the suffix Error, as those of the API's own errors do.
"""

# ruff: noqa: N818

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway.storage.protocol import KeyValue


class StorageError(Exception):
    """Anything a store raises on purpose."""


class InvalidKey(StorageError, ValueError):
    """The key cannot be stored: it is empty, or holds lone surrogates."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key!r} cannot be a key: a key is Unicode text and not empty")
        self.key = key


class ValueTooLarge(StorageError):
    """The medium refuses a write of this size. Nothing of it was stored."""


class KeyExists(StorageError):
    """A create found the key already there."""

    def __init__(self, current: KeyValue) -> None:
        super().__init__(f"{current.key} exists already, at revision {current.mod_revision}")
        self.current = current


class KeyMissing(StorageError):
    """A delete did not find the key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} does not exist")
        self.key = key


class RevisionMismatch(StorageError):
    """A compare-and-swap lost; `current` is what is there now (None: the key is gone)."""

    def __init__(self, key: str, expected: int, current: KeyValue | None) -> None:
        found = f"is at revision {current.mod_revision}" if current else "does not exist"
        super().__init__(f"{key} {found}, not at revision {expected}")
        self.key = key
        self.expected = expected
        self.current = current


class Compacted(StorageError):
    """History up to and excluding `compact_revision` is gone; list afresh and go on from there."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"the revision is too old: history before revision {compact_revision} has been compacted")
        self.compact_revision = compact_revision


class FutureRevision(StorageError):
    """The revision asked for is greater than `current`, the latest one there is."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the revision has not happened yet: the current one is {current}")
        self.current = current


class WatchLagged(StorageError):
    """The watcher left more events unread than its buffer holds.

    Nothing was skipped silently: every event up to `synced_revision` was delivered, so a new watch after that revision
    goes on without gap or repeat (unless it has been compacted meanwhile).
    """

    def __init__(self, synced_revision: int) -> None:
        super().__init__(f"the watch was too slow and was ended after revision {synced_revision}")
        self.synced_revision = synced_revision


class StoreClosed(StorageError):
    """The store was closed before, or while, it was used."""

    def __init__(self) -> None:
        super().__init__("the store is closed")


class StoreUnavailable(StorageError):
    """The medium refuses to be read or written. One line, with the way out."""


class OutcomeUnknown(StoreUnavailable):
    """The connection was lost while a write was under way: it may have happened, or may yet. Read before repeating."""


class StoreFull(StoreUnavailable):
    """There is no room for the write. Nothing of it was stored, everything before it was."""


class MediumFailed(StoreUnavailable):
    """Reading or writing failed. The store has to be opened anew, which may succeed: the contents are verified then."""


class CorruptDatabase(StoreUnavailable):
    """The file is not a Portway database, or what it holds contradicts itself."""


class NewerSchema(StoreUnavailable):
    """A later version wrote the file, in a format this one does not know. Its contents were left as they were."""
