"""What is wrong is said in one line before anything starts, and nothing is lost."""

import socket
import subprocess
from pathlib import Path

import pytest

from portway.testing.cluster import free_port
from portway.testing.demo import up

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
