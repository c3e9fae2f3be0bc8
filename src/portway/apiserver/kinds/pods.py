"""Pods: defaults, what a client may not set, and the Table.

Defaults of the spec are in `poddefaults`, rules in `podrules`. Nothing here runs a pod.
Source: pkg/registry/core/pod/strategy.go, pkg/printers/internalversion, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.apiserver.kinds.poddefaults import admission_defaults, pod_spec_defaults, qos_class
from portway.apiserver.kinds.podrules import pod_spec_causes, status_causes, update_causes
from portway.kube.errors import Cause
from portway.kube.objects import Object

_LOST = "NodeLost"
_STATUS_ZEROS: Mapping[str, Any] = {"ready": False, "restartCount": 0, "image": "", "imageID": ""}


class PodStrategy(Strategy):
    """What is particular to Pods."""

    def defaults(self, obj: Object) -> None:
        """Fills in the spec, and the times that upstream prints as null."""
        pod_spec_defaults(obj.setdefault("spec", {}))
        status = obj.setdefault("status", {})
        status.setdefault("phase", "Pending")
        _mirror_addresses(status)
        for condition in status.get("conditions") or ():
            for time in ("lastProbeTime", "lastTransitionTime"):
                condition.setdefault(time, None)
        for sort in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for container in status.get(sort) or ():
                _container_status(container)

    def prepare_create(self, obj: Object, ctx: Context) -> None:
        """A new pod is pending, whatever the client says."""
        spec = obj.setdefault("spec", {})
        admission_defaults(spec)
        pod_spec_defaults(spec)  # requests follow from limits, and the class of service from both
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Upstream's rules for the spec."""
        return common.first(pod_spec_causes(obj["spec"]))

    def prepare_update(self, new: Object, old: Object, ctx: Context) -> None:
        """What the server decided when the pod was made stays, though a client may leave it out."""
        if not ctx.subresource:
            for key in ("priority", "preemptionPolicy"):
                if key in old["spec"]:
                    new["spec"].setdefault(key, old["spec"][key])
            admission_defaults(new["spec"])
        if "qosClass" in old.get("status", {}):
            new["status"]["qosClass"] = old["status"]["qosClass"]

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The few things of a pod that may change, or its status."""
        if ctx.subresource == "status":
            return common.first(status_causes(new))
        return common.first(pod_spec_causes(new["spec"]), update_causes(new, old))


def _mirror_addresses(status: dict[str, Any]) -> None:
    """Makes podIP the first of podIPs, and hostIP of hostIPs, whichever was given."""
    for one, many in (("podIP", "podIPs"), ("hostIP", "hostIPs")):
        listed = status.get(many) or []
        if status.get(one) and not listed:
            status[many] = [{"ip": status[one]}]
        elif listed and not status.get(one) and listed[0].get("ip"):
            status[one] = listed[0]["ip"]


def _container_status(container: dict[str, Any]) -> None:
    for key, zero in _STATUS_ZEROS.items():
        container.setdefault(key, zero)
    container.setdefault("lastState", {})
    for state in (container.setdefault("state", {}), container["lastState"]):
        if "running" in state:
            state["running"].setdefault("startedAt", None)
        if "terminated" in state:
            state["terminated"] = {"exitCode": 0, "startedAt": None, "finishedAt": None, **state["terminated"]}


def _cells(pod: Object, now: float) -> Iterable[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    statuses = status.get("containerStatuses") or []
    ready = sum(bool(one.get("ready") and "running" in (one.get("state") or {})) for one in statuses)
    yield f"{ready}/{len(spec.get('containers') or ())}"
    yield _reason(pod)
    yield _restarts(statuses, now)
    addresses = status.get("podIPs") or []
    yield (addresses[0].get("ip") if addresses else status.get("podIP")) or "<none>"
    yield spec.get("nodeName") or "<none>"
    yield status.get("nominatedNodeName") or "<none>"
    yield _gates(spec, status)


def _reason(pod: Object) -> str:
    """The Status cell: the phase, or what keeps the containers from it."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    reason = status.get("reason") or status.get("phase") or ""
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    if (conditions.get("PodScheduled") or {}).get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    ready = conditions.get("Ready") or {}
    waits = _init_reason(spec, status)
    reason = waits or _container_reason(status.get("containerStatuses") or [], reason, ready)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == _LOST:
            return "Unknown"
        return reason if status.get("phase") in ("Succeeded", "Failed") else "Terminating"
    return reason


def _init_reason(spec: dict[str, Any], status: dict[str, Any]) -> str:
    """Which init container the pod waits for; "" for none."""
    total = len(spec.get("initContainers") or ())
    restartable = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        state = container.get("state") or {}
        ended = state.get("terminated")
        if ended is not None and not ended.get("exitCode"):
            continue
        if container.get("name") in restartable and container.get("started"):
            continue
        if ended is not None:
            return "Init:" + _ended(ended)
        why = (state.get("waiting") or {}).get("reason", "")
        return f"Init:{why}" if why and why != "PodInitializing" else f"Init:{i}/{total}"
    return ""


def _container_reason(statuses: list[dict[str, Any]], reason: str, ready: dict[str, Any]) -> str:
    running = False
    for container in reversed(statuses):
        state = container.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif "terminated" in state:
            reason = _ended(state["terminated"])
        elif container.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        return "Running" if ready.get("status") == "True" else "NotReady"
    return reason


def _ended(state: dict[str, Any]) -> str:
    if state.get("reason"):
        return str(state["reason"])
    return f"Signal:{state['signal']}" if state.get("signal") else f"ExitCode:{state.get('exitCode', 0)}"


def _restarts(statuses: list[dict[str, Any]], now: float) -> str:
    total = sum(one.get("restartCount", 0) for one in statuses)
    ends = [((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for one in statuses]
    last = max((end for end in ends if end), default=None)
    return f"{total} ({common.since(last, now)} ago)" if total and last else str(total)


def _gates(spec: dict[str, Any], status: dict[str, Any]) -> str:
    gates = [gate.get("conditionType") for gate in spec.get("readinessGates") or ()]
    if not gates:
        return "<none>"
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    return f"{sum(gate in true for gate in gates)}/{len(gates)}"


def _fields(pod: Object) -> Mapping[str, str]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    return {
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.restartPolicy": spec.get("restartPolicy", ""),
        "spec.schedulerName": spec.get("schedulerName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
        "status.phase": status.get("phase", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": ",".join(entry.get("ip", "") for entry in status.get("podIPs") or ()),
        "status.nominatedNodeName": status.get("nominatedNodeName", ""),
    }


POD = Kind(
    group="",
    version="v1",
    kind="Pod",
    plural="pods",
    singular="pod",
    namespaced=True,
    short_names=("po",),
    categories=("all",),
    has_status=True,
    has_generation=True,
    strategy=PodStrategy(),
    returns_deleted=True,
    subresources=(
        ("portforward", "PodPortForwardOptions", "", "", ("create", "get")),
        ("proxy", "PodProxyOptions", "", "", ("create", "delete", "get", "patch", "update")),
    ),
    selectable=tuple(_fields({"metadata": {}})),
    selectable_fields=_fields,
    columns=common.columns(
        _cells,
        Column("Ready", description="Containers that are ready, of all."),
        Column("Status", description="The phase, or what keeps the containers from running."),
        Column("Restarts", description="How often containers were restarted, and when last."),
        after=(
            common.wide("IP", "The pod's address."),
            common.wide("Node", "The node it runs on."),
            common.wide("Nominated Node", "The node that room is made on for it."),
            common.wide("Readiness Gates", "Conditions that the pod's readiness waits for."),
        ),
    ),
)
