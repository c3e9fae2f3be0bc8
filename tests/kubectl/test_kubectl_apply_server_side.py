"""kubectl apply --server-side: conflicts, force, migration from client-side apply, diff, and who owns what."""

from __future__ import annotations

from typing import Any

import pytest

from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

APPLY = ("apply", "--server-side", "-f", "-")


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}, "data": data}


def owners(kubectl: Kubectl) -> dict[str, str]:
    """Operation by manager, of the ConfigMap `made`."""
    shown = kubectl.json("get", "configmap", "made", "--show-managed-fields")
    return {entry["manager"]: entry["operation"] for entry in shown["metadata"]["managedFields"]}


def test_what_is_applied_is_created_changed_and_left_alone(kubectl: Kubectl) -> None:
    assert kubectl.ok(*APPLY, stdin=config(a="1")) == "configmap/made serverside-applied\n"
    made = kubectl.json("get", "configmap", "made")
    assert "managedFields" not in made["metadata"]
    assert kubectl.ok(*APPLY, stdin=config(a="1")) == "configmap/made serverside-applied\n"
    assert kubectl.json("get", "configmap", "made") == made
    kubectl.ok(*APPLY, stdin=config(b="2"))
    assert kubectl.json("get", "configmap", "made")["data"] == {"b": "2"}
    assert owners(kubectl) == {"kubectl": "Apply"}


def test_conflicts_are_told_with_a_way_out(kubectl: Kubectl) -> None:
    kubectl.ok("create", "-f", "-", stdin=config(a="1", b="1"))
    other = (*APPLY, "--field-manager=other")
    refused = kubectl.refused(*other, stdin=config(a="2"))
    assert refused.startswith(
        'error: Apply failed with 1 conflict: conflict with "kubectl-create" using v1: .data.a\n'
        "Please review the fields above--they currently have other managers."
    )
    refused = kubectl.refused(*other, stdin=config(a="2", b="2"))
    assert refused.startswith(
        'error: Apply failed with 2 conflicts: conflicts with "kubectl-create" using v1:\n- .data.a\n- .data.b\n'
    )
    assert kubectl.ok(*other, "--force-conflicts", stdin=config(a="2")) == "configmap/made serverside-applied\n"
    assert kubectl.json("get", "configmap", "made")["data"] == {"a": "2", "b": "1"}
    assert owners(kubectl) == {"other": "Apply", "kubectl-create": "Update"}


def test_client_side_apply_becomes_server_side_apply(kubectl: Kubectl) -> None:
    kubectl.ok("apply", "-f", "-", stdin=config(a="1", b="1"))
    assert owners(kubectl) == {"kubectl-client-side-apply": "Update"}
    assert kubectl.ok(*APPLY, stdin=config(a="2")) == "configmap/made serverside-applied\n"
    last = kubectl.json("apply", "view-last-applied", "configmap/made")
    assert last["data"] == {"a": "2"}
    # It moved the fields of its former self into its new one, so that what it no longer applies can go.
    assert owners(kubectl) == {"kubectl": "Apply", "kubectl-last-applied": "Apply"}
    kubectl.ok(*APPLY, stdin=config(a="2"))
    assert kubectl.json("get", "configmap", "made")["data"] == {"a": "2"}


def test_diff_shows_what_an_apply_would_do(kubectl: Kubectl) -> None:
    kubectl.ok(*APPLY, stdin=config(a="before"))
    changed = kubectl.run("diff", "--server-side", "-f", "-", stdin=config(a="after"))
    assert changed.code == 1, changed
    assert "-  a: before\n+  a: after\n" in changed.out
    assert kubectl.ok("diff", "--server-side", "-f", "-", stdin=config(a="before")) == ""
    assert kubectl.json("get", "configmap", "made")["data"] == {"a": "before"}


def test_a_dry_run_changes_nothing(kubectl: Kubectl) -> None:
    said = kubectl.ok(*APPLY, "--dry-run=server", stdin=config(a="1"))
    assert said == "configmap/made serverside-applied (server dry run)\n"
    assert "NotFound" in kubectl.refused("get", "configmap", "made")


def test_fields_that_are_not_there_are_refused_or_warned_of(kubectl: Kubectl) -> None:
    wrong = {**config(a="1"), "colour": "red"}
    refused = kubectl.refused(*APPLY, stdin=wrong)
    assert ".colour: field not declared in schema" in refused
    apply = ("apply", "-f", "-")
    assert 'strict decoding error: unknown field "colour"' in kubectl.refused(*apply, "--validate=strict", stdin=wrong)
    warned = kubectl.run(*apply, "--validate=warn", stdin=wrong)
    assert (warned.code, warned.err) == (0, 'Warning: unknown field "colour"\n')
    assert kubectl.ok(*apply, "--validate=ignore", stdin={**wrong, "data": {"a": "2"}}) == "configmap/made configured\n"


def test_every_kind_is_applied_twice(kubectl: Kubectl) -> None:
    """Lists that merge by keys, as a whole and as sets."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "made"},
        "spec": {"ports": [{"name": "http", "port": 80}], "selector": {"app": "x"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "made"},
        "spec": {"containers": [{"name": "web", "image": "nginx:1", "ports": [{"containerPort": 80}]}]},
    }
    for obj in (service, pod):
        kubectl.ok(*APPLY, stdin=obj)
    service["spec"] = {"ports": [{"name": "https", "port": 443}], "selector": {"app": "y"}}
    pod["metadata"] = {"name": "made", "labels": {"app": "y"}}
    for obj in (service, pod):
        kubectl.ok(*APPLY, stdin=obj)
    found = kubectl.json("get", "service", "made")["spec"]
    assert ([port["name"] for port in found["ports"]], found["selector"]) == (["https"], {"app": "y"})
    assert kubectl.json("get", "pod", "made")["metadata"]["labels"] == {"app": "y"}
