"""What the generic verbs need to know about a kind: names, columns, selectable fields and a strategy.

The handlers of the API server know no kind by name; everything particular to one is a `Kind` value and its `Strategy`.
What is not here: reading or writing (`portway.apiserver.registry`), HTTP (`portway.apiserver.handlers`).
The kinds themselves are assembled in `portway.apiserver.kinds`.

The order in which the registry calls a strategy, with dicts that the strategy may change in place:

    create   defaults → prepare_create → defaults → validate_create → allocate → store (→ revert when the store refuses)
    update   defaults → prepare_update → validate_update → allocate → store (→ commit or revert)
    delete   validate_delete → store → release → the objects named by `cascade` are deleted too

What every kind has in common is done by the registry and not repeated in strategies: name and generateName, uid,
creationTimestamp, resourceVersion, generation, metadata's own validation (labels, annotations, finalizers, owner
references), immutable metadata, keeping `status` on updates of the whole and everything else on updates of `status`.
"""

# ruff: noqa: ARG002 - the defaults of a strategy ignore what they are given

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from portway.kube import names
from portway.kube.objects import Object

if TYPE_CHECKING:
    from portway.apiserver.allocator import Allocator
    from portway.apiserver.config import ApiServerConfig
    from portway.kube.errors import Cause
    from portway.kube.identity import User
    from portway.kube.rbac import RBAC

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
"""The verbs that every stored kind has, in discovery's order."""


OWN_NAME = "system:apiserver"
"""The user's name when the server itself writes."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a Table (meta.k8s.io/v1): `priority` 1 is shown by `-o wide` only."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """The Table of a kind.

    `cells(object, now)` gives one JSON value a column; `now` is Unix time in seconds, for the Age column, which holds
    kubectl's human duration.
    """

    definitions: tuple[Column, ...]
    cells: Callable[[Object, float], list[Any]]
    timeless: Callable[[Object], tuple[list[Any], list[Any]] | None] | None = None
    """The cells before Age and those behind it, when none of them depends on the time: they can be kept then."""


class Lookup(Protocol):
    """Reads of the current state, answered from memory and so synchronous. The objects must not be changed."""

    def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        """Returns the object as last stored, None when there is none; namespace "" for cluster-scoped kinds."""

    def objects(self, group: str, plural: str, namespace: str = "") -> Iterable[Object]:
        """Yields the objects of a kind, of all namespaces when `namespace` is empty."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a strategy or a virtual resource may use besides its object; one per running server."""

    config: ApiServerConfig
    rbac: RBAC
    allocator: Allocator
    lookup: Lookup
    kinds: Sequence[Kind] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """One request, as strategies and virtual resources see it.

    `verb` is create, update (patches too) or delete; `namespace` and `name` come from the URL (`name` is "" on
    create); `subresource` is "" or, say, "status"; `now` is the request's time, RFC 3339 with seconds.
    """

    user: User
    verb: str
    namespace: str
    name: str
    subresource: str
    dry_run: bool
    now: str
    services: Services
    manager: str = ""
    """Who owns what the request writes (`fieldManager`, or what the client calls itself)."""
    applies: bool = False
    """Whether the request is a server-side apply: the object then comes with its owners."""
    warnings: list[str] = field(default_factory=list)
    """Texts to send as `Warning: 299` headers; append to it."""


class Allocation(Protocol):
    """Something reserved for an object that is about to be stored. At most one of the two is called, once.

    Neither is called when nobody knows whether the object was stored: who reserves finds out later.
    """

    async def commit(self) -> None:
        """The object was stored: what the old version held and the new one doesn't is released."""

    async def revert(self) -> None:
        """The object was not stored (a conflict, a dry run): what was newly reserved is released."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Names one stored object."""

    group: str
    plural: str
    namespace: str
    name: str


class Strategy:
    """What is particular to a kind when it is written. Every method has a default that does nothing particular."""

    def name_errors(self, name: str) -> list[str]:
        """Returns upstream's messages for a bad `metadata.name`, [] for a good one (default: a DNS-1123 subdomain)."""
        return names.is_dns1123_subdomain(name)

    def defaults(self, obj: Object) -> None:
        """Fills in, in place, what upstream's defaulting fills in (on every write, before validation)."""

    def prepare_create(self, obj: Object, ctx: Context) -> None:
        """Changes a new object before defaulting, say drops the status that a client may not set."""

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Returns every fault of the defaulted object (not of its metadata), in upstream's order."""
        return []

    def prepare_update(self, new: Object, old: Object, ctx: Context) -> None:
        """Changes `new` before validation, say carries over what a client may leave out."""

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """Returns every fault of `new` as the successor of `old`; also called with ctx.subresource == "status"."""
        return []

    def validate_delete(self, obj: Object, ctx: Context) -> None:
        """Raises a StatusError when the object may not be deleted."""

    def generation(self, new: Object, old: Object) -> bool:
        """Says whether the change makes a new metadata.generation (default: the spec changed)."""
        return bool(new.get("spec") != old.get("spec"))

    async def allocate(self, new: Object, old: Object | None, ctx: Context) -> Allocation | None:
        """Reserves what the object needs and writes it into `new`; raises a StatusError when it can't.

        `old` is None on create. Called on dry runs too (`ctx.dry_run`), which reserve nothing.
        """
        return None

    async def release(self, obj: Object, ctx: Context) -> None:
        """Gives back what a deleted object held."""

    def cascade(self, obj: Object) -> Sequence[Reference]:
        """Names the objects that disappear together with a deleted one (a Service's Endpoints)."""
        return ()

    def warnings(self, obj: Object) -> list[str]:
        """Returns texts to send as `Warning` headers with a create or update of `obj`."""
        return []


