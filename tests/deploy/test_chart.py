"""The chart renders, in many shapes, to objects that every supported Kubernetes takes and that keep our promises."""

import base64
import subprocess
from typing import Any

import pytest
import yaml

from portway.door.settings import GATEWAY
from portway.gateway.authentication.oidcconfig import parse
from portway.testing.chart import CHART, HOOKS, MANIFESTS, Object, objects, of_kind, plain, render

pytestmark = pytest.mark.deploy

VERSIONS = [f"1.{minor}" for minor in range(27, 37)]
CUSTOM = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}
"""Kinds whose definitions come with an operator: kubernetes-validate knows none of them."""

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "some-namespaces": {"namespaces": ["shop", "blog"], "rbac": {"nodes": False}},
    "by-host-name": {
        "domain": "apps.example.com",
        "namespaces": ["shop"],
        "tls": {"source": "certManager", "certManager": {"issuerRef": {"name": "ours"}, "duration": "2160h"}},
    },
    "self-signed": {"tls": {"source": "selfSigned", "dnsNames": ["door.example.com"]}},
    "rbac-mode": {"authorizationMode": "RBAC"},
    "rbac-mode-some-namespaces": {"authorizationMode": "RBAC", "namespaces": ["shop"]},
    "tunnel": {"via": "tunnel", "workers": 2},
    "load-balancer": {
        "service": {
            "type": "LoadBalancer",
            "annotations": {"a.example.com/b": "c"},
            "loadBalancerClass": "example.com/internal",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "externalTrafficPolicy": "Local",
        }
    },
    "node-port": {"service": {"type": "NodePort", "nodePort": 30443}},
    "ingress": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "door.example.com",
            "hosts": ["*.shop.apps.example.com"],
            "tlsSecretName": "door-tls",
            "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"},
        }
    },
    "oidc": {
        "oidc": {
            "issuerURL": "https://login.example.com",
            "audiences": ["portway", "kubernetes"],
            "groupsClaim": "groups",
            "requiredClaims": {"hd": "example.com"},
        },
        "tokenReview": False,
        "anonymous": "all",
    },
    "own-authentication": {
        "authenticationConfiguration": {
            "jwt": [
                {
                    "issuer": {"url": "https://login.example.com", "audiences": ["portway"]},
                    "claimMappings": {"username": {"claim": "sub", "prefix": "people:"}},
                }
            ]
        }
    },
    "narrow": {
        "rbac": {
            "impersonate": {
                "users": ["oidc:ada"],
                "groups": ["system:authenticated", "oidc:team"],
                "serviceAccounts": False,
                "userExtras": ["scopes.example.com"],
            },
            "backendCAs": [{"namespace": "shop", "configMap": "ca"}, {"namespace": "blog", "secret": "ca"}],
        },
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
            "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
    },
    "everything-else": {
        "fullnameOverride": "door",
        "image": {"repository": "r.example.com/p", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "config": {"access-log": "json", "outage-grace": "30s", "limit": ["header-bytes=32768"]},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "serviceAccount": {"annotations": {"a.example.com/b": "c"}},
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "podAnnotations": {"a.example.com/b": "c"},
        "podLabels": {"team": "t"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/portway/ca", "readOnly": True}],
    },
    "bare": {
        "replicas": 1,
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "resources": {},
    },
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_takes_it(variant: str, version: str) -> None:
    import kubernetes_validate

    for found in objects(VARIANTS[variant], hooks=True):
        if found["apiVersion"] not in CUSTOM:
            assert kubernetes_validate.validate(found, version, strict=True) == version


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_plain_manifests(version: str) -> None:
    import kubernetes_validate

    for found in yaml.safe_load_all(MANIFESTS.read_text()):
        assert kubernetes_validate.validate(found, version, strict=True) == version


def test_the_validation_notices_a_fault() -> None:
    import kubernetes_validate

    (deployment,) = of_kind(objects(), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


def test_the_plain_manifests_are_those_of_the_chart() -> None:
    assert MANIFESTS.read_text() == plain(), "`make manifests` renews them"


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_has_nothing_to_complain_of(variant: str) -> None:
    import helm_python

    report = helm_python.lint(CHART, VARIANTS[variant], strict=True)
    complaints = [one for one in report["messages"] if one["severity"] > 1]
    assert (report["errors"], complaints) == ([], [])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replica": 3}, "replica"),
        ({"via": "bus"}, "via"),
        ({"namespaces": ["Shop"]}, "namespaces"),
        ({"oidc": {"issuerURL": "http://login.example.com"}}, "issuerURL"),
        ({"oidc": {"issuerURL": "https://login.example.com"}}, "what tokens must be made for"),
        (VARIANTS["oidc"] | VARIANTS["own-authentication"], "choose one"),
        ({"tls": {"source": "certManager"}}, "which issuer"),
        ({"ingress": {"enabled": True}}, "by which name"),
        ({"rbac": {"backendCAs": [{"namespace": "a"}]}}, "backendCAs"),
    ],
)  # fmt: skip
def test_values_that_cannot_work_are_refused(values: dict[str, Any], said: str) -> None:
    import helm_python

    with pytest.raises(helm_python.HelmError, match=said):
        render(values)


# What every shape promises.


@pytest.fixture(params=VARIANTS)
def shape(request: pytest.FixtureRequest) -> list[Object]:
    return objects(VARIANTS[request.param], hooks=True)


def pods(shape: list[Object]) -> list[Object]:
    """Specs of every pod."""
    return [one["spec"]["template"]["spec"] for one in of_kind(shape, "Deployment")] + [
        one["spec"] for one in of_kind(shape, "Pod")
    ]


def test_pods_are_held_to_the_restricted_standard(shape: list[Object]) -> None:
    for pod in pods(shape):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod.get("volumes", ()))
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_only_the_door_has_a_token(shape: list[Object]) -> None:
    tokens = [one["automountServiceAccountToken"] for one in (*pods(shape), *of_kind(shape, "ServiceAccount"))]
    assert tokens.count(True) == 1


