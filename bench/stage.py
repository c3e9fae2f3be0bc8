"""What every measure stands on: a temporary directory, a certificate, and the backend that all doors lead to.

The backend is nginx, the same for every peer, on an address that could be a pod's: loopback ones are no endpoints to a
Kubernetes API, so root lends the loopback interface an address of the range that RFC 2544 keeps for benchmarks, and
takes it back at the end. Others use one of Portway's own pod range. It answers every path with about 100 bytes of JSON,
/file with 1 GiB, /auth with 200, and is reached without TLS; a second listener has TLS, for the comparison without any
proxy. /who names the port, to see where a request went.
"""

import fcntl
import ipaddress
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bench.certificate import write_certificate
from bench.process import BenchError, Processes, accepts, free_port
from bench.programs import NGINX, WRK

LENT = ipaddress.ip_network("198.18.0.0/16")
OWN = "127.64.0.10"
FILE_SIZE = 1 << 30
ANSWER = '{"status":"green","cluster_name":"kubernetes-logging","number_of_nodes":3,"active_shards":112,"timed":0}'

_NGINX = """
worker_processes 2; daemon off; pid backend.pid; error_log backend-error.log;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 3600;
  server {{
    listen {address}:{port} reuseport backlog=4096; listen {address}:{other} reuseport;
    listen {address}:{tls} ssl reuseport; ssl_certificate {cert}; ssl_certificate_key {key};
    location / {{ default_type application/json; return 200 '{answer}'; }}
    location /who {{ default_type text/plain; return 200 '$server_port'; }}
    location /auth {{ return 200; }}
    location = /file {{ root {root}; default_type application/octet-stream; }}
  }}
}}
"""


@dataclass(frozen=True)
class Stage:
    """The backend at `address`: `port` and `other` answer alike, over plain HTTP; `tls` over TLS.

    `cert` and `key` are for the doors.
    """

    address: str
    directory: Path
    processes: Processes
    lock: BinaryIO
    cert: Path
    key: Path
    port: int
    other: int
    tls: int

    def write(self, name: str, text: str) -> Path:
        """A file in the stage's directory."""
        path = self.directory / name
        path.write_text(text)
        return path

    def close(self) -> None:
        """Ends what was started, removes what was written."""
        self.processes.close()
        if self.address != OWN:
            _lend("del", self.address)
        self.lock.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def make_stage() -> Stage:
    """A stage with its backend running; close() it."""
    if NGINX.find() is None or WRK.find() is None:
        raise BenchError(f"nginx and wrk are needed: {NGINX.install}; {WRK.install}")
    lock = _take_turn()
    directory = Path(tempfile.mkdtemp(prefix="portway-bench-"))
    directory.chmod(0o755)  # nginx's workers give up root's rights, and read /file
    cert, key = write_certificate(directory)
    address = OWN if os.geteuid() else str(LENT[os.getpid() % LENT.num_addresses])
    if address != OWN:
        _lend("add", address)
    ports = [free_port(address) for _ in range(3)]
    stage = Stage(address, directory, Processes(directory), lock, cert, key, *ports)
    with (directory / "file").open("wb") as file:
        file.truncate(FILE_SIZE)
    config = _NGINX.format(
        address=address,
        port=stage.port,
        other=stage.other,
        tls=stage.tls,
        cert=cert,
        key=key,
        answer=ANSWER,
        root=directory,
    )
    try:
        command = [NGINX.find() or "nginx", "-p", directory, "-c", stage.write("backend.conf", config)]
        stage.processes.start("backend", command)
        stage.processes.wait_for("backend", lambda: all(accepts(address, port) for port in ports))
    except BaseException:
        stage.close()
        raise
    return stage


def _take_turn() -> BinaryIO:
    """A lock that is held as long as the file is open; BenchError while another run holds it."""
    lock = (Path(tempfile.gettempdir()) / "portway-bench.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise BenchError("another run is under way on this machine: neither would measure anything") from None
    return lock


def _lend(verb: str, address: str) -> None:
    subprocess.run(["ip", "address", verb, f"{address}/32", "dev", "lo"], check=verb == "add", timeout=10)
