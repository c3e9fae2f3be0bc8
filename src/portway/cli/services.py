"""`portway services`: the catalogue in a terminal. What is there, who answers, what you may do, and the links."""

from typing import Any

import click

from portway.cli import cluster, output
from portway.cli.cluster import Connection
from portway.client.permissions import permissions
from portway.client.records import Service, ServicePort
from portway.client.state import ClusterState
from portway.kube.proxyurl import TargetId, join_id
from portway.portal import catalogue
from portway.up import links

PAGE = 2500
UNAUTHENTICATED = (
    "EXPOSED ports are open to everybody who reaches them: nobody is authenticated there. URLs lead through the door."
)


@click.command("services")
@click.option("-A", "--all-namespaces", is_flag=True, help="services of every namespace")
@click.option("-o", "--output", "form", type=click.Choice(["wide", "json", "yaml", "name"]), help="how to print them")
@click.option("-l", "--selector", default="", metavar="LABELS", help="only services with these labels")
@cluster.options
def command(all_namespaces: bool, form: str | None, selector: str, **said: Any) -> None:
    """List the services that can be reached, and the URLs that reach them.

    READY counts endpoints. MAY says what you may do with services/proxy: its verbs, "all" or "none", or "?" when
    the server can't list that. EXPOSED is where a service is reached without the door, and without asking who you are:
    node ports (*, on the nodes' addresses), load balancers' and external addresses. Nobody is authenticated there.

    \b
    Examples:
      portway services
      portway services -A -o wide
      portway services -n monitoring -o json
    """

    async def show(connection: Connection) -> None:
        namespace = "" if all_namespaces else connection.namespace
        state = await _known(connection, namespace, selector)
        allowed = await permissions(connection.client, (service.namespace for service in state.services()))

        def link(service: Service, port: ServicePort) -> str:
            tls = "https" if port.name == "https" or port.number == 443 else ""
            spelled = join_id(TargetId(tls, service.name, port.name))
            return links.proxy_url(connection.server, service.namespace, spelled) + "/"

        found = catalogue.entries(state, link, allowed)
        click.echo(_printed(form, found, all_namespaces=all_namespaces))

    cluster.connected(show, **said)


def _printed(form: str | None, found: list[catalogue.Entry], *, all_namespaces: bool) -> str:
    if form == "json":
        return output.as_json({"services": found})
    if form == "yaml":
        return output.as_yaml({"services": found})
    if form == "name":
        return "\n".join(f"service/{entry['name']}" for entry in found)
    if not found:
        return "No services found."
    heads = ["NAMESPACE", "NAME", "PORT", "READY", "MAY", "EXPOSED", "URL"]
    rows = [row for entry in found for row in _rows(entry, wide=form == "wide")]
    exposed = any("exposed" in entry for entry in found)
    left_out = ([] if all_namespaces else ["NAMESPACE"]) + ([] if exposed else ["EXPOSED"])
    kept = [index for index, head in enumerate(heads) if head not in left_out]
    table = output.as_table([heads[i] for i in kept], [[row[i] for i in kept] for row in rows])
    return f"{table}\n\n{UNAUTHENTICATED}" if exposed else table


def _rows(entry: catalogue.Entry, *, wide: bool) -> list[list[str]]:
    """A row for each port with -o wide, else for the first that has a link."""
    ports = entry["ports"] or [{}]
    shown = ports if wide else [next((port for port in ports if "url" in port), ports[0])]
    ready = "{ready}/{total}".format(**entry["endpoints"])
    may, exposed = catalogue.may_do(entry), ",".join(map(_open, entry.get("exposed", ()))) or "<none>"
    return [
        [entry["namespace"], entry["name"], _spoken(port), ready, may, exposed, port.get("url", "<none>")]
        for port in shown
    ]


def _open(place: catalogue.Entry) -> str:
    address = place.get("address", "*")
    spelled = f"[{address}]" if ":" in address else address
    return f"{spelled}:{place['port']}" + ("" if place["protocol"] == "TCP" else f"/{place['protocol']}")


def _spoken(port: catalogue.Entry) -> str:
    if not port:
        return "<none>"
    named = f"{port['name']}:" if "name" in port else ""
    return f"{named}{port['port']}/{port['protocol']}"


async def _known(connection: Connection, namespace: str, selector: str) -> ClusterState:
    """Services and their endpoints, read once."""
    middle = f"/namespaces/{cluster.segment(namespace)}" if namespace else ""
    state = ClusterState()
    for plural, path, labels in (
        ("services", f"/api/v1{middle}/services", selector),
        ("endpointslices", f"/apis/discovery.k8s.io/v1{middle}/endpointslices", ""),
    ):
        async for page in connection.client.pages(path, label_selector=labels, limit=PAGE):
            for obj in page.items:
                state.apply(plural, "ADDED", obj)
    return state
