"""The recorder as a worker uses it: one append a request, files written beside the loop, losses reported."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from portway.gateway.authentication import ConfigurationError
from portway.gateway.record import Recorder
from portway.gateway.record.recorder import PENDING
from portway.gateway.settings import Record as Settings
from portway.testing.records import record


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a writer thread's doing."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def test_both_logs_and_the_metrics(tmp_path: Path) -> None:
    audit, access = tmp_path / "audit.log", tmp_path / "access.log"
    settings = Settings(
        audit_log_path=str(audit), access_log="json", access_log_path=str(access), run_dir=str(tmp_path / "run")
    )
    (tmp_path / "run").mkdir()
    recorder = Recorder(settings, 0)
    for number in range(3):
        recorder.add(record(audit_id=str(number)))
    recorder.flush()
    recorder.add(record(audit_id=str(3)))
    recorder.close()
    assert [json.loads(line)["auditID"] for line in audit.read_text().splitlines()] == ["0", "1", "2", "3"]
    assert [json.loads(line)["auditID"] for line in access.read_text().splitlines()] == ["0", "1", "2", "3"]
    assert b'portway_requests_total{code="200",method="GET",resource="services"} 4\n' in recorder.render()
    assert json.loads((tmp_path / "run" / "metrics-0.json").read_bytes())["counters"]
    assert "secret" not in audit.read_text() + access.read_text() + recorder.render().decode()


def test_adding_is_a_lists_append_and_stays_one() -> None:
    recorder = Recorder(Settings(), 0)
    add = recorder.add
    add(record())
    recorder.flush()
    add(record())
    assert isinstance(getattr(add, "__self__", None), list)
    assert b'portway_requests_total{code="200",method="GET",resource="services"} 2\n' in recorder.render()
    recorder.close()


def test_lines_wait_a_tenth_of_a_second_unless_there_are_many(tmp_path: Path) -> None:
    path, clock = tmp_path / "audit.log", Clock()
    recorder = Recorder(Settings(audit_log_path=str(path)), 0, clock=clock)
    recorder.flush()
    recorder.add(record())
    clock.now += 0.05
    recorder.flush()
    assert not path.exists()
    clock.now += 0.06
    recorder.flush()
    until(lambda: path.exists() and path.read_text().count("\n") == 1)
    for number in range(1000):
        recorder.add(record(audit_id=str(number)))
    clock.now += 0.01
    recorder.flush()
    until(lambda: path.read_text().count("\n") == 1001)
    recorder.close()


def test_a_full_disk_is_reported_once_a_second_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    clock = Clock()
    recorder = Recorder(Settings(audit_log_path="/dev/full"), 3, said.append, clock)
    for _ in range(40):
        for number in range(1000):
            recorder.add(record(audit_id=str(number)))
        begun = time.monotonic()
        clock.now += 0.11
        recorder.flush()
        assert time.monotonic() - begun < 2.0
    assert 2 <= len(said) <= 5
    assert all(line.startswith("portway: worker 3: audit log /dev/full: ") for line in said)
    assert any(line.endswith("lines lost (No space left on device)") for line in said)
    recorder.close()
    total = 40 * 1000
    assert sum(int(line.split("/dev/full: ")[1].split()[0]) for line in said) == total
    assert f'portway_record_dropped_total{{log="audit"}} {total}\n'.encode() in recorder.render()


def test_too_many_records_between_two_flushes_lose_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    said: list[str] = []
    recorder = Recorder(Settings(audit_log_path=str(path)), 0, said.append)
    for number in range(PENDING + 7):
        recorder.add(record(audit_id=str(number)))
    recorder.close()
    kept = [json.loads(line)["auditID"] for line in path.read_text().splitlines()]
    dropped = int(said[0].split(": ")[3].split()[0])
    assert dropped + len(kept) == PENDING + 7
    assert kept[0] == "7"
    assert f'resource="services"}} {PENDING + 7}\n'.encode() in recorder.render()


def test_standard_output_and_error_of_a_worker() -> None:
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from test_record_recorder import record
from portway.gateway.record import Recorder
from portway.gateway.settings import Record
recorder = Recorder(Record(audit_log_path="-", access_log="combined", access_log_path="/dev/full"), 1)
recorder.add(record(audit_id=str(5)))
recorder.flush()
recorder.close()
"""
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, here], check=True, capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout)["auditID"] == "5"
    assert done.stderr == "portway: worker 1: access log /dev/full: 1 line lost (No space left on device)\n"


def test_a_standard_error_that_nobody_reads_holds_nobody_up() -> None:
    script = """
import fcntl, os, sys, time
sys.path.insert(0, sys.argv[1])
from test_record_recorder import record
from portway.gateway.record import Recorder
from portway.gateway.settings import Record
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(2, True)
recorder = Recorder(Record(audit_log_path="/dev/full"), 1)
recorder.add(record(audit_id=str(5)))
recorder.close()
print("done")
"""
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", script, here], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        assert child.stdout.readline() == "done\n"
        assert child.wait(timeout=20) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def test_everything_off_still_counts() -> None:
    recorder = Recorder(Settings(), 0)
    recorder.add(record())
    recorder.flush()
    recorder.close()
    assert b'code="200"' in recorder.render()
    assert recorder.render().endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "settings",
    [Settings(audit_policy_file="/nonexistent"), Settings(access_log="xml"), Settings(audit_policy_file=os.devnull)],
)
def test_what_cannot_be_used_is_one_line(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"^[^\n]+$"):
        Recorder(settings, 0)


def test_the_policy_file_is_obeyed(tmp_path: Path) -> None:
    policy, audit = tmp_path / "policy.yaml", tmp_path / "audit.log"
    policy.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, users: [reader]}]\n")
    recorder = Recorder(Settings(audit_log_path=str(audit), audit_policy_file=str(policy)), 0)
    recorder.add(record())
    recorder.close()
    assert not audit.exists()
    assert b'code="200"' in recorder.render()
