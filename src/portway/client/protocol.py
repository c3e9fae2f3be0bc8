"""What informers and controllers ask of a client: the narrow seam that `api.ApiClient` and in-memory fakes fulfil."""

from collections.abc import AsyncGenerator, Mapping
from typing import NamedTuple, Protocol

from portway.kube.objects import Object


class ApiUnreachable(Exception):  # noqa: N818 (it says what is the case)
    """The API could not be asked, or its answer broke off: refused, cut, timed out, malformed.

    Its text is one line and carries no secret.
    """


class Page(NamedTuple):
    """One page of a list."""

    items: list[Object]
    resource_version: str
    """Of the whole list: the same on each page."""


class ListWatcher(Protocol):
    """Reads collections, and single objects. `path` is absolute, as in the API: /api/v1/pods."""

    def pages(
        self,
        path: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """A collection in pages of at most `limit` items (0 = all at once). The last page ends it.

        `metadata_only`: nothing but the objects' metadata is needed (PartialObjectMetadata).

        Raises StatusError (410 when the continuation expired) and ApiUnreachable.
        """
        ...

    def watch(
        self,
        path: str,
        resource_version: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """(type, object) from `resource_version` on: ADDED, MODIFIED, DELETED, BOOKMARK. Ends when the server ends it.

        The first is always a BOOKMARK at `resource_version`: it says that the server has accepted the watch.
        Raises StatusError (410 when the version is too old, also for ERROR events) and ApiUnreachable.
        """
        ...

    async def get(self, path: str, query: Mapping[str, str] = ...) -> Object:
        """The object at a path, or any other JSON document there. Raises StatusError and ApiUnreachable."""
        ...


class Creates(Protocol):
    """The part of a Client that asks reviews."""

    async def create(self, path: str, obj: Object) -> Object: ...


class Client(ListWatcher, Protocol):
    """Reads and writes objects. Every method raises StatusError with the API's answer, or ApiUnreachable."""

    async def create(self, path: str, obj: Object) -> Object:
        """POST to a collection; the object as stored."""
        ...

    async def update(self, path: str, obj: Object) -> Object:
        """PUT an object; with metadata.resourceVersion it is a compare-and-swap (409 Conflict)."""
        ...

    async def patch(self, path: str, patch: object, content_type: str = ...) -> Object:
        """PATCH an object; `content_type` says which kind of patch it is."""
        ...

    async def delete(self, path: str, options: Object | None = None) -> Object:
        """DELETE an object, with DeleteOptions."""
        ...