def test_selectors_find_the_pods_and_nothing_else(shape: list[Object]) -> None:
    (deployment,) = of_kind(shape, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    wanted = deployment["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= labels.items()
    (test,) = of_kind(shape, "Pod")
    assert not wanted.items() <= test["metadata"]["labels"].items()
    (service,) = of_kind(shape, "Service")
    assert service["spec"]["selector"] == wanted
    for one in of_kind(shape, "PodDisruptionBudget"):
        assert one["spec"]["selector"]["matchLabels"] == wanted
    for one in of_kind(shape, "NetworkPolicy"):
        assert one["spec"]["podSelector"]["matchLabels"] == wanted


def test_no_rule_grants_what_a_door_must_not_have(shape: list[Object]) -> None:
    roles = [*of_kind(shape, "ClusterRole"), *of_kind(shape, "Role")]
    rules = [(role, rule) for role in roles for rule in role["rules"]]
    for role, rule in rules:
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert not {"update", "patch", "delete", "deletecollection", "bind", "escalate"} & {*rule["verbs"]}
        if {"secrets", "configmaps"} & {*rule["resources"]}:
            assert (role["kind"], rule["verbs"]) == ("Role", ["get"])
            assert rule["resourceNames"]
        if "create" in rule["verbs"]:
            assert {*rule["resources"]} <= {"tokenreviews", "subjectaccessreviews", "pods/portforward"}


def test_the_settings_are_ones_that_the_door_takes(shape: list[Object]) -> None:
    found = {name: text for one in of_kind(shape, "ConfigMap") for name, text in one["data"].items()}
    settings = yaml.safe_load(found["gateway.yaml"])
    for name, value in settings.items():
        GATEWAY.by_name[name].value(value)
    configuration = parse(found["authentication.yaml"])
    assert configuration.anonymous is not None
    assert all(configuration.anonymous.admits(path) for path in ("/livez", "/readyz"))
    (deployment,) = of_kind(shape, "Deployment")
    mounts = [one["mountPath"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
    for name in ("tls-cert-file", "tls-private-key-file", "authentication-config"):
        assert any(settings[name].startswith(f"{mount}/") for mount in mounts)


# What single settings do.


def rules(values: dict[str, Any]) -> set[tuple[str, str]]:
    """(verb, resource) of everything that the roles grant."""
    return {
        (verb, resource)
        for one in objects(values)
        for rule in one.get("rules", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_what_the_default_grants_is_this_and_no_more() -> None:
    key = "userextras/authentication.kubernetes.io/"
    extras = ["credential-id", "node-name", "node-uid", "pod-name", "pod-uid"]
    assert rules({}) == {
        ("create", "tokenreviews"),
        ("create", "subjectaccessreviews"),
        *(("impersonate", who) for who in ("users", "groups", "serviceaccounts", "uids", *(key + e for e in extras))),
        *((verb, what) for verb in ("list", "watch") for what in ("services", "pods", "endpointslices")),
        ("list", "nodes"),
    }


def test_more_is_granted_only_where_it_is_needed() -> None:
    assert rules({"via": "tunnel"}) - rules({}) == {("get", "pods/portforward"), ("create", "pods/portforward")}
    by_roles = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
    more = {(verb, what) for verb in ("list", "watch") for what in by_roles}
    assert rules(VARIANTS["rbac-mode"]) - rules({}) == more
    assert rules({}) - rules(VARIANTS["rbac-mode"]) == {("create", "subjectaccessreviews")}
    assert ("create", "tokenreviews") not in rules({"tokenReview": False})
    assert ("list", "nodes") not in rules({"rbac": {"nodes": False}})


def test_served_namespaces_are_the_only_ones_that_are_read() -> None:
    found = objects({"namespaces": ["shop", "blog"]})
    assert {one["metadata"]["namespace"] for one in of_kind(found, "RoleBinding")} == {"shop", "blog"}
    assert [one["metadata"]["name"] for one in of_kind(found, "ClusterRoleBinding")] == ["portway"]
    assert {one["roleRef"]["name"] for one in of_kind(found, "RoleBinding")} == {"portway-view"}


def test_impersonation_can_be_held_to_names() -> None:
    named = {
        resource: rule.get("resourceNames")
        for one in objects(VARIANTS["narrow"])
        for rule in one.get("rules", ())
        if rule["verbs"] == ["impersonate"]
        for resource in rule["resources"]
    }
    assert named["users"] == ["oidc:ada"]
    assert named["groups"] == ["system:authenticated", "oidc:team"]
    assert "serviceaccounts" not in named
    assert "userextras/scopes.example.com" in named


def test_a_certificate_of_the_charts_own_is_good_for_its_names(tmp_path: Any) -> None:
    (secret,) = of_kind(objects(VARIANTS["self-signed"]), "Secret")
    for name, data in secret["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(data))
    for name in ("door.example.com", "portway.portway.svc"):
        command = f"openssl verify -CAfile {tmp_path}/ca.crt -verify_hostname {name} {tmp_path}/tls.crt"
        subprocess.run(command.split(), check=True, capture_output=True)


def test_certificates_cover_the_services_of_served_namespaces() -> None:
    (certificate,) = of_kind(objects(VARIANTS["by-host-name"]), "Certificate")
    assert {"apps.example.com", "*.shop.apps.example.com"} <= {*certificate["spec"]["dnsNames"]}


def test_other_settings_mean_other_pods() -> None:
    def checksum(values: dict[str, Any]) -> str:
        (deployment,) = of_kind(objects(values), "Deployment")
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/gateway-config"])

    assert checksum({}) != checksum({"config": {"access-log": "json"}})
    assert checksum({}) == checksum(VARIANTS["oidc"] | {"tokenReview": True}), "the door follows that file by itself"


def test_what_helm_says_after_an_installation_fits() -> None:
    assert "create secret tls portway-tls" in render({})["NOTES.txt"]
    assert "portway-ca.crt" in render(VARIANTS["self-signed"])["NOTES.txt"]
    assert "system:masters" in render({})["NOTES.txt"]
    assert "system:masters" not in render(VARIANTS["narrow"])["NOTES.txt"]
    assert "NAME.NAMESPACE.apps.example.com" in render(VARIANTS["by-host-name"])["NOTES.txt"]


def test_helm_test_is_a_hook_and_no_part_of_the_manifests() -> None:
    assert f"{HOOKS}ready.yaml" in render({}, hooks=True)
    assert "helm.sh/hook" not in MANIFESTS.read_text()
