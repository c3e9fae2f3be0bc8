"""A decision and where it leads: what the pipeline's steps hand on, and what an identity remembers of them."""

import asyncio
import math
from typing import Final

from portway.gateway.cluster import Cluster
from portway.gateway.locations import Located
from portway.gateway.rewrite import Links, MovedLinks
from portway.gateway.upstream.endpoint import Endpoint
from portway.kube.attributes import Attributes
from portway.kube.rbac import Decision

FOREVER: Final = math.inf
"""The end of a decision that holds until the authoriser's generation changes."""


class Grant:
    """A decision and where it leads, for one identity, method and target; used again while it holds.

    `located` is None for the API itself. `endpoints` are set when it is known how to reach it. `prefix` is the URL up
    to the backend's own path as the client has it, `path` as the API server would.
    """

    __slots__ = (
        "_authorizer",
        "attributes",
        "cluster",
        "endpoints",
        "generation",
        "located",
        "path",
        "prefix",
        "reason",
        "through",
        "until",
    )

    def __init__(
        self,
        cluster: Cluster,
        attributes: Attributes,
        decision: Decision,
        generation: int,
        located: Located | None,
        prefix: bytes,
        path: bytes,
    ) -> None:
        self.cluster = cluster
        self._authorizer = cluster.authorizer
        self.attributes = attributes
        self.reason = decision.reason
        self.until = decision.until
        self.generation = generation
        self.located = located
        self.endpoints = located.endpoints if located is not None else ()
        self.prefix = prefix
        self.path = path
        self.through = located is None or located.through
        """Whether the API server answers, for itself or for a target that it proxies to."""

    def links(self, host: bytes, endpoint: Endpoint | None) -> Links:
        """The rewriting rules for an answer from an endpoint."""
        prefix, named = self.prefix.decode("ascii"), host.decode("latin-1")
        if self.through:
            # The API server knows of no path in front of its own: whoever put it there has taken it off again.
            return MovedLinks(self.path.decode("ascii"), self.cluster.api.authority, prefix, named)
        return Links(prefix, endpoint.label if endpoint is not None else "", named)

    def holds(self, now: float, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the decision and its location are still true. `now` may be a second old, but not for a decision
        whose time is over to the moment.
        """
        located = self.located
        return (
            located is not None
            and not located.stale
            and located.expires > now
            and self.generation == self._authorizer.generation
            and (self.until == FOREVER or self.until > loop.time())
        )

    def decided(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the decision is still true."""
        return self.generation == self._authorizer.generation and (self.until == FOREVER or self.until > loop.time())
