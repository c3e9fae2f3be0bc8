"""Kinds that are answered and not offered: empty lists for `kubectl cluster-info dump`, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from portway.apiserver.kinds.base import Kind
from portway.apiserver.kinds.workloads import WORKLOADS
from portway.testing.api import InProcessApi


@pytest.mark.parametrize("kind", WORKLOADS, ids=lambda kind: kind.plural)
def test_there_are_none_and_nobody_makes_one(kind: Kind) -> None:
    root = f"/apis/{kind.group}/v1" if kind.group else "/api/v1"
    path = f"{root}/namespaces/default/{kind.plural}"

    async def run() -> None:
        async with InProcessApi() as api:
            listed = (await api.admin.request("GET", path)).json()
            assert (listed["kind"], listed["items"]) == (kind.list_kind, [])
            missing = (await api.admin.request("GET", f"{path}/x")).json()
            assert (missing["code"], missing["message"]) == (404, f'{kind.resource} "x" not found')
            for method, target in (("POST", path), ("DELETE", path), ("PUT", f"{path}/x"), ("DELETE", f"{path}/x")):
                refused = (await api.admin.request(method, target, {"metadata": {"name": "x"}})).json()
                assert (refused["code"], refused["reason"]) == (405, "MethodNotAllowed")

    asyncio.run(run())


def test_nobody_is_told_of_them() -> None:
    async def run() -> None:
        async with InProcessApi() as api:
            assert (await api.admin.request("GET", "/apis/apps")).status == 404
            assert (await api.admin.request("GET", "/apis/apps/v1")).status == 404
            core = (await api.admin.request("GET", "/api/v1")).json()["resources"]
            assert "replicationcontrollers" not in {one["name"] for one in core}
            paths = (await api.admin.request("GET", "/openapi/v3")).json()["paths"]
            assert "apis/apps/v1" not in paths

    asyncio.run(run())
