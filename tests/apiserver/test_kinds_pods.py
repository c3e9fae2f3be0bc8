"""Pods: defaults, 422 bodies, what may change, status, the Status cell."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portway.apiserver.kinds.pods import POD
from portway.testing.api import InProcessApi

PATH = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InProcessApi() as api:
            await test(api)

    asyncio.run(run())


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def container(**parts: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "c", "image": "i", **parts}])


def causes(status: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(cause["field"], cause["reason"], cause["message"]) for cause in status["details"]["causes"]]


def test_a_small_pod_gets_upstream_s_defaults() -> None:
    async def test(api: InProcessApi) -> None:
        obj = {**container(ports=[{"containerPort": 80}]), "status": {"phase": "Running", "podIP": "10.0.0.9"}}
        made = (await api.admin.request("POST", PATH, obj)).json()
        tolerations = [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in ("not-ready", "unreachable")
        ]
        assert made["spec"] == {
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "Always",
                }
            ],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "schedulerName": "default-scheduler",
            "tolerations": tolerations,
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        # The status of a new pod is the server's to say.
        assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}

    serve(test)


@pytest.mark.parametrize(
    ("obj", "where", "expected"),
    [
        (container(image="a/b:1"), "imagePullPolicy", "IfNotPresent"),
        (container(image="host:5000/b"), "imagePullPolicy", "Always"),
        (container(image="b@sha256:1"), "imagePullPolicy", "IfNotPresent"),
        (container(image="b:latest"), "imagePullPolicy", "Always"),
        (
            container(livenessProbe={"httpGet": {"port": 1}}),
            "livenessProbe",
            {
                "httpGet": {"port": 1, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1,
                "periodSeconds": 10,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
        ),
        (
            container(resources={"limits": {"cpu": "1000m"}}),
            "resources",
            {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
        ),
        (
            container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
            "env",
            [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}}],
        ),
    ],
)
def test_defaults_of_containers(obj: dict[str, Any], where: str, expected: Any) -> None:
    async def test(api: InProcessApi) -> None:
        made = (await api.admin.request("POST", PATH, obj)).json()
        assert made["spec"]["containers"][0][where] == expected

    serve(test)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], expected: str) -> None:
    async def test(api: InProcessApi) -> None:
        made = (await api.admin.request("POST", PATH, container(resources=resources))).json()
        assert made["status"]["qosClass"] == expected

    serve(test)


def test_defaults_of_volumes_and_accounts() -> None:
    async def test(api: InProcessApi) -> None:
        volumes = [
            {"name": "a"},
            {"name": "b", "secret": {"secretName": "s"}},
            {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        ]
        made = (await api.admin.request("POST", PATH, pod(volumes=volumes, serviceAccountName="sa"))).json()["spec"]
        assert made["volumes"] == [
            {"name": "a", "emptyDir": {}},
            {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
            {
                "name": "c",
                "projected": {
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                    "defaultMode": 420,
                },
            },
        ]
        assert made["serviceAccount"] == "sa"

    serve(test)


LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
REQUIRED = ("FieldValueRequired", "Required value")

INVALID: list[tuple[dict[str, Any], list[tuple[str, str, str]]]] = [
    (pod(containers=[]), [("spec.containers", *REQUIRED)]),
    (pod(containers=[{}]), [("spec.containers[0].name", *REQUIRED), ("spec.containers[0].image", *REQUIRED)]),
    (
        pod(containers=[{"name": "c", "image": "i"}, {"name": "c", "image": " i"}]),
        [
            ("spec.containers[1].name", "FieldValueDuplicate", 'Duplicate value: "c"'),
            (
                "spec.containers[1].image",
                "FieldValueInvalid",
                'Invalid value: " i": must not have leading or trailing whitespace',
            ),
        ],
    ),
    (
        pod(restartPolicy="Sometimes"),
        [
            (
                "spec.restartPolicy",
                "FieldValueNotSupported",
                'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
            )
        ],
    ),
    (
        container(ports=[{"containerPort": 0}, {"containerPort": 70000}]),
        [
            ("spec.containers[0].ports[0].containerPort", *REQUIRED),
            (
                "spec.containers[0].ports[1].containerPort",
                "FieldValueInvalid",
                "Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
        ],
    ),
    (
        container(ports=[{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]),
        [("spec.containers[0].ports[1].name", "FieldValueDuplicate", 'Duplicate value: "a"')],
    ),
    (
        container(imagePullPolicy="Now"),
        [
            (
                "spec.containers[0].imagePullPolicy",
                "FieldValueNotSupported",
                'Unsupported value: "Now": supported values: "Always", "IfNotPresent", "Never"',
            )
        ],
    ),
    (
        container(volumeMounts=[{"name": "x", "mountPath": "/a"}]),
        [("spec.containers[0].volumeMounts[0].name", "FieldValueNotFound", 'Not found: "x"')],
    ),
    (
        container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
        [
            (
                "spec.containers[0].resources.requests",
                "FieldValueInvalid",
                'Invalid value: "2": must be less than or equal to cpu limit of 1',
            )
        ],
    ),
    (
        container(readinessProbe={}),
        [("spec.containers[0].readinessProbe", "FieldValueRequired", "Required value: must specify a handler type")],
    ),
    (
        pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        [("spec.volumes[0].hostPath", "FieldValueForbidden", "Forbidden: may not specify more than 1 volume type")],
    ),
    (
        pod(activeDeadlineSeconds=0),
        [
            (
                "spec.activeDeadlineSeconds",
                "FieldValueInvalid",
                "Invalid value: 0: must be between 1 and 2147483647, inclusive",
            )
        ],
    ),
    (
        pod(hostname="A"),
        [
            (
                "spec.hostname",
                "FieldValueInvalid",
                f'Invalid value: "A": {LABEL}',
            )
        ],
    ),
    (
        pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
        [
            (
                "spec.tolerations[0].operator",
                "FieldValueInvalid",
                "Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            )
        ],
    ),
]


@pytest.mark.parametrize(("obj", "expected"), INVALID)
def test_422(obj: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("POST", PATH, obj)
        assert answer.status == 422
        assert causes(answer.json()) == expected

    serve(test)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"spec": {"activeDeadlineSeconds": 10}}, 200),
        ({"metadata": {"labels": {"a": "b"}}}, 200),
        ({"spec": {"nodeName": "n1"}}, 200),
        ({"spec": {"containers": [{"name": "c", "image": "j"}]}}, 200),
        ({"spec": {"restartPolicy": "Never"}}, 422),
        ({"spec": {"containers": [{"name": "d", "image": "i"}]}}, 422),
        ({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}}, 422),
        ({"spec": {"tolerations": []}}, 200),  # those that every pod gets come back
    ],
)
def test_what_of_a_pod_may_change(change: dict[str, Any], status: int) -> None:
    async def test(api: InProcessApi) -> None:
        assert (await api.admin.request("POST", PATH, pod())).status == 201
        answer = await api.admin.request("PATCH", f"{PATH}/p", change, content_type=MERGE)
        assert answer.status == status, answer.body
        if status == 422:
            assert causes(answer.json())[0][1] == "FieldValueForbidden"

    serve(test)


def test_a_pod_s_own_toleration_stays() -> None:
    async def test(api: InProcessApi) -> None:
        own = {"key": "k", "operator": "Exists", "effect": "NoSchedule"}
        assert (await api.admin.request("POST", PATH, pod(tolerations=[own]))).status == 201
        answer = await api.admin.request("PATCH", f"{PATH}/p", {"spec": {"tolerations": []}}, content_type=MERGE)
        assert causes(answer.json())[0][:2] == ("spec.tolerations", "FieldValueForbidden")

    serve(test)


def test_tolerations_are_compared_in_time_proportional_to_their_number() -> None:
    async def test(api: InProcessApi) -> None:
        many = [{"key": f"k{i}", "operator": "Exists"} for i in range(20_000)]
        assert (await api.admin.request("POST", PATH, pod(tolerations=many))).status == 201
        change = {"metadata": {"labels": {"a": "b"}}}
        began = time.process_time()
        assert (await api.admin.request("PATCH", f"{PATH}/p", change, content_type=MERGE)).status == 200
        # Quadratic, it takes 20 s and more.
        assert time.process_time() - began < 5

    serve(test)


def test_a_manifest_that_made_a_pod_can_replace_it() -> None:
    async def test(api: InProcessApi) -> None:
        made = (await api.admin.request("POST", PATH, pod())).json()
        assert (await api.admin.request("PUT", f"{PATH}/p", pod())).json() == made

    serve(test)


def test_the_status_is_written_through_its_subresource() -> None:
    async def test(api: InProcessApi) -> None:
        assert (await api.admin.request("POST", PATH, pod())).status == 201
        status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        answer = await api.admin.request("PATCH", f"{PATH}/p/status", {"status": status}, content_type=MERGE)
        assert answer.json()["status"] == {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": None}],
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "qosClass": "BestEffort",
        }
        bad = {"status": {"podIPs": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}, {"ip": "x"}]}}
        answer = await api.admin.request("PATCH", f"{PATH}/p/status", bad, content_type=MERGE)
        assert [cause[0] for cause in causes(answer.json())] == ["status.podIPs", "status.podIPs[2].ip"]

    serve(test)


def waiting(reason: str) -> dict[str, Any]:
    return {"name": "c", "state": {"waiting": {"reason": reason}}}


RUNNING = {"name": "c", "ready": True, "state": {"running": {}}}
ENDED = {"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}


@pytest.mark.parametrize(
    ("status", "meta", "expected"),
    [
        ({"phase": "Pending"}, {}, "Pending"),
        ({"phase": "Running", "containerStatuses": [RUNNING]}, {}, "Running"),
        ({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}, {}, "CrashLoopBackOff"),
        ({"phase": "Running", "containerStatuses": [ENDED, RUNNING]}, {}, "NotReady"),
        ({"phase": "Succeeded", "containerStatuses": [ENDED]}, {}, "Completed"),
        ({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}, {}, "ExitCode:3"),
        ({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"signal": 9}}}]}, {}, "Signal:9"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, "Evicted"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("ImagePullBackOff")]}, {}, "Init:ImagePullBackOff"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("PodInitializing")]}, {}, "Init:0/1"),
        ({"phase": "Running"}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "Terminating"),
        ({"phase": "Running", "reason": "NodeLost"}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "Unknown"),
    ],
)
def test_the_status_cell(status: dict[str, Any], meta: dict[str, Any], expected: str) -> None:
    obj = {"metadata": {"name": "p", **meta}, "spec": {"initContainers": [{"name": "c"}]}, "status": status}
    row = POD.columns.cells(copy.deepcopy(obj), 0.0)
    assert row[2] == expected
    assert len(row) == len(POD.columns.definitions)


def test_the_other_cells() -> None:
    last = {"terminated": {"finishedAt": "1970-01-01T00:00:00Z"}}
    obj = {
        "metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"containers": [{}, {}], "nodeName": "n1", "readinessGates": [{"conditionType": "a"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "containerStatuses": [{**RUNNING, "restartCount": 2, "lastState": last}],
        },
    }
    row = POD.columns.cells(obj, 300.0)
    assert row == ["p", "1/2", "Running", "2 (5m ago)", "5m", "10.0.0.1", "n1", "<none>", "0/1"]


def test_field_selectors() -> None:
    async def test(api: InProcessApi) -> None:
        assert (await api.admin.request("POST", PATH, pod(nodeName="n1"))).status == 201
        for selector, found in (("spec.nodeName=n1", 1), ("status.phase!=Pending", 0), ("spec.hostNetwork=false", 1)):
            answer = await api.admin.request("GET", f"{PATH}?fieldSelector={selector}")
            assert len(answer.json()["items"]) == found
        answer = await api.admin.request("GET", f"{PATH}?fieldSelector=spec.nope=1")
        assert (answer.status, answer.json()["message"]) == (400, "field label not supported: spec.nope")

    serve(test)
