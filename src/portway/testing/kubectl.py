"""The kubectls of this machine, and running one of them against a cluster.

    run = Kubectl(binary, kubeconfig, directory)
    assert run.ok("get", "pods", "-o", "name") == "pod/web\n"
    assert run.refused("get", "pod", "x") == 'Error from server (NotFound): pods "x" not found\n'

Each has a home and a discovery cache of its own below `directory`. The cluster comes from `portway.testing.cluster`.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import yaml

SECONDS = 30.0
_NAME = re.compile(r"kubectl([.-]v?\d+\.\d+(\.\d+)?)?")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
DEPRECATED = "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n"
_SKEW = re.compile(r"WARNING: (This version information is deprecated|version difference between client).*\n")


def binaries() -> list[Path]:
    """Returns every kubectl: on PATH, beside those (kubectl.1.27, …), and that of the development dependencies."""
    scripts = Path(sysconfig.get_path("scripts"))
    directories = [scripts, *(Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry)]
    found: dict[Path, None] = {}
    for start in [path.resolve() for path in (directory / "kubectl" for directory in directories) if path.is_file()]:
        for path in sorted(start.parent.iterdir()):
            if _NAME.fullmatch(path.name) and path.is_file() and os.access(path, os.X_OK):
                found[path.resolve()] = None
    return list(found)


def label(binary: Path) -> str:
    """Returns what tests are called after: the file's name, with its directory where that alone says nothing."""
    return f"{binary.parent.parent.name}/kubectl" if binary.name == "kubectl" else binary.name


@functools.cache
def version(binary: Path) -> tuple[int, int]:
    """Returns the binary's (major, minor)."""
    said = subprocess.run(
        [binary, "version", "--client", "-o", "json"], capture_output=True, check=True, timeout=SECONDS
    )
    found = re.match(r"v(\d+)\.(\d+)", json.loads(said.stdout)["clientVersion"]["gitVersion"])
    if found is None:
        raise ValueError(f"{binary} does not say its version")
    return int(found[1]), int(found[2])


@dataclass(frozen=True)
class Result:
    """What a kubectl printed, colours and version skew warnings taken out, and its exit code."""

    code: int
    out: str
    err: str


def tidy(code: int, out: str, err: str) -> Result:
    """Returns what a kubectl did, without what says nothing about the cluster."""
    return Result(code, _COLOUR.sub("", out), _SKEW.sub("", err))


@dataclass(frozen=True)
class Kubectl:
    """One kubectl with a kubeconfig; what it keeps stays in `directory`."""

    binary: Path
    kubeconfig: Path
    directory: Path
    namespace: str = "default"

    @property
    def version(self) -> tuple[int, int]:
        """(major, minor)."""
        return version(self.binary)

    def within(self, namespace: str, directory: Path) -> Kubectl:
        """Returns one whose kubeconfig names that namespace; the discovery cache stays shared."""
        config = directory / f"{namespace}.kubeconfig"
        content = yaml.safe_load(self.kubeconfig.read_text())
        content["contexts"][0]["context"]["namespace"] = namespace
        config.write_text(yaml.safe_dump(content))
        return replace(self, kubeconfig=config, namespace=namespace)

    def run(self, *argv: str, stdin: Any = None, **environment: str) -> Result:
        """Runs to the end; `stdin` is text, or objects that are passed as JSON."""
        text = stdin if isinstance(stdin, str | None) else json.dumps(stdin)
        done = subprocess.run(
            [self.binary, *argv],
            input="" if text is None else text,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=self.environment(**environment),
            cwd=self.directory,
            check=False,
        )
        return tidy(done.returncode, done.stdout, done.stderr)

    def ok(self, *argv: str, stdin: Any = None, **environment: str) -> str:
        """Returns what it printed; it must succeed and have nothing to complain about but the age of Endpoints."""
        result = self.run(*argv, stdin=stdin, **environment)
        assert (result.code, result.err.replace(DEPRECATED, "")) == (0, ""), f"kubectl {' '.join(argv)}: {result}"
        return result.out

    def json(self, *argv: str, stdin: Any = None) -> Any:
        """Returns what it printed with `-o json`, decoded."""
        return json.loads(self.ok(*argv, "-o", "json", stdin=stdin))

    def rows(self, *argv: str) -> list[list[str]]:
        """Returns a table's cells; columns are two or more spaces apart."""
        return [re.split(r"\s{2,}|\t", line.rstrip()) for line in self.ok(*argv).splitlines()]

    def refused(self, *argv: str, stdin: Any = None, code: int = 1) -> str:
        """Returns the complaint; it must fail with that exit code and print nothing else."""
        result = self.run(*argv, stdin=stdin)
        assert (result.code, result.out) == (code, ""), f"kubectl {' '.join(argv)}: {result}"
        return result.err

    @contextmanager
    def running(self, *argv: str) -> Iterator[IO[str]]:
        """Runs in the background for the time of the block; gives what it prints, to be read line by line."""
        with subprocess.Popen(
            [self.binary, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
            cwd=self.directory,
        ) as process:
            assert process.stdout is not None
            try:
                yield process.stdout
            finally:
                process.kill()

    def environment(self, **more: str) -> dict[str, str]:
        """What it runs with: a home, a cache and a kubeconfig of its own."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.directory),
            "KUBECACHEDIR": str(self.directory / "cache"),
            "KUBECONFIG": str(self.kubeconfig),
            "TMPDIR": str(self.directory),
            **more,
        }