def no_fields(_obj: Object) -> Mapping[str, str]:
    """The selectable fields of a kind that has none beyond metadata.name and metadata.namespace."""
    return {}


@dataclass(frozen=True)
class Kind:
    """One stored kind, as discovery and the verbs need it.

    `selectable_fields` gives the kind's own field selectors (metadata.name and metadata.namespace are added for all
    kinds); its keys must be the same for every object, `selectable` lists them. `has_status` makes the status
    subresource. `has_generation` keeps metadata.generation. `subresources` names further ones that are answered
    elsewhere and only listed by discovery: (name, kind, group, version, verbs), say
    ("proxy", "ServiceProxyOptions", "", "", ("create", "delete", "get", "patch", "update")).
    `list_kind` defaults to kind + "List". `store_group` and `store_plural` are where it is stored when it shares its
    storage with another kind (events.k8s.io with core events).
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    columns: Columns
    strategy: Strategy = field(default_factory=Strategy)
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    has_status: bool = False
    has_generation: bool = False
    parts: tuple[tuple[str, str], ...] = ()
    """Further subresources that write a part of the object: (name, the field), say ("approval", "status")."""
    subresources: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = ()
    returns_deleted: bool = False
    """Whether a delete answers with the deleted object (else with a Status)."""
    create_on_update: bool = False
    """Whether a PUT creates what does not exist."""
    offered: bool = True
    """Whether discovery and OpenAPI name it."""
    has_dependents: bool = True
    """Whether a delete may wait for, or orphan, what names the object as owner (upstream: not for events)."""
    unconditional_update: bool = True
    """Whether a PUT may leave out the resourceVersion."""
    deprecation: str = ""
    """What every answer about the kind warns of; "" = nothing."""
    selectable: tuple[str, ...] = ()
    selectable_fields: Callable[[Object], Mapping[str, str]] = no_fields
    store_group: str | None = None
    store_plural: str | None = None
    to_storage: Callable[[Object], Object] | None = None
    """For a kind that shares another's storage: its object → the stored form (new dict)."""
    from_storage: Callable[[Object], Object] | None = None
    """The stored form → this kind's object (new dict)."""

    @property
    def written(self) -> dict[str, str]:
        """The subresources that write a part of the object, and which: {"status": "status"}."""
        return {**({"status": "status"} if self.has_status else {}), **dict(self.parts)}

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """The `kind` of its lists."""
        return f"{self.kind}List"

    @property
    def resource(self) -> str:
        """The resource as errors name it: "services", "roles.rbac.authorization.k8s.io"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def prefix(self) -> str:
        """The key prefix of all its objects in the store."""
        group = self.group if self.store_group is None else self.store_group
        return f"/registry/{group or 'core'}/{self.store_plural or self.plural}/"

    def key(self, namespace: str, name: str) -> str:
        """The store's key of one object."""
        return f"{self.prefix}{namespace}/{name}" if self.namespaced else f"{self.prefix}{name}"


@dataclass(frozen=True)
class VirtualResource:
    """A resource that is answered and never stored: reviews, serviceaccounts/token.

    `handler(body, ctx)` gets the decoded request body and returns (HTTP status, the object to answer); it raises a
    StatusError to refuse. The table of virtual resources is keyed by (group, version, plural, subresource) of the URL;
    for a subresource `plural` is its parent's, while group, version and kind here are those of the body.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    handler: Callable[[Object, Context], Awaitable[tuple[int, Object]]]
    subresource: str = ""
    verbs: tuple[str, ...] = ("create",)


@dataclass(frozen=True, slots=True)
class MergeInfo:
    """How a strategic merge patch treats one field (upstream's patchStrategy and patchMergeKey tags).

    `key` is the merge key of a list of objects, "" for a list of primitives that merges as a set or for an object.
    `replace` makes the field be replaced as a whole; `retain_keys` keeps only the keys that the patch lists
    (`$retainKeys`). A list without MergeInfo is replaced.
    """

    key: str = ""
    replace: bool = False
    retain_keys: bool = False


class Bootstrap(Protocol):
    """What the module `portway.apiserver.bootstrap` offers; the server writes the objects as any other at its start."""

    def desired(self, config: ApiServerConfig) -> Sequence[Object]:
        """Returns the objects that must exist, in order of creation (namespaces first)."""

    def reconcile(self, existing: Object, wanted: Object) -> Object | None:
        """Returns the object to write where `existing` lacks something of `wanted`; None when nothing is to be done."""
