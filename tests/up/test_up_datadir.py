"""The data directory: for its owner, for one `up` at a time, never half written."""

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from portway.up import datadir
from portway.up.datadir import DataDir
from portway.up.errors import UpError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_closed_to_others(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "data"
    directory = datadir.prepare(root)
    assert mode(root) == 0o700
    root.chmod(0o755)
    datadir.prepare(root)
    assert mode(root) == 0o700
    datadir.write_private(directory.htpasswd, b"x")
    assert mode(directory.htpasswd) == 0o600


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    """`--data-dir /tmp`, by root, must not close it to everybody; `--data-dir /` must not empty /run."""
    other, pid = tmp_path / "home", tmp_path / "home" / "run" / "sshd.pid"
    pid.parent.mkdir(parents=True)
    pid.write_text("1")
    (other / "letters").write_text("dear")
    other.chmod(0o755)
    with pytest.raises(UpError, match=r"it holds letters.*--data-dir"):
        datadir.prepare(other)
    assert mode(other) == 0o755
    assert pid.exists()


def test_a_directory_that_only_has_users_so_far_is_ours(tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text("")
    (tmp_path / "lost+found").mkdir()
    with datadir.take_lock(datadir.prepare(tmp_path)):
        (tmp_path / "something").write_text("")
    datadir.prepare(tmp_path)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UpError, match=r"cannot write to data directory .*--data-dir"):
        datadir.prepare(tmp_path / "file" / "below")


def test_a_path_too_long_for_a_socket_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UpError, match="too long a path"):
        datadir.prepare(tmp_path / ("x" * 100))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_strangers_directory_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 4242, 4242)
    with pytest.raises(UpError, match="belongs to another user"):
        datadir.prepare(tmp_path)


def test_the_lock_keeps_a_second_one_out_until_the_first_is_gone(tmp_path: Path) -> None:
    directory = datadir.prepare(tmp_path)
    code = (
        "import sys; from pathlib import Path; from portway.up import datadir\n"
        f"held = datadir.take_lock(datadir.DataDir(Path({str(tmp_path)!r})))\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert datadir.holder(directory) == other.pid
        with pytest.raises(UpError, match=rf"in use by another portway up \(pid {other.pid}\)"):
            datadir.take_lock(directory)
        other.kill()
        other.wait()
    assert datadir.holder(directory) is None
    with datadir.take_lock(directory):
        assert datadir.holder(directory) == os.getpid()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "kept"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        datadir.write_private(target, b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_run_is_forgotten_at_each_start(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    directory.run.mkdir()
    (directory.run / "api.sock").touch()
    datadir.clear_run(directory)
    assert list(directory.run.iterdir()) == []
    assert mode(directory.run) == 0o700


@pytest.mark.parametrize("use", [datadir.clear_run, datadir.take_lock])
def test_what_stands_in_the_way_is_named_in_one_line(tmp_path: Path, use: Callable[[DataDir], object]) -> None:
    directory = DataDir(tmp_path)
    directory.run.touch()
    directory.lock.mkdir()
    with pytest.raises(UpError, match=r"^cannot (empty|use) /\S+/(run|lock): (Not|Is) a directory; .*--data-dir$"):
        use(directory)


def test_a_lock_that_holds_something_else_is_still_a_lock(tmp_path: Path) -> None:
    directory = datadir.prepare(tmp_path)
    directory.lock.write_bytes(b"\xff\n")
    with directory.lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UpError, match="in use by another portway up"):
            datadir.take_lock(directory)
