"""The garbage collector: what has lost all its owners goes; deletes in the foreground, or with orphans, are completed.

Level-triggered on a graph of every kind that discovery lists as deletable. The graph only says where to look: before
anything is deleted the object and its owners are read live, an owner counts as gone only when its name is free or held
by another uid, and the delete carries the uid and version that were read. What can't be resolved (an unknown kind, a
namespaced owner of a cluster-scoped object) is left alone.

Two kinds of work, both by uid:

    attempt   not being deleted: owners gone → delete; some gone → drop those references
              being deleted in the foreground: no blocking dependents → let it go; else see to them
    orphan    being deleted with `orphan`: take its reference out of its dependents, then let it go

Source: pkg/controller/garbagecollector/{garbagecollector,graph_builder}.go, as facts.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum

from portway.client.backoff import Backoff
from portway.client.informer import Informer
from portway.client.protocol import ApiUnreachable, Client
from portway.client.recorder import Recorder
from portway.controllers.base import Controller
from portway.controllers.cache import Cache
from portway.controllers.collections import Caches
from portway.controllers.discovered import Discovered, Resource, discover
from portway.controllers.ownership import FOREGROUND, ORPHAN, Graph, Node, Owner, node_of, owners_of
from portway.controllers.queue import Key
from portway.kube import names, objects
from portway.kube.errors import NotFound, StatusError
from portway.kube.objects import Object

DISCOVERY_SECONDS = 30.0
"""How often it is asked whether there are other kinds by now; as upstream."""
SLICE = 500
"""Objects that are looked at before the loop gets a turn."""
ABSENT = 500
"""Owners that are known to be gone, as many as upstream remembers: many dependents of one owner ask once."""
IGNORED = frozenset({("v1", "Event"), ("events.k8s.io/v1", "Event")})
"""Kinds that are many, own nothing and end by themselves; upstream ignores them too."""
MERGE_PATCH = "application/merge-patch+json"

_log = logging.getLogger(__name__)


class State(Enum):
    """What an owner is to its dependent."""

    SOLID = "is there"
    WAITING = "is there until its dependents are gone"
    DANGLING = "is not there"
    UNKNOWN = "can't be told"


class GarbageCollector(Controller):
    """Follows the whole cluster by itself; the shared caches keep too little of each object."""

    name = "garbage-collector-controller"
    needs = ()

    def __init__(self, client: Client, caches: Caches) -> None:
        super().__init__(client, caches)
        self._recorder = Recorder(client, self.name)
        self._graph = Graph()
        self._known = Discovered({}, frozenset())
        self._followed: dict[Resource, tuple[Informer, asyncio.Task[None]]] = {}
        self._settling: asyncio.Task[None] | None = None
        self._listed = False
        self._settled = asyncio.Event()
        self._absent: OrderedDict[tuple[str, Owner], None] = OrderedDict()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_discovery(group), name=f"{self.name}: kinds")
            await self._settled.wait()
            group.create_task(super().run(), name=f"{self.name}: work")

    async def sync(self, key: Key) -> None:
        await self._settled.wait()
        work, uid = key
        node = self._graph.get(uid)
        if node is None:
            return
        if work == ORPHAN:
            await self._orphan(node)
        elif node.waits:
            await self._complete(node)
        elif not node.deleting and not self._graph.all_solid(node):
            await self._attempt(node)

    # Following

    async def _follow_discovery(self, group: asyncio.TaskGroup) -> None:
        backoff = Backoff(cap=DISCOVERY_SECONDS)
        while True:
            try:
                found = await discover(self.client)
            except (StatusError, ApiUnreachable) as error:
                _log.info("%s: kinds: %s; trying again", self.name, error)
                await asyncio.sleep(backoff.delay())
                continue
            backoff.reset()
            self._take_kinds(found, group)
            await asyncio.sleep(DISCOVERY_SECONDS)

    def _take_kinds(self, found: Discovered, group: asyncio.TaskGroup) -> None:
        known, self._known = self._known, found
        wanted = {one for one in found.deletable if (one.api_version, one.kind) not in IGNORED}
        for resource in wanted - self._followed.keys():
            self._follow(resource, group)
        for resource in self._followed.keys() - wanted:
            self._followed.pop(resource)[1].cancel()
        if found.readable.keys() != known.readable.keys():
            self._absent.clear()
            self._listed = False
            self._settled.clear()
            if self._settling is not None:
                self._settling.cancel()
            self._settling = group.create_task(self._settle(), name=f"{self.name}: first look")

    async def _settle(self) -> None:
        """Looks at everything once every kind has been listed: nothing is judged from half a graph.

        That most objects have all their owners costs no turn in the queue, and holds up nobody else on the loop.
        """
        for informer, _ in list(self._followed.values()):
            await informer.settled.wait()
        self._listed = True
        for number, node in enumerate(self._graph.nodes()):
            if not self._graph.all_solid(node):
                self._queue("attempt", [node])
            if number % SLICE == 0:
                await asyncio.sleep(0)
        self._settled.set()

    def _follow(self, resource: Resource, group: asyncio.TaskGroup) -> None:
        cache: Cache[Node] = Cache(lambda obj: node_of(resource, obj))
        cache.listen(lambda _, before, after: self._changed(before, after))
        informer = Informer(
            self.client,
            resource.collection,
            cache.on_event,
            cache.keys,
            metadata_only=True,
            backoff=Backoff(cap=2.0),
        )
        task = group.create_task(informer.run(), name=f"{self.name}: {resource.plural}")
        self._followed[resource] = informer, task

    def _changed(self, before: Node | None, after: Node | None) -> None:
        if before is not None and (after is None or after.uid != before.uid):
            self._gone(before)
            before = None
        if after is not None:
            self._graph.put(after)
            self._look(before, after)

    def _gone(self, node: Node) -> None:
        self._graph.drop(node.uid)
        self._queue("attempt", self._graph.dependents(node.uid))
        self._queue("attempt", self._graph.waiting_owners(node))

    def _look(self, before: Node | None, after: Node) -> None:
        """Has the work done that a node's new state asks for."""
        if after.deleting and after.orphan:
            self._queue(ORPHAN, [after])
        if after.waits and not (before is not None and before.waits):
            self._queue("attempt", [after, *self._graph.dependents(after.uid)])
        if before is None or before.owners != after.owners:
            if self._listed and not self._graph.all_solid(after):
                self._queue("attempt", [after])
            if before is not None:
                self._queue("attempt", self._graph.waiting_owners(before))

    def _queue(self, work: str, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.queue.add((work, node.uid))

    # Collecting

    async def _attempt(self, node: Node) -> None:
        """Deletes an object that has no owner left, or drops the references to owners that are gone."""
        latest = await self._live(node)
        if latest is None or objects.deleting(latest):
            return
        owners = owners_of(latest)
        states = [await self._state(node, owner) for owner in owners]
        if not states or State.UNKNOWN in states:
            return
        if State.SOLID in states:
            kept = [
                one for one, state in zip(objects.owner_references(latest), states, strict=True) if state is State.SOLID
            ]
            if len(kept) < len(states):
                await self._patch(node, latest, ownerReferences=kept)
            return
        dependents = self._graph.dependents(node.uid)
        if State.WAITING in states and dependents:
            if any(one.waits for one in dependents):
                latest = await self._unblock(node, latest)
            await self._delete(node, latest, "Foreground")
            return
        finalizers = latest["metadata"].get("finalizers") or ()
        policy = "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
        await self._delete(node, latest, policy)

    async def _state(self, node: Node, owner: Owner) -> State:
        """What an owner is, read live unless it is known to be gone for good."""
        resource = self._known.readable.get((owner.api_version, owner.kind))
        if resource is None or names.is_path_segment_name(owner.name):
            return State.UNKNOWN  # a name that is none would lead elsewhere: into a subresource, to another's object
        if resource.namespaced and not node.namespace:
            await self._misplaced(node, owner)
            return State.UNKNOWN
        namespace = node.namespace if resource.namespaced else ""
        key = namespace, owner._replace(blocks=False)
        if key in self._absent:
            return State.DANGLING
        try:
            found = await self.client.get(resource.path(namespace, owner.name))
        except NotFound:
            found = {}
        if objects.uid(found) != owner.uid:
            self._absent[key] = None
            while len(self._absent) > ABSENT:
                self._absent.popitem(last=False)
            if self._graph.get(owner.uid) is not None:
                await self._misplaced(node, owner)
            return State.DANGLING
        return State.WAITING if node_of(resource, found).waits else State.SOLID

    async def _misplaced(self, node: Node, owner: Owner) -> None:
        """An owner that exists, but not where this dependent may have owners."""
        named = f"[{owner.api_version}/{owner.kind}, namespace: {node.namespace}, name: {owner.name}, uid: {owner.uid}]"
        message = f'ownerRef {named} does not exist in namespace "{node.namespace}"'
        await self._recorder.warning(node.reference, "OwnerRefInvalidNamespace", message)

    async def _complete(self, node: Node) -> None:
        """Lets an object go that was deleted in the foreground, or sees to the dependents that it waits for."""
        blocking = self._graph.blocking(node.uid)
        if blocking:
            self._queue("attempt", [one for one in blocking if not one.waits])
            return
        await self._release(node, FOREGROUND)

    async def _orphan(self, node: Node) -> None:
        """Takes an object's reference out of its dependents, then lets it go."""
        if not (node.deleting and node.orphan):
            return
        for dependent in self._graph.dependents(node.uid):
            latest = await self._live(dependent)
            if latest is not None:
                kept = [one for one in objects.owner_references(latest) if one.get("uid") != node.uid]
                await self._patch(dependent, latest, ownerReferences=kept)
        await self._release(node, ORPHAN)

    async def _release(self, node: Node, finalizer: str) -> None:
        latest = await self._live(node)
        finalizers = (latest or {}).get("metadata", {}).get("finalizers") or []
        if latest is not None and finalizer in finalizers and objects.deleting(latest):
            await self._patch(node, latest, finalizers=[one for one in finalizers if one != finalizer])

    async def _unblock(self, node: Node, latest: Object) -> Object:
        """Breaks a circle: an object in it blocks no owner any more, or nobody would ever go."""
        references = [{**one, "blockOwnerDeletion": False} for one in objects.owner_references(latest)]
        return await self._patch(node, latest, ownerReferences=references)

    # Reading and writing

    async def _live(self, node: Node) -> Object | None:
        """The very object, as it is now."""
        try:
            found = await self.client.get(node.path)
        except NotFound:
            return None
        return found if objects.uid(found) == node.uid else None

    async def _patch(self, node: Node, latest: Object, **metadata: object) -> Object:
        """Changes metadata of the state that was read, and of no other."""
        same = {"uid": node.uid, "resourceVersion": objects.resource_version(latest)}
        return await self.client.patch(node.path, {"metadata": {**metadata, **same}}, MERGE_PATCH)

    async def _delete(self, node: Node, latest: Object, policy: str) -> None:
        conditions = {"uid": node.uid, "resourceVersion": objects.resource_version(latest)}
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}
        try:
            await self.client.delete(node.path, {**options, "preconditions": conditions})
        except NotFound:
            return
