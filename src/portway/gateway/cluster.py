"""A cluster behind the door, as one worker sees it: what is known of it, who decides, and how its API is spoken to."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from portway.client.view import ClusterView
from portway.gateway.authorization import Authorizer
from portway.gateway.locations import Locations
from portway.gateway.upstream.endpoint import Endpoint, Endpoints

if TYPE_CHECKING:
    from portway.gateway.relay import Exchange


class Api(Protocol):
    """Where requests go that the cluster's API server answers, and as whom."""

    prefix: bytes
    """The path of the server's URL, without a slash at the end; b"" for most."""
    authority: str
    """The server's host and port, which it wants to be called by; "" when it doesn't care."""
    judges: bool
    """Whether the server itself checks who somebody wants to act as, so that Impersonate-* goes through to it."""

    @property
    def stamp(self) -> object:
        """What `fields` shows now: another object when that is another credential; None when there is none at hand."""
        ...

    @property
    def waits_for(self) -> Awaitable[object] | None:
        """What must come first (a credential that has run out); None when requests can be sent."""
        ...

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The API server's addresses."""
        ...

    def fields(self, exchange: "Exchange") -> bytes:
        """The header lines that say to the API server whose request it is.

        Raises StatusError for a user that no header can name.
        """
        ...

    def refused(self, exchange: "Exchange", *, proxied: bool) -> None:
        """It answered 401 to what `fields` said of this exchange; or, `proxied`, what it proxies to may have."""
        ...


class Cluster:
    """One cluster. Everything in it lives on the worker's loop."""

    __slots__ = ("api", "authorizer", "endpoints", "label", "locations", "name", "streams", "view")

    def __init__(
        self,
        name: str,
        view: ClusterView,
        locations: Locations,
        authorizer: Authorizer,
        api: Api,
        endpoints: Endpoints,
        streams: tuple[Endpoint, ...] = (),
        label: str = "",
    ) -> None:
        """`label`: its part of host names; "" for the one that needs none. `endpoints`: all that are dialled for it.
        `streams`: who serves pods/portforward, as a kubelet would, instead of the API server; () = nobody.
        """
        self.name = name
        self.label = label
        self.endpoints = endpoints
        self.streams = streams
        self.view = view
        self.locations = locations
        self.authorizer = authorizer
        self.api = api
