"""What callers may do with the services of a namespace: asked of the cluster as the caller, believed for a while."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import Final

from portway.client.api import ApiClient
from portway.client.credentials import Headers
from portway.client.permissions import UNKNOWN, Permissions, permissions
from portway.client.protocol import ApiUnreachable
from portway.kube.identity import User
from portway.kube.objects import Object

BELIEVED: Final = 30.0
"""Seconds; the catalogue only tells, each request is decided anew."""
UNANSWERED: Final = 2.0
"""Seconds until an API that did not answer is asked again."""
PATIENCE: Final = 5.0
"""Seconds that a caller waits for what it may do before it is told that nobody knows."""
KEPT: Final = 4096
"""Answers, of one namespace for one user each."""


class Rights:
    """By user and namespace."""

    def __init__(
        self, client: ApiClient, headers: Callable[[User], Headers], clock: Callable[[], float] = monotonic
    ) -> None:
        """`headers` make a request of the client's the user's."""
        self._client = client
        self._headers = headers
        self._clock = clock
        self._known: dict[tuple[User, str], tuple[Permissions, float]] = {}
        self._asking: dict[User, asyncio.Task[None]] = {}

    def known(self, user: User, namespaces: Iterable[str]) -> Mapping[str, Permissions] | Callable[[], Awaitable[None]]:
        """What is known of all of them, or how to find out: of all together, so that they are known together."""
        now = self._clock()
        wanted = tuple(dict.fromkeys(namespaces))
        found = {}
        for namespace in wanted:
            permission, until = self._known.get((user, namespace), (UNKNOWN, 0.0))
            if until <= now:
                return lambda: self._ask(user, wanted)
            found[namespace] = permission
        return found

    async def _ask(self, user: User, namespaces: tuple[str, ...]) -> None:
        """One question of a user's at a time; whoever asks meanwhile waits for its answer, and looks again."""
        asking = self._asking.get(user)
        if asking is None:
            asking = self._asking[user] = asyncio.create_task(self._answer(user, namespaces), name="rights")
            asking.add_done_callback(lambda _: self._asking.pop(user, None))
        await asyncio.shield(asking)

    async def _answer(self, user: User, namespaces: tuple[str, ...]) -> None:
        answers: Mapping[str, Permissions] = dict.fromkeys(namespaces, UNKNOWN)
        believed = UNANSWERED
        try:
            async with asyncio.timeout(PATIENCE):
                answers = await permissions(_As(self._client, self._headers(user)), namespaces)
            believed = BELIEVED
        except (ApiUnreachable, TimeoutError):
            pass  # nothing can be said
        if len(self._known) + len(answers) > KEPT:
            self._known.clear()
        until = self._clock() + believed
        self._known.update(((user, namespace), (answer, until)) for namespace, answer in answers.items())


class _As:
    """The client, as a user."""

    def __init__(self, client: ApiClient, headers: Headers) -> None:
        self._client = client
        self._headers = headers

    async def create(self, path: str, obj: Object) -> Object:
        return await self._client.create(path, obj, self._headers)
