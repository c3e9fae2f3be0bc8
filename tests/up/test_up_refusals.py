"""What is wrong is said in one line before anything starts, and nothing is lost."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from portway.testing.cluster import LOOPBACK, free_port, wait_until
from portway.testing.demo import PORTWAY, up

pytestmark = pytest.mark.timeout(120)


def one_line(done: subprocess.CompletedProcess[str], says: str, code: int = 1) -> None:
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.startswith("portway: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        one_line(up("--data-dir", str(tmp_path / "d"), "--secure-port", port), f"127.0.0.1:{port} is taken")
        one_line(
            up("--data-dir", str(tmp_path / "d"), "--secure-port", str(free_port()), "--insecure-port", port),
            "another port with --insecure-port",
        )
    assert not (tmp_path / "d").exists()


def test_a_corrupt_database_is_one_line_and_left_as_it_was(tmp_path: Path) -> None:
    data = tmp_path / "d"
    data.mkdir()
    (data / "cluster.db").write_bytes(b"not a database" * 1000)
    done = up("--data-dir", str(data), "--secure-port", str(free_port()))
    one_line(done, str(data / "cluster.db"))
    assert (data / "cluster.db").read_bytes() == b"not a database" * 1000


def test_a_wrong_key_and_a_wrong_flag_are_one_line(tmp_path: Path) -> None:
    config = tmp_path / "portway.yaml"
    config.write_text("secure_port: 7443\n")
    one_line(up("--config", str(config)), 'unknown key "secure_port"; did you mean "secure-port"?')
    one_line(up("--secure-port", "x"), "--secure-port", 2)
    one_line(up("--secure-prot", "1"), "--secure-prot", 2)


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    port = str(free_port())
    tokens, policy = tmp_path / "tokens.csv", tmp_path / "policy.yaml"
    tokens.write_text("only,two\n")
    policy.write_text("kind: Pod\n")
    base = ["--data-dir", str(tmp_path / "d"), "--secure-port", port]
    one_line(up(*base, "--tls-cert-file", "/absent", "--tls-private-key-file", "/absent"), "/absent: No such file")
    one_line(up(*base, "--token-auth-file", str(tokens)), "line 1")
    one_line(up(*base, "--audit-policy-file", str(policy), "--audit-log-path", str(tmp_path / "a.log")), str(policy))
    (tmp_path / "file").touch()
    one_line(up("--data-dir", str(tmp_path / "file" / "d"), "--secure-port", port), "choose another with --data-dir")


def test_a_reload_while_it_starts_does_not_end_it(tmp_path: Path) -> None:
    """`portway user` sends SIGHUP to whoever holds the lock. A pipe holds the start up until it is written to."""
    data, tokens = tmp_path / "d", tmp_path / "tokens"
    os.mkfifo(tokens)
    flags = ["--data-dir", str(data), "--secure-port", str(free_port()), "--token-auth-file", str(tokens)]
    with subprocess.Popen([*PORTWAY, "up", *LOOPBACK, *flags], stderr=subprocess.PIPE, text=True) as starting:
        lock = data / "lock"
        wait_until(lambda: lock.exists() and lock.read_text() == f"{starting.pid}\n", "it does not hold the lock")
        starting.send_signal(signal.SIGHUP)
        wait_until(lambda: starting.poll() is not None or feed(tokens, b"only,two\n"), "it does not read the tokens")
        said = starting.communicate(timeout=30)[1]
    assert starting.returncode == 1
    assert "line 1: at least 3 columns are needed" in said


def feed(pipe: Path, content: bytes) -> bool:
    """Write to a named pipe if somebody reads it."""
    try:
        writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    with open(writing, "wb") as handle:
        handle.write(content)
    return True
