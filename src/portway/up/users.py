"""The users of an htpasswd file: `user:hash` or, ours, `user:hash:group1,group2`, one a line.

The file stays the operator's: comments, order and hashes made by other tools are kept. Reading it for a decision is the
gateway's business, hashing `kube.htpasswd`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.up.datadir import write_private
from portway.up.errors import UpError


@dataclass(frozen=True, slots=True)
class Entry:
    """One user of the file: name, how the password is hashed (argon2id, bcrypt …) and groups."""

    name: str
    scheme: str
    groups: tuple[str, ...]


def entries(file: Path) -> list[Entry]:
    """Every user, in the file's order; UpError when it cannot be read."""
    found = []
    for line in _lines(file):
        name, _, rest = line.partition(":")
        if _is_user(line):
            hashed, _, groups = rest.partition(":")
            found.append(Entry(name, _scheme(hashed), tuple(g for g in groups.strip().split(",") if g)))
    return found


def has(file: Path, name: str) -> bool:
    """Whether the file knows the user."""
    return any(entry.name == name for entry in entries(file))


def put(file: Path, name: str, password: str, groups: Sequence[str], *, rounds: int = 0) -> None:
    """Add a user, or replace the password and groups of one; `rounds` are bcrypt's (0 = the usual)."""
    from portway.kube.htpasswd import hash_password  # hashing takes its time to load; most commands don't hash

    check_name(name)
    try:
        hashed = hash_password(password, rounds) if rounds else hash_password(password)
    except UnicodeEncodeError:
        raise UpError("the password is not text (UTF-8)") from None  # the codec's words quote it
    except ValueError as error:
        raise UpError(str(error)) from error
    line = ":".join([name, hashed, *([",".join(groups)] if groups else [])])
    lines = _lines(file)
    at = [index for index, old in enumerate(lines) if old.partition(":")[0] == name]
    if at:
        lines[at[0]] = line
        lines = [old for index, old in enumerate(lines) if index not in at[1:]]
    else:
        lines.append(line)
    _write(file, lines)


def remove(file: Path, name: str) -> None:
    """Take a user out; UpError when there is none of that name."""
    lines = _lines(file)
    kept = [line for line in lines if line.partition(":")[0] != name or not _is_user(line)]
    if len(kept) == len(lines):
        raise UpError(f'no user "{name}" in {file}; `portway user list` shows them')
    _write(file, kept)


def check_name(name: str) -> None:
    """UpError for a name that the file, or HTTP's basic scheme (RFC 7617: no colon), cannot carry."""
    if name.startswith("system:"):
        raise UpError(f'"{name}" cannot be a user name: system: belongs to Kubernetes')
    if not name or ":" in name or name.startswith("#") or not name.isprintable() or name != name.strip():
        raise UpError(f'"{name}" cannot be a user name: printable, without colon, spaces around it or a leading #')


def check_group(name: str) -> None:
    """UpError for a group that the file cannot carry."""
    if not name or set(name) & set(":,") or not name.isprintable() or name != name.strip():
        raise UpError(f'"{name}" cannot be a group: printable, without colon, comma or spaces around it')


def _is_user(line: str) -> bool:
    return ":" in line and not line.lstrip().startswith("#")


def _scheme(hashed: str) -> str:
    if hashed.startswith("$argon2"):
        return hashed[1:].partition("$")[0]
    return "bcrypt" if hashed.startswith("$2") else "unsupported"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise UpError(f"{file} is not a text file (UTF-8)") from error
    except OSError as error:
        raise UpError(f"cannot read {file}: {error.strerror}") from error


def _write(file: Path, lines: Sequence[str]) -> None:
    try:
        write_private(file.resolve(), "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise UpError(f"cannot write {file}: {error.strerror}") from error
