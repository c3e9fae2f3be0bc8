"""Objects for Portway's cluster, and the few API calls that put them there. The bench is a stranger to the API server:
plain HTTPS, a token, JSON.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bench.load import unverified
from bench.process import BenchError

NAMESPACE = "bench"
ENDPOINTS_PER_SERVICE = 5
_AT_ONCE = 64
_LATER = (429, 503, 504)
_ALREADY_EXISTS = 409
_TRIES = 5
_ANSWER_WITHIN = 30.0
_FIRST_FILLER = int(ipaddress.IPv4Address("198.19.0.0"))

Object = dict[str, Any]
Write = tuple[str, str, Object]
"""Method, path, object."""

_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


@asynccontextmanager
async def api(url: str, token: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for an API server's base URL; give it to apply()."""
    connector = aiohttp.TCPConnector(ssl=unverified(), limit=_AT_ONCE)
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN)
    async with aiohttp.ClientSession(url, connector=connector, headers=headers, timeout=timeout) as session:
        yield session


async def apply(session: aiohttp.ClientSession, writes: Iterable[Write]) -> None:
    """One write after another; what an overloaded API puts off is tried again."""
    for write in writes:
        status, text = await _send(session, write)
        for _ in range(_TRIES):
            if status not in _LATER:
                break
            await asyncio.sleep(1)
            status, text = await _send(session, write)
            if status == _ALREADY_EXISTS:  # it had been done after all
                status = 200
        if status >= 400:
            raise BenchError(f"{write[0]} {write[1]}: {status} {text[:300]}")


async def _send(session: aiohttp.ClientSession, write: Write) -> tuple[int, str]:
    method, path, body = write
    try:
        async with session.request(method, path, json=body) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BenchError(f"{method} {path}: {error or type(error).__name__}") from error


async def apply_all(session: aiohttp.ClientSession, writes: Iterable[Write]) -> None:
    """Many writes, in any order, several at a time."""
    waiting = iter(writes)
    await together(apply(session, waiting) for _ in range(_AT_ONCE))


async def together(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """All of `jobs` at once; the first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def base(address: str, ports: dict[str, int], user: str) -> list[Write]:
    """A namespace with one pod at `address`, a service for each of `ports` (name: the backend's port), and
    the right of `user` to look at everything and to get these through the proxy and port-forwarding.
    """
    group = {"apiGroup": "rbac.authorization.k8s.io"}
    pod = _pod("web-0", {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": _READY})
    rules = [
        {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
    ]
    subjects = [{**group, "kind": "User", "name": user}]
    writes: list[Write] = [
        ("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}),
        ("POST", "/api/v1/nodes", {"metadata": {"name": "bench"}}),
        ("POST", f"{_CORE}/pods", {**pod, "status": {}}),
        ("PUT", f"{_CORE}/pods/web-0/status", pod),
        ("POST", f"{_RBAC}/namespaces/{NAMESPACE}/roles", {"metadata": {"name": "reader"}, "rules": rules}),
        (
            "POST",
            f"{_RBAC}/namespaces/{NAMESPACE}/rolebindings",
            {
                "metadata": {"name": "reader"},
                "roleRef": {**group, "kind": "Role", "name": "reader"},
                "subjects": subjects,
            },
        ),
        (
            "POST",
            f"{_RBAC}/clusterrolebindings",
            {
                "metadata": {"name": "bench-view"},
                "roleRef": {**group, "kind": "ClusterRole", "name": "view"},
                "subjects": subjects,
            },
        ),
    ]
    for name, port in ports.items():
        writes.append(("POST", f"{_CORE}/services", _service(name)))
        writes.append(("POST", _SLICES, slice_of(name, port, [(address, "web-0")])))
    return writes


def move(name: str, address: str, port: int) -> Write:
    """Points a service at another port of the backend."""
    return "PUT", f"{_SLICES}/{name}-bench", slice_of(name, port, [(address, "web-0")])


def node_port(name: str, number: int, address: str, port: int) -> list[Write]:
    """A service with a node port, and the backend behind it."""
    service = _service(name)
    service["spec"] = {"type": "NodePort", "ports": [{"port": 80, "nodePort": number}]}
    return [("POST", f"{_CORE}/services", service), ("POST", _SLICES, slice_of(name, port, [(address, "web-0")]))]


def fillers(numbers: range) -> Iterable[Write]:
    """A service for each of `numbers` with its endpoints, and a pod behind each endpoint; no two alike."""
    for number in numbers:
        name = f"filler-{number}"
        pods = [f"{name}-{replica}" for replica in range(ENDPOINTS_PER_SERVICE)]
        first = _FIRST_FILLER + number * ENDPOINTS_PER_SERVICE
        addresses = [str(ipaddress.IPv4Address(first + replica)) for replica in range(ENDPOINTS_PER_SERVICE)]
        yield from (("POST", f"{_CORE}/pods", _pod(pod, {})) for pod in pods)
        yield "POST", f"{_CORE}/services", _service(name)
        yield "POST", _SLICES, slice_of(name, 8080, list(zip(addresses, pods, strict=True)))


_READY = [{"type": "Ready", "status": "True"}]


def _pod(name: str, status: Object) -> Object:
    spec = {"nodeName": "bench", "containers": [{"name": "web", "image": "web"}]}
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec, "status": status}


def _service(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"ports": [{"port": 80}]}}


def slice_of(service: str, port: int, endpoints: list[tuple[str, str]]) -> Object:
    """An EndpointSlice of (address, pod) pairs."""
    labels = {"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "bench"}
    return {
        "metadata": {"name": f"{service}-bench", "namespace": NAMESPACE, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod},
            }
            for address, pod in endpoints
        ],
    }
