"""What kubectl says when something can't be done: the exact lines, and exit code 1."""

import json
from typing import Any

import pytest

from portway.testing.kubectl import Kubectl

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(120)]

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def configmap(name: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **parts}


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], **spec},
    }


def test_not_found(kubectl: Kubectl) -> None:
    missing = 'Error from server (NotFound): pods "nope" not found\n'
    assert kubectl.refused("get", "pod", "nope") == missing
    assert kubectl.refused("delete", "pod", "nope") == missing
    assert kubectl.refused("label", "pod", "nope", "a=b") == missing
    assert kubectl.refused("patch", "pod", "nope", "-p", "{}") == missing
    assert kubectl.refused("describe", "pod", "nope") == missing
    assert kubectl.ok("delete", "pod", "nope", "--ignore-not-found") == ""
    assert kubectl.ok("get", "pod", "nope", "--ignore-not-found") == ""
    assert kubectl.refused("get", "pod/a", "service/b").splitlines() == [
        'Error from server (NotFound): pods "a" not found',
        'Error from server (NotFound): services "b" not found',
    ]
    assert kubectl.refused("replace", "-f", "-", stdin=configmap("nope")) == (
        'Error from server (NotFound): error when replacing "STDIN": configmaps "nope" not found\n'
    )
    empty = kubectl.run("get", "pods")
    assert (empty.code, empty.out, empty.err) == (0, "", f"No resources found in {kubectl.namespace} namespace.\n")


def test_namespaces(admin: Kubectl) -> None:
    assert admin.refused("create", "configmap", "a", "--namespace=nowhere").endswith('namespaces "nowhere" not found\n')
    assert admin.refused("delete", "namespace", "default") == (
        'Error from server (Forbidden): namespaces "default" is forbidden: this namespace may not be deleted\n'
    )
    assert admin.refused("create", "namespace", "Bad") == (
        f'The Namespace "Bad" is invalid: metadata.name: Invalid value: "Bad": {LABEL}\n'
    )


def test_already_exists(kubectl: Kubectl) -> None:
    kubectl.ok("create", "configmap", "a")
    assert kubectl.refused("create", "-f", "-", stdin=configmap("a")) == (
        'Error from server (AlreadyExists): error when creating "STDIN": configmaps "a" already exists\n'
    )


def test_invalid(kubectl: Kubectl) -> None:
    bad = service("Bad", ports=[{"port": 0, "targetPort": 80}])
    assert kubectl.refused("create", "-f", "-", stdin=bad).splitlines() == [
        'The Service "Bad" is invalid: ',
        f'* metadata.name: Invalid value: "Bad": {LABEL}',
        "* spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}
    assert kubectl.refused("create", "-f", "-", stdin=pod) == (
        'The Pod "a" is invalid: spec.containers: Required value\n'
    )
    kubectl.ok("create", "-f", "-", stdin=service("a"))
    assert kubectl.refused("patch", "service", "a", "-p", '{"spec": {"clusterIP": "10.96.0.99"}}') == (
        'The Service "a" is invalid: spec.clusterIPs[0]: Invalid value: ["10.96.0.99"]: may not change once set\n'
    )
    assert kubectl.refused("create", "-f", "-", stdin=service("b", clusterIP="10.96.0.1")) == (
        'The Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: '
        "provided IP is already allocated\n"
    )
    kubectl.ok("run", "web", "--image=nginx")
    updated = kubectl.refused("patch", "pod", "web", "-p", '{"spec": {"restartPolicy": "Never"}}')
    assert updated.startswith(
        'The Pod "web" is invalid: spec: Forbidden: pod updates may not change fields other than '
        "`spec.containers[*].image`,`spec.initContainers[*].image`,"
    )
    role = kubectl.refused("create", "rolebinding", "a", "--role=a", "--user=")
    assert "subjects[0].name: Required value" in role


def test_malformed(kubectl: Kubectl) -> None:
    creating = 'Error from server (BadRequest): error when creating "STDIN": '
    strict = 'in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "datta"\n'
    unknown = configmap("a", datta={"k": "v"})
    assert kubectl.refused("create", "-f", "-", stdin=unknown) == f"{creating}ConfigMap {strict}"
    warned = kubectl.run("create", "--validate=warn", "-f", "-", stdin=unknown)
    assert (warned.code, warned.err) == (0, 'Warning: unknown field "datta"\n')
    assert kubectl.refused("create", "-f", "-", stdin=service("a", ports=[{"port": "x"}])) == (
        f'{creating}Service in version "v1" cannot be handled as a Service: '
        "json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32\n"
    )
    kubectl.ok("apply", "-f", "-", stdin=configmap("b"))
    again = kubectl.refused("apply", "-f", "-", stdin=configmap("b", datta={"k": "v"}))
    assert again.startswith(
        'The request is invalid: patch: Invalid value: "map[datta:map[k:v] metadata:map[annotations:'
    )
    assert again.endswith(']]]": strict decoding error: unknown field "datta"\n')
    for patch in ('[{"op": "test", "path": "/data/k", "value": "x"}]', '[{"op": "remove", "path": "/data/z"}]'):
        assert kubectl.refused("patch", "configmap", "a", "--type=json", "-p", patch) == (
            "The request is invalid: the server rejected our request due to an error in our request\n"
        )


def test_selectors(kubectl: Kubectl) -> None:
    where = 'Error from server (BadRequest): Unable to find "/v1, Resource=configmaps" that match label selector '
    assert kubectl.refused("get", "configmaps", "--field-selector=data=1") == (
        f'{where}"", field selector "data=1": "data" is not a known field selector: '
        'only "metadata.name", "metadata.namespace"\n'
    )
    assert kubectl.refused("get", "configmaps", "-l", "x in ((").startswith(f'{where}"x in ((", field selector ""')
    kubectl.ok("create", "configmap", "a")
    assert kubectl.refused("label", "configmap", "a", "x=b c").startswith("error: invalid label value")


def test_what_is_not_there_is_refused_by_name(kubectl: Kubectl) -> None:
    assert kubectl.refused("get", "deployments") == 'error: the server doesn\'t have a resource type "deployments"\n'
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
    assert kubectl.refused("apply", "-f", "-", stdin=deployment) == (
        'error: resource mapping not found for name: "a" namespace: "" from "STDIN": no matches for kind "Deployment" '
        'in version "apps/v1"\nensure CRDs are installed first\n'
    )
    assert kubectl.refused("create", "deployment", "a", "--image=nginx") == (
        "error: failed to create deployment: the server does not allow this method on the requested resource\n"
    )
    assert kubectl.refused("top", "pods") == "error: Metrics API not available\n"


def test_out_of_step(kubectl: Kubectl) -> None:
    kubectl.ok("create", "configmap", "a")
    old = kubectl.json("get", "configmap", "a")["metadata"]["resourceVersion"]
    kubectl.ok("label", "configmap", "a", "x=y")
    assert kubectl.refused("label", "configmap", "a", "x=z") == (
        "error: 'x' already has a value (y), and --overwrite is false\n"
    )
    patch = json.dumps({"metadata": {"resourceVersion": old}, "data": {"k": "v"}})
    assert kubectl.refused("patch", "configmap", "a", "-p", patch) == (
        'Error from server (Conflict): Operation cannot be fulfilled on configmaps "a": '
        "the object has been modified; please apply your changes to the latest version and try again\n"
    )
    stale = kubectl.refused("label", "configmap", "a", "z=1", f"--resource-version={old}")
    assert stale.startswith('Error from server (Conflict): Operation cannot be fulfilled on configmaps "a"')
