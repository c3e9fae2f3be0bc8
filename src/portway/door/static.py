"""Static files under a URL prefix, as `kubectl proxy --www` serves them: index.html, else a list of a directory."""

import html
import mimetypes
import os
import stat
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from portway.gateway import answers
from portway.gateway.localanswers import Answer
from portway.kube.identity import User

LARGEST = 64 << 20
"""Bytes of the largest file: they are answered from memory."""


class StaticFiles:
    """The files below `root`, at `prefix` ("/static/"). Links that lead out of `root` lead nowhere, and what is neither
    a file nor a directory is not there: reading a pipe would keep everybody waiting.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        self._root = root.resolve()
        self._prefix = "/" + prefix.strip("/") + "/" if prefix.strip("/") else "/"

    def answer(self, path: str, query: str, *, page: bool, host: str, user: User) -> Answer | None:  # noqa: ARG002
        if not (path + "/").startswith(self._prefix):
            return None
        relative = os.fsdecode(unquote_to_bytes(path[len(self._prefix) :]))
        try:
            found = self._within(self._root / relative)
            if found is None:
                return _nothing()
            return self._directory(found, path) if found.is_dir() else _file(found)
        except (OSError, ValueError):  # ValueError: a NUL
            return _nothing()

    def _within(self, path: Path) -> Path | None:
        """Where a path really is, if that is below the root."""
        found = Path(os.path.realpath(path))
        return found if found.is_relative_to(self._root) else None

    def _directory(self, directory: Path, path: str) -> Answer:
        if not path.endswith("/"):
            return 301, *answers.moved((quote_from_bytes(unquote_to_bytes(path)) + "/").encode())
        if (directory / "index.html").is_file():
            index = self._within(directory / "index.html")
            return _file(index) if index is not None else _nothing()
        with os.scandir(directory) as entries:
            names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)
        lines = "".join(map(_line, names))
        return _answer(200, b"text/html; charset=utf-8", f"<pre>\n{lines}</pre>\n".encode())


def _line(name: str) -> str:
    shown = os.fsencode(name).decode("utf-8", "replace")
    return f'<a href="{quote_from_bytes(os.fsencode(name))}">{html.escape(shown)}</a>\n'


def _file(path: Path) -> Answer:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        return _nothing()
    if about.st_size > LARGEST:
        return 413, *answers.text(413, f"the file is larger than {LARGEST >> 20} MiB\n".encode())
    return _answer(200, _kind(path.name), path.read_bytes())


def _kind(name: str) -> bytes:
    kind, packed = mimetypes.guess_type(name)
    if packed is not None:
        kind = "application/gzip" if packed == "gzip" else None  # the bytes are those of the archive
    if kind is not None and kind.startswith("text/"):
        kind += "; charset=utf-8"
    return (kind or "application/octet-stream").encode()


def _answer(code: int, kind: bytes, body: bytes) -> Answer:
    return code, answers.head(code, kind, len(body), b"X-Content-Type-Options: nosniff\r\n"), body


def _nothing() -> Answer:
    return 404, *answers.text(404, b"404 page not found\n")
