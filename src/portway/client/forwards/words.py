"""The words of a `portway forward` command line → what is wanted. Pure; kubectl's grammar where it has one.

    svc/db 5432 deploy/web 8080:http pod/x :80 selector/app=web 9000:80

A word with a slash is a target, and so is the first word; all others are ports of the target before them.
Source: k8s.io/kubectl/pkg/cmd/portforward, k8s.io/client-go/tools/portforward (parsePorts).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SELECTOR = "selector"
_KINDS = {
    "pods": "pods pod po",
    "services": "services service svc",
    "deployments": "deployments deployment deploy deployments.apps deployment.apps",
    "replicasets": "replicasets replicaset rs replicasets.apps replicaset.apps",
    "statefulsets": "statefulsets statefulset sts statefulsets.apps statefulset.apps",
    "daemonsets": "daemonsets daemonset ds daemonsets.apps daemonset.apps",
    "replicationcontrollers": "replicationcontrollers replicationcontroller rc",
    "jobs": "jobs job jobs.batch job.batch",
    SELECTOR: SELECTOR,
}
KINDS = {alias: plural for plural, aliases in _KINDS.items() for alias in aliases.split(" ")}
"""What may stand before the slash → the collection."""
_PROTOCOL = re.compile(r"(.+)/(tcp|udp|sctp)\Z", re.IGNORECASE)
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")
NO_UDP = (
    "cannot be forwarded: port-forward carries TCP only (kubernetes/kubernetes#47862); run a client inside the"
    " cluster, or reach it by a NodePort or LoadBalancer"
)


class WordError(Exception):
    """What is wrong with the command line, in one line."""


@dataclass(frozen=True, slots=True)
class PortPair:
    """`local`: 0 = any that is free, None = the number of the remote one. `remote`: a number or a name."""

    local: int | None
    remote: str

    def __str__(self) -> str:
        return self.remote if self.local is None else f"{self.local or ''}:{self.remote}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A target and its ports. `kind` is a collection of `KINDS`; `label` is how the user called it."""

    kind: str
    name: str
    ports: tuple[PortPair, ...]
    label: str


def parse(words: Iterable[str]) -> tuple[Wanted, ...]:
    """What is wanted, in order. Raises WordError."""
    found: list[tuple[str, str, str, list[PortPair]]] = []
    for word in words:
        if not found or _is_target(word):
            found.append((*_target(word), []))
        else:
            found[-1][3].append(port(word))
    if not found:
        raise WordError("TYPE/NAME and list of ports are required for port-forward")
    for _, _, label, ports in found:
        if not ports:
            raise WordError(f"at least 1 PORT is required for {label}")
    return tuple(Wanted(kind, name, tuple(ports), label) for kind, name, label, ports in found)


def _is_target(word: str) -> bool:
    head, slash, _ = word.partition("/")
    return bool(slash) and (head.lower() in KINDS or _PROTOCOL.match(word) is None)


def _target(word: str) -> tuple[str, str, str]:
    head, slash, name = word.partition("/")
    if not slash:
        return "pods", _named(word, word), f"pod/{word}"
    kind = KINDS.get(head.lower())
    if kind is None:
        raise WordError(f'the resource type "{head}" cannot be forwarded to; use pod, svc, deploy, rs, sts, ds or job')
    return kind, _named(name, word), name if kind == SELECTOR else word


def _named(name: str, word: str) -> str:
    if not name or ("/" in name and not word.startswith(SELECTOR)):
        raise WordError(f'"{word}" is not TYPE/NAME')
    return name


def port(word: str) -> PortPair:
    """[LOCAL:]REMOTE. Raises WordError."""
    text, protocol = word, "tcp"
    if found := _PROTOCOL.match(word):
        text, protocol = found[1], found[2].lower()
    if protocol != "tcp":
        raise WordError(f"port {text} is {protocol.upper()}, which {NO_UDP}")
    local, colon, remote = text.rpartition(":")
    if ":" in local or not _is_remote(remote):
        raise WordError(f'invalid port format "{word}"; use PORT, LOCAL:REMOTE or :REMOTE')
    if not colon:
        return PortPair(None, remote)
    if local and not (local.isascii() and local.isdigit() and int(local) <= 65535):
        raise WordError(f'error parsing local port "{local}" of "{word}": not a number from 0 to 65535')
    return PortPair(int(local or 0), remote)


def _is_remote(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return 1 <= int(text) <= 65535
    return len(text) <= 63 and _PORT_NAME.match(text) is not None


def addresses(said: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """(address, whether it must work) of --address; localhost is both of its addresses, one of which is enough."""
    found: dict[str, bool] = {}
    for one in (part.strip() for text in said for part in text.split(",")):
        if one == "localhost":
            found.setdefault("127.0.0.1", False)
            found.setdefault("::1", False)
        elif one:
            found[one] = True
    if not found:
        raise WordError("--address names no address")
    return tuple(found.items())


def seconds(text: str) -> float:
    """A duration as Go writes it (1m0s, 90s, 1.5h). Raises WordError."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise WordError(f'"{text}" is not a duration like 1m0s')
    return sum(float(number) * units[unit] for number, unit in parts)
