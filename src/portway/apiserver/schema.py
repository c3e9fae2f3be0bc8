"""How a strategic merge patch treats the fields of our kinds: merge keys, sets, fields that are replaced as a whole.

The facts are upstream's `patchStrategy` and `patchMergeKey` tags; the walk from a kind to the message that holds a
field goes over `fields`. The patch itself is made in `portway.apiserver.patch`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from portway.apiserver.fields import Message, messages
from portway.apiserver.kinds.base import MergeInfo

_PACKAGES = (
    "core",
    "apps",
    "batch",
    "discovery",
    "rbac",
    "coordination",
    "events",
    "networking",
    "policy",
    "certificates",
)

_BY_NAME = MergeInfo(key="name")
_BY_TYPE = MergeInfo(key="type")
_BY_IP = MergeInfo(key="ip")
_SET = MergeInfo()
_BY_NAME_RETAINING = MergeInfo(key="name", retain_keys=True)
_RETAINING = MergeInfo(retain_keys=True)

_CONTAINER = {
    "env": _BY_NAME,
    "ports": MergeInfo(key="containerPort"),
    "volumeDevices": MergeInfo(key="devicePath"),
    "volumeMounts": MergeInfo(key="mountPath"),
}
_CONDITIONS = {"conditions": _BY_TYPE}

_MERGES: dict[str, dict[str, MergeInfo]] = {
    "meta.v1.ObjectMeta": {"ownerReferences": MergeInfo(key="uid"), "finalizers": _SET},
    "core.v1.Container": _CONTAINER,
    "core.v1.ContainerStatus": {
        "allocatedResourcesStatus": _BY_NAME,
        "volumeMounts": MergeInfo(key="mountPath"),
    },
    "core.v1.EphemeralContainer": _CONTAINER,
    "core.v1.PodSpec": {
        "volumes": _BY_NAME_RETAINING,
        "initContainers": _BY_NAME,
        "containers": _BY_NAME,
        "ephemeralContainers": _BY_NAME,
        "imagePullSecrets": _BY_NAME,
        "hostAliases": _BY_IP,
        "topologySpreadConstraints": MergeInfo(key="topologyKey"),
        "schedulingGates": _BY_NAME,
        "resourceClaims": _BY_NAME_RETAINING,
    },
    "core.v1.PodStatus": {
        "conditions": _BY_TYPE,
        "podIPs": _BY_IP,
        "hostIPs": _BY_IP,
        "resourceClaimStatuses": _BY_NAME_RETAINING,
    },
    "core.v1.ServiceSpec": {"ports": MergeInfo(key="port")},
    "core.v1.ServiceStatus": _CONDITIONS,
    "core.v1.ServiceAccount": {"secrets": _BY_NAME},
    "core.v1.NodeSpec": {"podCIDRs": _SET},
    "core.v1.NodeStatus": {"conditions": _BY_TYPE, "addresses": _BY_TYPE},
    "core.v1.NamespaceStatus": _CONDITIONS,
    "core.v1.PersistentVolumeClaimStatus": _CONDITIONS,
    "core.v1.ReplicationControllerStatus": _CONDITIONS,
    "apps.v1.DeploymentSpec": {"strategy": _RETAINING},
    "apps.v1.DeploymentStatus": _CONDITIONS,
    "apps.v1.ReplicaSetStatus": _CONDITIONS,
    "apps.v1.StatefulSetStatus": _CONDITIONS,
    "apps.v1.DaemonSetStatus": _CONDITIONS,
    "batch.v1.JobStatus": _CONDITIONS,
    "networking.v1.ServiceCIDRStatus": _CONDITIONS,
    "policy.v1.PodDisruptionBudgetSpec": {"selector": MergeInfo(replace=True)},
    "policy.v1.PodDisruptionBudgetStatus": _CONDITIONS,
}


@functools.lru_cache(maxsize=4096)
def _merge_key(kind: str, path: tuple[str, ...]) -> MergeInfo | None:
    message = _message_of(kind)
    for name in path[:-1]:
        field = message.by_name.get(name) if message else None
        message = messages().get(field.type) if field and not field.map else None
    return _MERGES.get(message.name, {}).get(path[-1]) if message else None


def _message_of(kind: str) -> Message | None:
    known = messages()
    return next((known[name] for package in _PACKAGES if (name := f"{package}.v1.{kind}") in known), None)


def merge_key(kind: str, path: Sequence[str]) -> MergeInfo | None:
    """Returns how the field at `path` of a `kind` ("Pod") merges; None when it is replaced (lists) or plain.

    `path` holds field names only, from the object's top, without list positions: ("spec", "containers", "ports").
    """
    return _merge_key(kind, tuple(path)) if path else None
