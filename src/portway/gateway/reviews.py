"""Questions to a Kubernetes API that store nothing: TokenReview, SubjectAccessReview. Who asks what, and how long an
answer is believed, is `authentication.tokenreview`'s and `authorization.accessreview`'s; here is how one is asked.

    ServiceUnavailable
    └── ReviewUnavailable       nobody could be asked; what was known may count for a while (grace)
        └── ReviewRefused       the API answered that the door may not ask this: nothing known counts any more

Deadline, retries and their pauses are those of upstream's delegating options; the breaker is ours. No message holds
anything of a question: a token is a question.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from portway.client.protocol import ApiUnreachable, Creates
from portway.gateway.breaker import Breaker
from portway.kube.errors import ServiceUnavailable, StatusError
from portway.kube.objects import Object

TIMEOUT: Final = 10.0
"""Seconds for one question, its retries included (TokenRequestTimeout, ClientTimeout)."""
ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.5
PAUSE_FACTOR: Final = 1.5
JITTER: Final = 0.2
"""DefaultAuthWebhookRetryBackoff."""
RETRIED: Final = frozenset((429, 500, 502, 503, 504))
GRACE: Final = 60.0
"""Seconds that an answer is believed beyond its time while nobody can be asked."""
HURRY: Final = 2.0
"""Seconds after which whoever has an older answer that still counts waits no more for a new one."""


class ReviewUnavailable(ServiceUnavailable):
    """Nobody could be asked."""


class ReviewRefused(ReviewUnavailable):
    """The API does not let the door ask."""


class Reviewer:
    """Asks one API one kind of review. Lives on one event loop."""

    def __init__(
        self, api: Creates, path: str, kind: str, *, timeout: float = TIMEOUT, breaker: Breaker | None = None
    ) -> None:
        """`path` is the collection that is posted to; `kind` with its group: `authentication.k8s.io/v1 TokenReview`."""
        self._api = api
        self._path = path
        self._api_version, _, self._kind = kind.partition(" ")
        self._timeout = timeout
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._breaker = breaker or Breaker(self._clock)
        self._trouble = ""
        self._since = 0.0
        self._under_way: dict[object, float] = {}
        self.refused = False
        """Whether the last answer was that the door may not ask: nothing known counts beyond its time then."""

    @property
    def refusing(self) -> bool:
        """Whether a question asked now would be turned away at once."""
        return self._breaker.refusing

    def health(self) -> str:
        """ "" when questions are answered, else one line for an operator."""
        trouble, since = self._trouble, self._since
        if not trouble:
            since = min(self._under_way.values(), default=self._clock())
            trouble = "no answer yet" if self._clock() - since >= HURRY else ""
        return f"{self._kind}s are not answered for {self._clock() - since:.0f} s: {trouble}" if trouble else ""

    def unavailable(self) -> ReviewUnavailable:
        """What a question turned away is answered with."""
        if self.refused:
            message = f"the cluster's API does not let the door ask for a {self._kind}, please try again later"
            return ReviewRefused(message, retry_after=self._breaker.retry_after)
        message = f"the cluster's API can't be asked for a {self._kind} now, please try again later"
        return ReviewUnavailable(message, retry_after=self._breaker.retry_after)

    async def ask(self, spec: Object, *, patient: bool = True) -> Mapping[str, Any]:
        """The `status` of a review with this `spec`. ReviewUnavailable (ReviewRefused), and nothing else.

        `patient`: try again after a failure; not wanted where an older answer can stand in.
        """
        review: Object = {"apiVersion": self._api_version, "kind": self._kind, "metadata": {}, "spec": spec}
        deadline = self._clock() + self._timeout
        pause = FIRST_PAUSE
        for left in reversed(range(ATTEMPTS if patient else 1)):
            try:
                return await self._attempt(review, deadline)
            except _TryAgain as again:
                wait = max(pause * (1 + JITTER * random.random()), again.wait)
                if not left or self.refusing or self._clock() + wait >= deadline:
                    break
            await asyncio.sleep(wait)
            pause *= PAUSE_FACTOR
        raise self.unavailable()

    async def _attempt(self, review: Object, deadline: float) -> Mapping[str, Any]:
        if not self._breaker.admit():
            raise self.unavailable()
        question = object()
        self._under_way[question] = self._clock()
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._api.create(self._path, review)
        except asyncio.CancelledError:
            self._breaker.abandoned()
            raise
        except TimeoutError:
            raise self._failed("no answer in time") from None
        except ApiUnreachable as error:
            raise self._failed(str(error)) from None
        except StatusError as error:
            raise self._answered(error) from None
        finally:
            del self._under_way[question]
        status = answer.get("status")
        if not isinstance(status, dict):
            raise self._failed("the answer has no status")
        self._breaker.succeeded()
        self._trouble = ""
        self.refused = False
        return status

    def _answered(self, error: StatusError) -> "_TryAgain | ReviewUnavailable":
        # Only what is said before a question is looked at may be repeated: the rest may quote it.
        said = error.message if error.code == 403 else error.reason or "no reason given"
        again = self._failed(f"{error.code} {said}", error.retry_after or 0)
        if error.code in RETRIED:
            return again
        self.refused = True
        return self.unavailable()

    def _failed(self, why: str, wait: float = 0.0) -> "_TryAgain":
        self._breaker.failed()
        if not self._trouble:
            self._since = self._clock()
        self._trouble = " ".join(why.split())
        self.refused = False
        return _TryAgain(wait)


class _TryAgain(Exception):  # noqa: N818 - a signal, not an error
    def __init__(self, wait: float) -> None:
        super().__init__()
        self.wait = wait


__all__ = ["Creates", "ReviewRefused", "ReviewUnavailable", "Reviewer"]
