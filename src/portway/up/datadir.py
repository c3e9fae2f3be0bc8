"""The data directory: what lies where, who may look, and one `portway up` at a time.

    pki/                 the authority, the serving certificate, the admin's certificate, the service account key
    admin-token.csv      the admin's bearer token, in kube-apiserver's static token format
    htpasswd             users and password hashes; `portway user` edits it
    demo-password        the demo user's password, so that a second `up --demo` can print it again
    admin.kubeconfig     how kubectl gets in
    cluster.db           every object (SQLite)
    run/                 sockets, settings of the children, metrics: meaningless once nothing runs
    lock                 held while an `up` runs; holds its process id

Contents are `bootstrap.py`'s. Everything is for the owner alone (0700, files 0600).
"""

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from portway.up.errors import UpError

_LONGEST_SOCKET_PATH = 107
"""Of a unix socket's address (unix(7): 108 with the closing null)."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths below one root."""

    root: Path

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def api_socket(self) -> Path:
        return self.run / "api.sock"

    @property
    def admin_tokens(self) -> Path:
        return self.root / "admin-token.csv"

    @property
    def streams_socket(self) -> Path:
        return self.run / "streams.sock"

    @property
    def htpasswd(self) -> Path:
        return self.root / "htpasswd"

    @property
    def demo_password(self) -> Path:
        return self.root / "demo-password"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "admin.kubeconfig"

    @property
    def database(self) -> Path:
        return self.root / "cluster.db"

    @property
    def lock(self) -> Path:
        return self.root / "lock"


def prepare(root: Path) -> DataDir:
    """Make the directory (0700) and an empty run directory in it; UpError says why it cannot be used."""
    directory = DataDir(root)
    if len(os.fsencode(directory.streams_socket)) > _LONGEST_SOCKET_PATH:
        raise UpError(f"data directory {root} has too long a path for a unix socket; choose a shorter with --data-dir")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_strangers(root)
        _refuse_other_uses(directory)
        root.chmod(0o700)
        directory.pki.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UpError(
            f"cannot write to data directory {root}: {error.strerror}; choose another with --data-dir"
        ) from error
    return directory


def _refuse_strangers(root: Path) -> None:
    """Somebody else's directory is refused, for its owner could read every key."""
    status = root.stat()
    if status.st_uid != os.geteuid():
        raise UpError(
            f"data directory {root} belongs to another user (uid {status.st_uid}); choose another with --data-dir"
        )


def _refuse_other_uses(directory: DataDir) -> None:
    """A directory of other things (/, /tmp, somebody's home) is left alone: ours is closed to others and its `run`
    emptied.
    """
    if directory.lock.is_file():
        return
    known = (
        directory.pki,
        directory.run,
        directory.admin_tokens,
        directory.htpasswd,
        directory.demo_password,
        directory.kubeconfig,
    )
    ours = {"lost+found", *(path.name for path in known)}
    held = {path.name for path in directory.root.iterdir() if not path.name.startswith(directory.database.name)}
    others = sorted(held - ours)
    if others:
        raise UpError(
            f"{directory.root} is no data directory of portway's: it holds {others[0]};"
            " choose an empty or new one with --data-dir"
        )


def clear_run(directory: DataDir) -> None:
    """Forget what an earlier run left; call it with the lock held."""
    shutil.rmtree(directory.run, ignore_errors=True)
    directory.run.mkdir(mode=0o700)


def take_lock(directory: DataDir) -> IO[str]:
    """Hold the directory until the returned file is closed or the process ends, however it ends."""
    handle = open(directory.lock, "a+", encoding="ascii")  # noqa: SIM115 - it stays open for the life of the process
    os.chmod(directory.lock, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise UpError(
            f"data directory {directory.root} is in use by another portway up (pid {holder});"
            " stop it, or choose another directory with --data-dir"
        ) from None
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


def holder(directory: DataDir) -> int | None:
    """The process id of the `up` that runs on this directory, None when none does."""
    try:
        with open(directory.lock, encoding="ascii") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(handle.read().strip() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by the owner alone: a crash leaves the old one or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with open(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
