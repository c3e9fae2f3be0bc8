"""Static files under a URL prefix, as `kubectl proxy --www` serves them: index.html, else a list of a directory."""

import html
import mimetypes
import os
from pathlib import Path
from urllib.parse import quote, unquote

from portway.gateway import answers

LARGEST = 64 << 20
"""Bytes of the largest file: they are answered from memory."""
Answer = tuple[int, bytes, bytes]


class StaticFiles:
    """The files below `root`, at `prefix` ("/static/"). Links that lead out of `root` lead nowhere."""

    def __init__(self, root: Path, prefix: str) -> None:
        self._root = root.resolve()
        self._prefix = "/" + prefix.strip("/") + "/" if prefix.strip("/") else "/"

    def answer(self, path: str, query: str, *, page: bool, host: str) -> Answer | None:  # noqa: ARG002
        if not (path + "/").startswith(self._prefix):
            return None
        relative = unquote(path[len(self._prefix) :])
        if "\0" in relative:
            return _nothing()
        try:
            found = (self._root / relative).resolve()
            if not found.is_relative_to(self._root):
                return _nothing()
            if found.is_dir():
                return self._directory(found, path)
            return _file(found)
        except OSError:
            return _nothing()

    def _directory(self, directory: Path, path: str) -> Answer:
        if not path.endswith("/"):
            return 301, *answers.moved((quote(unquote(path)) + "/").encode())
        index = directory / "index.html"
        if index.is_file():
            return _file(index)
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(directory))
        lines = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
        return _answer(200, b"text/html; charset=utf-8", f"<pre>\n{lines}</pre>\n".encode())


def _file(path: Path) -> Answer:
    if path.stat().st_size > LARGEST:
        return 413, *answers.text(413, f"the file is larger than {LARGEST >> 20} MiB\n".encode())
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _answer(
        200, f"{kind}; charset=utf-8".encode() if kind.startswith("text/") else kind.encode(), path.read_bytes()
    )


def _answer(code: int, kind: bytes, body: bytes) -> Answer:
    return code, answers.head(code, kind, len(body), b"X-Content-Type-Options: nosniff\r\n"), body


def _nothing() -> Answer:
    return 404, *answers.text(404, b"404 page not found\n")
