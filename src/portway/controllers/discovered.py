"""Which kinds an API has, by its discovery documents. What follows them all is `garbage`."""

from typing import NamedTuple
from urllib.parse import quote

from portway.client.protocol import ListWatcher
from portway.kube.objects import Object


class Resource(NamedTuple):
    """A kind in one version, and where its objects are."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def collection(self) -> str:
        """The path of all of them, of all namespaces."""
        return f"{_root(self.api_version)}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """The path of one. A name may hold what means something else in a URL; "/" and "%" are in no name."""
        inside = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{_root(self.api_version)}{inside}/{self.plural}/{quote(name, safe=':')}"


class Discovered(NamedTuple):
    """Everything that can be read, by (apiVersion, kind), and of that what can be followed and deleted.

    The latter has each kind once, in the version that its group prefers.
    """

    readable: dict[tuple[str, str], Resource]
    deletable: frozenset[Resource]


async def discover(client: ListWatcher) -> Discovered:
    """Asks what there is; raises what the client raises, so that half an answer is never taken for the whole."""
    readable: dict[tuple[str, str], Resource] = {}
    deletable: set[Resource] = set()
    versions = [("v1", True)]
    for group in (await client.get("/apis")).get("groups") or ():
        preferred = (group.get("preferredVersion") or {}).get("groupVersion")
        versions += [(one["groupVersion"], one["groupVersion"] == preferred) for one in group.get("versions") or ()]
    for version, preferred in versions:
        for entry in (await client.get(_root(version))).get("resources") or ():
            _take(entry, version, preferred, readable, deletable)
    return Discovered(readable, frozenset(deletable))


def _take(
    entry: Object,
    version: str,
    preferred: bool,
    readable: dict[tuple[str, str], Resource],
    deletable: set[Resource],
) -> None:
    verbs = set(entry.get("verbs") or ())
    if "/" in entry["name"] or "get" not in verbs:
        return
    resource = Resource(version, entry["kind"], entry["name"], bool(entry.get("namespaced")))
    readable[version, entry["kind"]] = resource
    if preferred and verbs >= {"list", "watch", "delete"}:
        deletable.add(resource)


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
