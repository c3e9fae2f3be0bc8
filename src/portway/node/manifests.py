"""Objects that come with the programs of a node: services and roles, put in place or taken away at the start."""

from collections.abc import Sequence

from portway.client.api import MERGE_PATCH, ApiClient
from portway.kube.errors import AlreadyExists, NotFound
from portway.kube.objects import Object
from portway.node.workload import Manifest


async def put(client: ApiClient, manifest: Manifest) -> None:
    """Create the object, or bring the one that exists in line; what others added to it stays."""
    try:
        await client.create(manifest.collection, manifest.object)
    except AlreadyExists:
        await client.patch(manifest.path, manifest.object, MERGE_PATCH)


async def withdraw(client: ApiClient, collections: Sequence[str], label_selector: str) -> None:
    """Delete what carries the label in these collections (all namespaces)."""
    for collection in collections:
        page = await client.list(collection, label_selector=label_selector)
        for found in page.items:
            try:
                await client.delete(_path(collection, found))
            except NotFound:
                continue


def _path(collection: str, found: Object) -> str:
    namespace = found["metadata"].get("namespace")
    base, _, plural = collection.rpartition("/")
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{middle}/{plural}/{found['metadata']['name']}"
