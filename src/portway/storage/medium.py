"""Dealing with the file as such: who may read it, and what SQLite's errors mean to us.

`journal.py` does everything within it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portway.storage.errors import CorruptDatabase, MediumFailed, StoreFull, StoreUnavailable

_SMALLEST_PAGE = 512
"""Bytes; SQLite's file format knows no smaller page, so no shorter file."""


def make_private(path: Path) -> None:
    """Make the file, or take away other users' access: it holds Secrets. SQLite gives its log the same mode.

    An existing file is not opened here: closing it would drop the locks that another store of this process holds.
    """
    try:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            found = path.stat()
            if found.st_mode & 0o077:
                path.chmod(0o600)
            if 0 < found.st_size < _SMALLEST_PAGE:
                raise damaged(path, "cut short") from None  # SQLite would take it for a new one
    except OSError as error:
        raise StoreUnavailable(
            f"{path}: cannot open the database ({error.strerror}):"
            " the directory must exist and be writable, or choose another one"
        ) from error


def damaged(path: Path, detail: str) -> CorruptDatabase:
    """The error for a file that does not hold what was written; `detail` may be SQLite's own, in several lines."""
    detail = " ".join(detail.replace("*** in database main ***", "").split())
    return CorruptDatabase(
        f"{path}: the database is damaged ({detail}): restore a backup, or move the file away to start empty"
    )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors become ours, once, here."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(path, error) from error
    except UnicodeDecodeError as error:  # Python trips over SQLite's own message about damaged text
        raise damaged(path, str(error)) from error


def _translate(path: Path, error: sqlite3.Error) -> StoreUnavailable:
    code = getattr(error, "sqlite_errorcode", None)
    match code & 0xFF if code is not None else None:
        case sqlite3.SQLITE_FULL:
            return StoreFull(
                f"{path}: no room for the write: free some space, or compact the history; what was stored is intact"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR | None:
            # SQLITE_ERROR: a table or column of ours is missing. None: Python could not decode what SQLite read.
            return damaged(path, str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreUnavailable(f"{path}: another process is using the database: stop it, or choose another file")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreUnavailable(
                f"{path}: cannot open the database ({error}):"
                " the file and its directory must be writable, or choose another one"
            )
        case _:
            return MediumFailed(f"{path}: the disk refused ({error}): mend it, then start again")
