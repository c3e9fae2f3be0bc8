"""Follows one target: which pods serve a port of it now. Level-triggered; ask again after each change.

Services are followed by their EndpointSlices, everything else by its pods. Who may not list EndpointSlices (kubectl's
port-forward needs pods only) has services followed by their pods as well.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from portway.client.api import ApiClient
from portway.client.backoff import Backoff
from portway.client.forwards import ports
from portway.client.forwards.ports import Backend, Hopeless
from portway.client.forwards.words import SELECTOR, Wanted
from portway.client.informer import Informer, Key, key_of
from portway.client.protocol import ApiUnreachable
from portway.kube.errors import Forbidden, NotFound, StatusError
from portway.kube.objects import Object
from portway.kube.selectors import from_label_selector_object, parse_label_selector

RETRY_CAP = 5.0
"""Longest wait, in seconds, between attempts to follow again."""
ASK_SECONDS = 1.0
"""Between two questions about a pod that can't be watched."""
_GROUPS = {
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "daemonsets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "replicationcontrollers": "/api/v1",
}


class Backends(Protocol):
    """A target that is being followed."""

    def find(self, remote: str) -> dict[str, Backend]:
        """The pods that a connection may go to now, by name; {} while there are none. Raises Hopeless."""
        ...

    def local_port(self, remote: str) -> int | None:
        """The number that a name stands for; None while that isn't known. Raises Hopeless."""
        ...

    def why_none(self) -> str:
        """Why `find` finds nothing, as the middle of a sentence."""
        ...

    async def run(self) -> None:
        """Follow until cancelled."""
        ...


async def follow(client: ApiClient, namespace: str, wanted: Wanted, changed: Callable[[], None]) -> Backends:
    """Look the target up, and return what follows it once it is `run`; `changed` is called after each change.

    Raises Hopeless when there is no such target, StatusError and ApiUnreachable.
    """
    if wanted.kind == "services":
        return await _service(client, namespace, wanted, changed)
    if wanted.kind == "pods":
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(wanted.name)}"
        pod = await _get(client, path, wanted)
        one = PodBackends(client, namespace, changed, wanted.label, field_selector=f"metadata.name={wanted.name}")
        try:
            await one.look()
        except Forbidden:
            return OnePod(client, changed, wanted.label, path, pod)
        return one
    if wanted.kind == SELECTOR:
        selector = str(parse_label_selector(wanted.name))
    else:
        selector = await _workload_selector(client, namespace, wanted)
    found = PodBackends(client, namespace, changed, wanted.label, label_selector=selector)
    await found.look()
    return found


async def _get(client: ApiClient, path: str, wanted: Wanted) -> Object:
    try:
        return await client.get(path)
    except NotFound as error:
        if not (error.details or {}).get("name"):
            raise Hopeless(f"{wanted.label}: this cluster's API has no {wanted.kind}") from error
        raise Hopeless(error.message) from error


async def _workload_selector(client: ApiClient, namespace: str, wanted: Wanted) -> str:
    path = f"{_GROUPS[wanted.kind]}/namespaces/{quote(namespace)}/{wanted.kind}/{quote(wanted.name)}"
    spec = (await _get(client, path, wanted)).get("spec") or {}
    selector = spec.get("selector")
    if wanted.kind == "replicationcontrollers":
        selector = {"matchLabels": selector or {}}
    text = str(from_label_selector_object(selector))
    if not text:
        raise Hopeless(f"{wanted.label} selects no pods")
    return text


async def _service(client: ApiClient, namespace: str, wanted: Wanted, changed: Callable[[], None]) -> Backends:
    base = f"/api/v1/namespaces/{quote(namespace)}"
    service = await _get(client, f"{base}/services/{quote(wanted.name)}", wanted)
    for pair in wanted.ports:
        ports.service_port(service, pair.remote)
    found = ServiceBackends(client, namespace, changed, service)
    try:
        await found.look()
        return found
    except Forbidden as error:
        selector = service["spec"].get("selector")
        if not selector:
            raise Hopeless(f"{wanted.label} has no selector, and {error.message}") from error
        text = str(from_label_selector_object({"matchLabels": selector}))
        pods = PodBackends(client, namespace, changed, wanted.label, label_selector=text, service=service)
        await pods.look()
        return pods


