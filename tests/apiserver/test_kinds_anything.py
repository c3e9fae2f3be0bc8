"""Any object of the declared types is stored or refused, never a fault of the server's, and defaulting is stable."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.apiserver.fields import message_for, messages
from portway.apiserver.kinds import KINDS
from portway.apiserver.kinds.base import Kind
from portway.testing.api import InProcessApi
from portway.testing.messages import objects_of

MINIMAL: dict[str, dict[str, Any]] = {
    "EndpointSlice": {"addressType": "IPv4"},
    "Pod": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
    "Service": {"spec": {"clusterIP": "None"}},
}
REFUSALS = (400, 403, 404, 409, 422)


def path_of(kind: Kind) -> str:
    prefix = f"/apis/{kind.group}/v1" if kind.group else "/api/v1"
    return f"{prefix}/namespaces/default/{kind.plural}" if kind.namespaced else f"{prefix}/{kind.plural}"


def parts_of(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    """Every part of an object but its metadata, which is the registry's."""
    message = message_for(kind.api_version, kind.kind)
    assert message is not None
    return objects_of(message, 5).map(lambda obj: {name: obj[name] for name in obj if name != "metadata"})


async def write(kind: Kind, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Creates an object, reads it as a Table, and replaces it, the whole and its status."""
    async with InProcessApi() as api:
        path = path_of(kind)
        made = await api.admin.request("POST", path, {"metadata": {"name": "x"}, **first})
        assert made.status in (201, *REFUSALS), made.body
        if made.status != 201:
            await api.admin.request("POST", path, {"metadata": {"name": "x"}, **MINIMAL.get(kind.kind, {})})
        table = await api.admin.request("GET", path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert table.status == 200, table.body
        for target in (f"{path}/x", f"{path}/x/status") if kind.has_status else (f"{path}/x",):
            answer = await api.admin.request("PUT", target, {"metadata": {"name": "x"}, **second})
            assert answer.status in (200, *REFUSALS), answer.body


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.group}/{kind.kind}")
def test_any_object_is_stored_or_refused(kind: Kind) -> None:
    @given(parts_of(kind), parts_of(kind))
    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(first: dict[str, Any], second: dict[str, Any]) -> None:
        asyncio.run(write(kind, first, second))

    check()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.group}/{kind.kind}")
def test_defaults_filled_in_twice_are_the_same(kind: Kind) -> None:
    @given(parts_of(kind))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(obj: dict[str, Any]) -> None:
        once = {"metadata": {"name": "x"}, **obj}
        kind.strategy.defaults(once)
        twice = copy.deepcopy(once)
        kind.strategy.defaults(twice)
        assert twice == once

    check()


def test_every_kind_has_its_message() -> None:
    assert all(message_for(kind.api_version, kind.kind) is not None for kind in KINDS)
    assert len(messages()) > 300
