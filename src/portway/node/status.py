"""What happened to a pod's process → the Pod's status, as a kubelet writes it. Pure; `pod.py` sends it."""

from dataclasses import dataclass, replace
from typing import Any

from portway.kube.objects import Object, now_rfc3339
from portway.node.workload import Placement

_UNREADY_REASON = "ContainersNotReady"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exit code (128 + signal as a shell says it) and when (RFC 3339)."""

    code: int
    started: str
    finished: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """A pod's state, of which each change makes a new one.

    Attributes:
        created: when the pod was first started (RFC 3339).
        started: when the running process was started; "" = none runs.
        ready: whether the last probes passed; `changed` is when that last changed.
        waiting: why none runs (a kubelet's reason), "" = one does.
        last: the previous process's end.
        restarts: how often a process was started again.
        pid: of the running process.
    """

    created: str
    changed: str
    started: str = ""
    ready: bool = False
    waiting: str = "ContainerCreating"
    last: Exit | None = None
    restarts: int = 0
    pid: int = 0

    def running(self, pid: int) -> "State":
        """A process was started."""
        return replace(self, started=now_rfc3339(), waiting="", pid=pid)

    def probed(self, ready: bool) -> "State":
        """The probes' verdict; the same state when it is no news."""
        return self if ready == self.ready else replace(self, ready=ready, changed=now_rfc3339())

    def ended(self, code: int, message: str) -> "State":
        """The process ended and will be started again."""
        end = Exit(code, self.started, now_rfc3339(), message)
        unready = self.probed(False)
        return replace(unready, started="", pid=0, waiting="CrashLoopBackOff", last=end, restarts=self.restarts + 1)


def initial() -> State:
    """A pod whose first process is about to be started."""
    now = now_rfc3339()
    return State(created=now, changed=now)


def pod_status(placement: Placement, state: State, node_address: str) -> Object:
    """The status for a merge patch of the Pod's status subresource."""
    return {
        "phase": "Running" if state.started or state.last else "Pending",
        "conditions": _conditions(state, placement.workload.name),
        "hostIP": node_address,
        "hostIPs": [{"ip": node_address}],
        "podIP": placement.address,
        "podIPs": [{"ip": placement.address}],
        "startTime": state.created,
        "qosClass": "BestEffort",
        "containerStatuses": [_container(placement, state)],
    }


def _conditions(state: State, container: str) -> list[dict[str, Any]]:
    unready = {"reason": _UNREADY_REASON, "message": f"containers with unready status: [{container}]"}
    dependent = {"status": "True"} if state.ready else {"status": "False", **unready}
    return [
        _condition("PodReadyToStartContainers", state.created, {"status": "True"}),
        _condition("Initialized", state.created, {"status": "True"}),
        _condition("Ready", state.changed, dependent),
        _condition("ContainersReady", state.changed, dependent),
        _condition("PodScheduled", state.created, {"status": "True"}),
    ]


def _condition(kind: str, since: str, rest: dict[str, str]) -> dict[str, Any]:
    return {"type": kind, "lastProbeTime": None, "lastTransitionTime": since, **rest}


def _container(placement: Placement, state: State) -> dict[str, Any]:
    workload = placement.workload
    status = {
        "name": workload.name,
        "image": workload.image,
        "imageID": "",
        "ready": state.ready,
        "started": bool(state.started),
        "restartCount": state.restarts,
        "state": _now(state, workload.name),
        "lastState": {"terminated": _terminated(state.last)} if state.last else {},
    }
    if state.pid:
        status["containerID"] = f"process://{state.pid}"
    return status


def _now(state: State, container: str) -> dict[str, Any]:
    if state.started:
        return {"running": {"startedAt": state.started}}
    waiting = {"reason": state.waiting}
    if state.last:
        waiting["message"] = f"back-off restarting failed container {container}"
    return {"waiting": waiting}


def _terminated(end: Exit) -> dict[str, Any]:
    found: dict[str, Any] = {
        "exitCode": end.code,
        "reason": "Completed" if end.code == 0 else "Error",
        "startedAt": end.started,
        "finishedAt": end.finished,
    }
    if end.message:
        found["message"] = end.message
    return found
