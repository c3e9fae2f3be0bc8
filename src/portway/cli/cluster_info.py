"""`portway cluster-info`: kubectl's words by default; every port and its health with -o wide, json or yaml."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from portway.cli import cluster, output
from portway.cli.cluster import Connection
from portway.kube.objects import Object
from portway.up import links

_SERVICE_NAME = "kubernetes.io/service-name"
_HINT = "To further debug and diagnose cluster problems, use 'kubectl cluster-info dump'."


@click.command("cluster-info")
@click.option("-A", "--all-namespaces", is_flag=True, help="services of every namespace")
@click.option("--all", "every", is_flag=True, help="also services without the label kubernetes.io/cluster-service=true")
@click.option("-o", "--output", "form", type=click.Choice(["wide", "json", "yaml"]), help="every port, and its health")
@cluster.options
def command(all_namespaces: bool, every: bool, form: str | None, **said: Any) -> None:
    """List the cluster's services and the URLs that reach them.

    Without options the words are those of `kubectl cluster-info`: services of kube-system that carry the label
    kubernetes.io/cluster-service=true, with the URL of their first port. READY counts endpoints.

    \b
    Examples:
      portway cluster-info
      portway cluster-info -A -o wide
      portway cluster-info -n default --all -o json
    """

    async def show(connection: Connection) -> None:
        namespace = "" if all_namespaces else connection.explicit_namespace or "kube-system"
        selector = "" if every else links.CLUSTER_SERVICE
        if form is None:
            await _in_kubectls_words(connection, namespace, selector)
            return
        services = await _services(connection, namespace, selector)
        slices = await _list(connection, "/apis/discovery.k8s.io/v1", namespace, "endpointslices", "")
        found = describe(connection.server, services, slices)
        click.echo({"json": output.as_json, "yaml": output.as_yaml}[form](found) if form != "wide" else _table(found))

    cluster.connected(show, **said)


async def _in_kubectls_words(connection: Connection, namespace: str, selector: str) -> None:
    try:
        click.echo(as_kubectl(connection.server, await _services(connection, namespace, selector)))
    finally:
        # As kubectl: also when the server refuses or cannot be reached, not when there is none to ask.
        click.echo(f"\n{_HINT}")


def as_kubectl(server: str, services: Sequence[Object]) -> str:
    """`kubectl cluster-info`, word for word (kubectl 1.36), but for the hint at the end."""
    lines = [f"Kubernetes control plane is running at {server}"]
    lines += [f"{links.title(service)} is running at {links.first_link(server, service)}" for service in services]
    return "\n".join(lines)


def describe(server: str, services: Sequence[Object], slices: Sequence[Object]) -> Mapping[str, Any]:
    """What -o json and yaml print."""
    return {"server": server, "services": [_service(server, service, slices) for service in services]}


def endpoints(service: Object, slices: Sequence[Object]) -> tuple[int, int]:
    """(ready, total) addresses behind a service; a condition that isn't given counts as ready (EndpointSlice API)."""
    metadata = service["metadata"]
    states: dict[str, bool] = {}
    for piece in slices:
        labels = piece["metadata"].get("labels") or {}
        if piece["metadata"]["namespace"] != metadata["namespace"] or labels.get(_SERVICE_NAME) != metadata["name"]:
            continue
        for endpoint in piece.get("endpoints") or []:
            ready = (endpoint.get("conditions") or {}).get("ready") is not False
            for address in endpoint.get("addresses") or []:
                states[address] = states.get(address, False) or ready
    return sum(states.values()), len(states)


def _service(server: str, service: Object, slices: Sequence[Object]) -> dict[str, Any]:
    ready, total = endpoints(service, slices)
    return {
        "name": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
        "title": links.title(service),
        "endpoints": {"ready": ready, "total": total},
        "ports": [_port(server, service, port) for port in links.ports(service)],
    }


def _port(server: str, service: Object, port: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: port[key] for key in ("name", "port", "protocol", "appProtocol") if port.get(key)}
    if port.get("protocol", "TCP") == "TCP":
        found["url"] = links.link(server, service, port) + "/"
    return found


def _table(found: Mapping[str, Any]) -> str:
    rows = []
    for service in found["services"]:
        health = "{ready}/{total}".format(**service["endpoints"])
        for port in service["ports"] or [{}]:
            named = f"{port['name']}:" if port.get("name") else ""
            spoken = f"{named}{port['port']}/{port.get('protocol', 'TCP')}" if port else "<none>"
            rows.append((service["namespace"], service["name"], spoken, health, port.get("url", "<none>")))
    return output.as_table(("NAMESPACE", "NAME", "PORT", "READY", "URL"), rows)


async def _services(connection: Connection, namespace: str, selector: str) -> Sequence[Object]:
    return await _list(connection, "/api/v1", namespace, "services", selector)


async def _list(connection: Connection, base: str, namespace: str, plural: str, selector: str) -> Sequence[Object]:
    middle = f"/namespaces/{cluster.segment(namespace)}" if namespace else ""
    page = await connection.client.list(f"{base}{middle}/{plural}", label_selector=selector)
    return page.items
