"""Audit policies: which rule matches what, and which files are none."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.record.policy import STAGES, PolicyError, load_policy, parse_policy
from portway.kube.attributes import parse
from portway.kube.identity import User

ALL = frozenset(STAGES)
JANE = User("jane", groups=("devs", "system:authenticated"))


def policy(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more}


def resources(*patterns: str, group: str = "", names: tuple[str, ...] = ()) -> dict[str, Any]:
    entry: dict[str, Any] = {"group": group, "resources": list(patterns)}
    if names:
        entry["resourceNames"] = list(names)
    return {"resources": [entry]}


@pytest.mark.parametrize(
    ("rule", "method", "path", "matches"),
    [
        ({}, "GET", "/healthz", True),
        ({"users": ["jane"]}, "GET", "/healthz", True),
        ({"users": ["joe"]}, "GET", "/healthz", False),
        ({"userGroups": ["x", "devs"]}, "GET", "/healthz", True),
        ({"userGroups": ["x"]}, "GET", "/healthz", False),
        ({"verbs": ["get"]}, "GET", "/api/v1/namespaces/n/pods/p", True),
        ({"verbs": ["list"]}, "GET", "/api/v1/namespaces/n/pods/p", False),
        ({"namespaces": ["n"]}, "GET", "/api/v1/namespaces/n/pods/p", True),
        ({"namespaces": ["m"]}, "GET", "/api/v1/namespaces/n/pods/p", False),
        ({"namespaces": [""]}, "GET", "/api/v1/nodes/x", True),
        ({"namespaces": ["n"]}, "GET", "/healthz", False),
        (resources("pods"), "GET", "/api/v1/namespaces/n/pods/p", True),
        (resources("pods"), "GET", "/api/v1/namespaces/n/pods/p/log", False),
        (resources("pods/log"), "GET", "/api/v1/namespaces/n/pods/p/log", True),
        (resources("pods/*"), "GET", "/api/v1/namespaces/n/pods/p/log", True),
        (resources("pods/*"), "GET", "/api/v1/namespaces/n/pods/p", True),
        (resources("*/log"), "GET", "/api/v1/namespaces/n/pods/p/log", True),
        (resources("*/log"), "GET", "/api/v1/namespaces/n/pods/p", False),
        (resources("*"), "GET", "/api/v1/namespaces/n/pods/p/log", True),
        (resources(), "GET", "/api/v1/namespaces/n/pods/p/log", True),
        (resources("pods", group="apps"), "GET", "/api/v1/namespaces/n/pods/p", False),
        (
            resources("services/proxy", names=("web:http",)),
            "GET",
            "/api/v1/namespaces/n/services/web:http/proxy/",
            True,
        ),
        (resources("services/proxy", names=("web",)), "GET", "/api/v1/namespaces/n/services/web:http/proxy/", False),
        ({"nonResourceURLs": ["*"]}, "GET", "/x", True),
        ({"nonResourceURLs": ["/healthz*"]}, "GET", "/healthz/ping", True),
        ({"nonResourceURLs": ["/healthz"]}, "GET", "/healthz/ping", False),
        ({"nonResourceURLs": ["*"]}, "GET", "/api/v1/nodes/x", False),
    ],
)
def test_what_a_rule_matches(rule: dict[str, Any], method: str, path: str, matches: bool) -> None:
    found = parse_policy(policy({"level": "Metadata", **rule})).stages(JANE, parse(method, path))
    assert found == (ALL if matches else frozenset())


def test_the_first_match_wins_and_stages_are_omitted_by_both() -> None:
    rules = policy(
        {"level": "None", "users": ["jane"], "verbs": ["watch"]},
        {"level": "Request", "users": ["jane"], "omitStages": ["ResponseStarted"]},
        {"level": "None"},
        omitStages=["RequestReceived"],
    )
    found = parse_policy(rules)
    assert found.stages(JANE, parse("GET", "/api/v1/pods", "watch=1")) == frozenset()
    assert found.stages(JANE, parse("GET", "/api/v1/pods")) == {"ResponseComplete", "Panic"}
    assert found.stages(User("joe"), parse("GET", "/api/v1/pods")) == frozenset()


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "policy must be a mapping"),
        ([], "policy must be a mapping"),
        ({"kind": "Policy", "apiVersion": "audit.k8s.io/v1beta1", "rules": []}, "not a Policy of audit.k8s.io/v1"),
        (policy(), "it has no rules"),
        (policy({"level": "Metadata", "verb": ["get"]}), r"rules\[0\] has the unknown field 'verb'"),
        (policy({"level": "metadata"}), r"rules\[0\].level must be one of"),
        (policy({}), r"rules\[0\].level must be one of"),
        (policy({"level": "None", "verbs": "get"}), r"rules\[0\].verbs must be a list of strings"),
        (policy({"level": "None", "omitStages": ["Never"]}), "unknown stage 'Never'"),
        (policy({"level": "None", "nonResourceURLs": ["/"], "namespaces": ["n"]}), "both resources and non-resource"),
        (policy({"level": "None", "resources": {}}) | {"extra": 1}, "unknown field 'extra'"),
        (policy({"level": "None", "resources": [{"resourceNames": ["x"]}]}), "resourceNames needs resources"),
        (policy({"level": "None", "resources": ["pods"]}), r"resources\[0\] must be a mapping"),
    ],
)
def test_what_is_no_policy_is_refused(value: object, complaint: str) -> None:
    with pytest.raises(PolicyError, match=complaint):
        parse_policy(value)


def test_files(tmp_path: Path) -> None:
    good, bad, other = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "none.yaml"
    good.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
    bad.write_text("rules: [\n")
    assert len(load_policy(str(good)).rules) == 1
    for path in (bad, other, tmp_path):
        with pytest.raises(PolicyError, match=r"^audit policy file [^\n]*$"):
            load_policy(str(path))


FIELDS = (
    "level", "users", "userGroups", "verbs", "namespaces", "resources", "nonResourceURLs", "omitStages", "group",
    "resourceNames", "apiVersion", "kind", "rules",
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["Policy", "Metadata", "None"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=10,
)


@given(st.fixed_dictionaries({"apiVersion": st.just("audit.k8s.io/v1"), "kind": st.just("Policy"), "rules": ANYTHING}))
def test_any_document_is_a_policy_or_said_to_be_none(document: object) -> None:
    try:
        policy = parse_policy(document)
    except PolicyError:
        return
    assert policy.stages(User("jane"), parse("GET", "/api/v1/pods", "")) <= frozenset(STAGES)
