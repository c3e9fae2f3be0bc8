"""What every cluster has from the start, and how it comes back after somebody changed it."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from portway.apiserver import bootstrap
from portway.storage.memory import MemoryStore
from portway.testing.api import InProcessApi, settings

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
MERGE = "application/merge-patch+json"


def wanted(kind: str, name: str) -> Any:
    found = [one for one in bootstrap.desired(settings()) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1
    return found[0]


def rules_of(name: str) -> list[tuple[str, str, str]]:
    """Every (verb, group, resource) that a default role allows."""
    rules = wanted("ClusterRole", name)["rules"]
    return [
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
    ]


def test_namespaces_come_first() -> None:
    kinds = [one["kind"] for one in bootstrap.desired(settings())]
    assert kinds[:4] == ["Namespace"] * 4
    assert "Namespace" not in kinds[4:]


def test_who_may_reach_services() -> None:
    own = {name: set(rules_of(f"system:aggregate-to-{name}")) for name in ("admin", "edit", "view")}
    view, edit, admin = own["view"], own["view"] | own["edit"], own["view"] | own["edit"] | own["admin"]
    assert ("get", "", "services/proxy") in edit
    assert ("create", "", "services/proxy") in edit
    assert ("create", "", "serviceaccounts/token") in edit
    assert not any("proxy" in resource or resource == "secrets" for _, _, resource in view)
    # CVE-2021-25740: whoever edits may not point endpoints anywhere.
    assert not any(r.startswith("endpoint") and v in ("create", "update", "patch") for v, _, r in edit | admin)
    assert ("create", "rbac.authorization.k8s.io", "roles") in admin - edit
    assert view < edit < admin
    assert not any(resource.startswith("nodes") for _, _, resource in admin)


@pytest.mark.parametrize(
    ("name", "takes", "gives"),
    [("view", "view", "edit"), ("edit", "edit", "admin"), ("admin", "admin", None)],
)
def test_what_is_aggregated(name: str, takes: str, gives: str | None) -> None:
    label = "rbac.authorization.k8s.io/aggregate-to-"
    role = wanted("ClusterRole", name)
    assert role["aggregationRule"] == {"clusterRoleSelectors": [{"matchLabels": {label + takes: "true"}}]}
    # The rules are the controller's to write.
    assert role["rules"] == []
    own = {key for key in role["metadata"]["labels"] if key.startswith(label)}
    assert own == ({label + gives} if gives else set())


def test_the_default_service_is_the_first_address() -> None:
    async def test() -> None:
        async with InProcessApi(advertise_address="192.0.2.7:6443", service_cluster_ip_range="10.0.0.0/24") as api:
            service = (await api.admin.request("GET", "/api/v1/namespaces/default/services/kubernetes")).json()
            assert service["metadata"]["labels"] == {"component": "apiserver", "provider": "kubernetes"}
            assert service["spec"]["clusterIPs"] == ["10.0.0.1"]
            assert service["spec"]["ports"] == [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}]
            endpoints = (await api.admin.request("GET", "/api/v1/namespaces/default/endpoints/kubernetes")).json()
            assert endpoints["subsets"][0]["addresses"] == [{"ip": "192.0.2.7"}]
            path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
            found = (await api.admin.request("GET", path)).json()
            assert found["metadata"]["labels"] == {"kubernetes.io/service-name": "kubernetes"}
            assert found["ports"] == [{"name": "https", "port": 6443, "protocol": "TCP"}]

    asyncio.run(test())


def test_every_default_object_is_accepted_and_nothing_is_left_to_reconcile() -> None:
    async def test() -> None:
        store = MemoryStore()
        changes = {"advertise_address": "192.0.2.7:6443"}
        async with InProcessApi(store, **changes) as api:
            for one in bootstrap.desired(settings(**changes)):
                kind = api.app.server.kind_of(one)
                metadata = one["metadata"]
                found = api.app.server.find(kind.group, kind.plural, metadata.get("namespace", ""), metadata["name"])
                assert found is not None, metadata["name"]
                assert bootstrap.reconcile(found, one) is None
        before = store.current_revision()
        async with InProcessApi(store, **changes):
            assert store.current_revision() == before

    asyncio.run(test())


def test_what_was_taken_away_comes_back_and_what_was_added_stays() -> None:
    async def test() -> None:
        store = MemoryStore()
        own = {"verbs": ["get"], "nonResourceURLs": ["/own"]}
        async with InProcessApi(store) as api:
            for name, annotations in (("system:discovery", {}), ("system:monitoring", {AUTOUPDATE: "false"})):
                labels = {"kubernetes.io/bootstrapping": None, "mine": "yes"}
                change = {"rules": [own], "metadata": {"labels": labels, "annotations": annotations}}
                answer = await api.admin.request("PATCH", f"{ROLES}/{name}", change, content_type=MERGE)
                assert answer.status == 200
        async with InProcessApi(store) as api:
            found = (await api.admin.request("GET", f"{ROLES}/system:discovery")).json()
            assert found["rules"] == [own, *wanted("ClusterRole", "system:discovery")["rules"]]
            assert found["metadata"]["labels"] == {"kubernetes.io/bootstrapping": "rbac-defaults", "mine": "yes"}
            found = (await api.admin.request("GET", f"{ROLES}/system:monitoring")).json()
            assert found["rules"] == [own]

    asyncio.run(test())


def test_reconciling_bindings() -> None:
    full = wanted("ClusterRoleBinding", "system:public-info-viewer")
    less = copy.deepcopy(full)
    own = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "own"}
    less["subjects"] = [own]
    found = bootstrap.reconcile(less, full)
    assert found is not None
    assert found["subjects"] == [own, *full["subjects"]]
    elsewhere = copy.deepcopy(less)
    elsewhere["roleRef"]["name"] = "view"
    assert bootstrap.reconcile(elsewhere, full) is None


def test_reconciling_aggregation_keeps_the_controller_s_rules() -> None:
    full = wanted("ClusterRole", "edit")
    found = copy.deepcopy(full)
    found["rules"] = []
    assert bootstrap.reconcile(found, full) is None
    found["aggregationRule"] = {}
    fixed = bootstrap.reconcile(found, full)
    assert fixed is not None
    assert (fixed["rules"], fixed["aggregationRule"]) == ([], full["aggregationRule"])


def test_reconciling_the_default_service_follows_the_door() -> None:
    old, new = (bootstrap.desired(settings(advertise_address=f"192.0.2.7:{port}"))[-1] for port in (1, 2))
    found = bootstrap.reconcile(old, new)
    assert found is not None
    assert found["spec"] == new["spec"]