class PodBackends:
    """Pods by a selector, or one by name. Ready ones, or else those that run: people debug what isn't ready."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        changed: Callable[[], None],
        label: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        service: Object | None = None,
    ) -> None:
        self._pods: dict[Key, Object] = {}
        self._changed = changed
        self._label = label
        self._service = service
        self._client = client
        self._path = f"/api/v1/namespaces/{quote(namespace)}/pods"
        self._selection = {"label_selector": label_selector, "field_selector": field_selector}

    async def look(self) -> None:
        """List once, so that what isn't allowed is known. Raises StatusError and ApiUnreachable."""
        page = await self._client.list(self._path, **self._selection)
        for pod in page.items:
            self._pods[key_of(pod)] = pod

    async def run(self) -> None:
        informer = Informer(
            self._client,
            self._path,
            self._on_pod,
            lambda: list(self._pods),
            label_selector=self._selection.get("label_selector", ""),
            field_selector=self._selection.get("field_selector", ""),
            backoff=Backoff(cap=RETRY_CAP),
        )
        await informer.run()

    def _on_pod(self, event: str, pod: Object) -> None:
        if event == "DELETED":
            self._pods.pop(key_of(pod), None)
        else:
            self._pods[key_of(pod)] = pod
        self._changed()

    def find(self, remote: str) -> dict[str, Backend]:
        running = [pod for pod in self._pods.values() if ports.is_running(pod)]
        ready = [pod for pod in running if ports.is_ready(pod)]
        found: dict[str, Backend] = {}
        problem: Hopeless | None = None
        for pod in ready or running:
            metadata = pod["metadata"]
            try:
                found[metadata["name"]] = Backend(metadata["name"], metadata.get("uid", ""), self._port(pod, remote))
            except Hopeless as error:
                problem = error  # the next generation of pods may have it
        if problem is not None and not found:
            raise problem
        return found

    def local_port(self, remote: str) -> int | None:
        if self._service is not None:
            return int(ports.service_port(self._service, remote)["port"])
        if remote.isdigit():
            return int(remote)
        return next((backend.port for backend in self.find(remote).values()), None)

    def _port(self, pod: Object, remote: str) -> int:
        if self._service is None:
            return ports.pod_port(pod, remote)
        return ports.target_port(pod, self._service, ports.service_port(self._service, remote))

    def why_none(self) -> str:
        phases = {(pod.get("status") or {}).get("phase") or "Unknown" for pod in self._pods.values()}
        return f"no pod of {self._label} runs" + (f" (status: {', '.join(sorted(phases))})" if phases else "")


class OnePod(PodBackends):
    """A pod by name for who may get it but not list pods: asked about again and again."""

    def __init__(self, client: ApiClient, changed: Callable[[], None], label: str, path: str, pod: Object) -> None:
        super().__init__(client, "", changed, label)
        self._own_path = path
        self._pods[key_of(pod)] = pod

    async def run(self) -> None:
        while True:
            await asyncio.sleep(ASK_SECONDS)
            try:
                pod = await self._client.get(self._own_path)
            except NotFound:
                self._pods.clear()
                self._changed()
            except (StatusError, ApiUnreachable):
                continue
            else:
                self._on_pod("MODIFIED", pod)


class ServiceBackends:
    """A service by its EndpointSlices."""

    def __init__(self, client: ApiClient, namespace: str, changed: Callable[[], None], service: Object) -> None:
        self._client, self._namespace, self._changed = client, namespace, changed
        self._service: Object | None = service
        self._name: str = service["metadata"]["name"]
        self._slices: dict[Key, Object] = {}
        self._slices_path = f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace)}/endpointslices"
        self._services_path = f"/api/v1/namespaces/{quote(namespace)}/services"
        self._field = f"metadata.name={self._name}"
        self._follows_service = True
        self._selector = f"kubernetes.io/service-name={self._name}"

    async def look(self) -> None:
        """List once, so that what isn't allowed is known. Raises StatusError and ApiUnreachable."""
        page = await self._client.list(self._slices_path, label_selector=self._selector)
        for piece in page.items:
            self._slices[key_of(piece)] = piece
        try:
            await self._client.list(self._services_path, field_selector=self._field)
        except Forbidden:
            self._follows_service = False  # its ports are what they were; who its pods are is in the slices

    async def run(self) -> None:
        slices = Informer(
            self._client,
            self._slices_path,
            self._on_slice,
            lambda: list(self._slices),
            label_selector=self._selector,
            backoff=Backoff(cap=RETRY_CAP),
        )
        services = Informer(
            self._client,
            self._services_path,
            self._on_service,
            lambda: [(self._namespace, self._name)] if self._service is not None else [],
            field_selector=self._field,
            backoff=Backoff(cap=RETRY_CAP),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(slices.run(), name=f"slices of {self._name}")
            if self._follows_service:
                group.create_task(services.run(), name=f"service {self._name}")

    def _on_slice(self, event: str, piece: Object) -> None:
        if event == "DELETED":
            self._slices.pop(key_of(piece), None)
        else:
            self._slices[key_of(piece)] = piece
        self._changed()

    def _on_service(self, event: str, service: Object) -> None:
        self._service = None if event == "DELETED" else service
        self._changed()

    def find(self, remote: str) -> dict[str, Backend]:
        if self._service is None:
            return {}
        entry = ports.service_port(self._service, remote)
        return ports.of_slices(self._slices.values(), self._service, entry)

    def local_port(self, remote: str) -> int | None:
        return None if self._service is None else int(ports.service_port(self._service, remote)["port"])

    def why_none(self) -> str:
        if self._service is None:
            return f'services "{self._name}" not found'
        endpoints = [one for piece in self._slices.values() for one in piece.get("endpoints") or []]
        if endpoints and not any((one.get("targetRef") or {}).get("kind") == "Pod" for one in endpoints):
            return f"the endpoints of svc/{self._name} are no pods, and only pods can be forwarded to"
        return f"no pod behind svc/{self._name} is ready ({len(endpoints)} are not)"
