"""The catalogue: which services there are, whether somebody is there to answer, and the links that reach them.

`entries` is what programs get as JSON; `page` is the same for people.
"""

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from portway.client.permissions import UNKNOWN, VERBS, Permissions
from portway.client.records import Service, ServicePort
from portway.client.state import ClusterState

Link = Callable[[Service, ServicePort], str]
"""The URL of one port of a service; "" when there is none."""
Entry = dict[str, Any]
SHOWN: Final = 2000
"""Services that the page draws; programs get all of them."""


def entries(view: ClusterState, link: Link, allowed: Mapping[str, Permissions], namespace: str = "") -> list[Entry]:
    """Services by namespace and name: ports with their links, endpoints ready and in all, and `may`: the verbs on
    services/proxy that `allowed` has for any spelling of any port, None where that can't be said.
    """
    services = [s for s in view.services() if not namespace or s.namespace == namespace]
    services.sort(key=lambda service: (service.namespace, service.name))
    return [_entry(view, service, link, allowed.get(service.namespace, UNKNOWN)) for service in services]


def _entry(view: ClusterState, service: Service, link: Link, allowed: Permissions) -> Entry:
    ready, total = readiness(view, service)
    may = allowed.verbs(_spellings(service))
    entry: Entry = {
        "namespace": service.namespace,
        "name": service.name,
        "type": service.type,
        "endpoints": {"ready": ready, "total": total},
        "ports": [_port(service, port, link) for port in service.ports],
        "may": None if may is None else list(may),
    }
    if exposed := list(_exposed(service)):
        entry["exposed"] = exposed
    return entry


def _exposed(service: Service) -> Iterator[Entry]:
    """Where a service is reached from outside past the door, and so past every check: its node ports, its load
    balancer's and its external addresses.
    """
    found = service.exposure
    for port in service.ports:
        for kind, addresses in (("LoadBalancer", found.load_balancer_ips), ("ExternalIP", found.external_ips)):
            for address in addresses:
                yield {"type": kind, "address": address, "port": port.number, "protocol": port.protocol}
        if port.node_port:
            yield {"type": "NodePort", "port": port.node_port, "protocol": port.protocol}


def _spellings(service: Service) -> Iterator[str]:
    yield service.name
    for port in service.ports:
        for spelled in filter(None, (port.name, str(port.number))):
            yield f"{service.name}:{spelled}"
            yield f"http:{service.name}:{spelled}"
            yield f"https:{service.name}:{spelled}"


def may_do(entry: Entry) -> str:
    """What the caller may do, for people: verbs, all, none, or ? where that can't be said."""
    may = entry["may"]
    if may is None:
        return "?"
    return "all" if len(may) == len(VERBS) else ",".join(may) or "none"


def _port(service: Service, port: ServicePort, link: Link) -> Entry:
    found: Entry = {"port": port.number, "protocol": port.protocol}
    if port.name:
        found["name"] = port.name
    if port.app_protocol:
        found["appProtocol"] = port.app_protocol
    if port.protocol == "TCP" and not _is_api(service) and (url := link(service, port)):
        found["url"] = url
    return found


def _is_api(service: Service) -> bool:
    """Whether it is the API that shows this: no link leads through the API to itself."""
    return (service.namespace, service.name) == ("default", "kubernetes")


def readiness(view: ClusterState, service: Service) -> tuple[int, int]:
    """(ready, all) addresses behind a service, each counted once."""
    found = view.endpoints(service.namespace, service.name)
    if not found:
        return 0, 0
    every = {endpoint.address for endpoints in found.values() for endpoint in endpoints}
    ready = {endpoint.address for endpoints in found.values() for endpoint in endpoints if endpoint.ready}
    return len(ready), len(every)


def page(found: list[Entry], cluster: str) -> str:
    """The catalogue as one HTML page without scripts; `cluster` is what the heading calls it."""
    rows = "".join(map(_row, found[:SHOWN])) or '<tr><td colspan="5">There are no services that you may see.</td></tr>'
    more = f"<p>{len(found) - SHOWN} more: <a href=/portway/services>as JSON</a></p>" if len(found) > SHOWN else ""
    return _PAGE.format(cluster=html.escape(cluster), rows=rows, more=more, count=len(found))


def _row(entry: Entry) -> str:
    ready, total = entry["endpoints"]["ready"], entry["endpoints"]["total"]
    health = "up" if ready and ready == total else "part" if ready else "down"
    return (
        f"<tr><td>{html.escape(entry['namespace'])}</td><td>{html.escape(entry['name'])}</td>"
        f"<td>{_links(entry['ports'])}</td><td class={health}>{ready} of {total}</td>"
        f"<td>{may_do(entry).replace(',', ', ')}</td></tr>"
    )


def _links(ports: Iterable[Entry]) -> str:
    return " ".join(map(_link, ports))


def _link(port: Entry) -> str:
    spoken = html.escape(f"{port['name']} {port['port']}" if "name" in port else str(port["port"]))
    if "url" not in port:
        return f"<span>{spoken}/{html.escape(port['protocol'])}</span>"
    return f'<a href="{html.escape(port["url"])}">{spoken}</a>'


_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Services · {cluster}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1c2733; background: #f4f6f8; margin: 0 }}
main {{ max-width: 64rem; margin: 4rem auto; padding: 2rem; background: #fff; border-radius: 12px;
box-shadow: 0 1px 4px #0002 }}
h1 {{ font-size: 1.4rem; margin: 0 }} p {{ color: #68788a }}
table {{ width: 100%; border-collapse: collapse; margin-top: 1.5rem }}
th, td {{ text-align: left; padding: .5rem .75rem .5rem 0; border-top: 1px solid #e3e8ee; vertical-align: top;
overflow-wrap: anywhere }}
th {{ color: #68788a; font-weight: 500; border: 0 }}
td a {{ display: inline-block; margin: 0 .5rem .2rem 0; padding: 0 .6em; border-radius: 6px; background: #e7f0fb;
color: #14508c; text-decoration: none }}
td a:hover {{ background: #cfe2f8 }} td span {{ color: #68788a; margin-right: .5rem }}
.up {{ color: #18794e }} .part {{ color: #946800 }} .down {{ color: #b3261e }}
@media (prefers-color-scheme: dark) {{ body {{ background: #10161c; color: #dde5ec }} main {{ background: #1a232c }}
th, td {{ border-color: #2b3844 }} td a {{ background: #23384d; color: #a9d1ff }} .up {{ color: #5bd69b }}
.part {{ color: #f0c040 }} .down {{ color: #ff8a80 }} }}
</style></head>
<body><main><h1>Services of {cluster}</h1>
<p>{count} services. A link opens the service at a host name of its own; programs get
<a href="/portway/services">the same as JSON</a>.</p>
<table><thead><tr><th>Namespace</th><th>Service</th><th>Open</th><th>Ready</th><th>You may</th></tr></thead>
<tbody>{rows}</tbody></table>
{more}</main></body></html>
"""
