"""Events of our own components: counted, bounded, and never in the way."""

import asyncio
from typing import Any

from portway.client.recorder import BURST, REFILL_SECONDS, Recorder, reference
from portway.kube.errors import Forbidden, NotFound

Object = dict[str, Any]
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "demo", "name": "web", "uid": "u"}}


class Api:
    """Keeps Events by path."""

    def __init__(self) -> None:
        self.events: dict[str, Object] = {}
        self.refuse = False

    async def create(self, path: str, obj: Object) -> Object:
        if self.refuse:
            raise Forbidden("no")
        self.events[f"{path}/{obj['metadata']['name']}"] = obj
        return obj

    async def patch(self, path: str, patch: object, content_type: str = "") -> Object:
        assert content_type == "application/merge-patch+json"
        assert isinstance(patch, dict)
        if path not in self.events:
            raise NotFound("gone")
        self.events[path] |= patch
        return self.events[path]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_same_words_are_counted_in_one_event() -> None:
    api, clock = Api(), Clock()
    recorder = Recorder(api, "tester", clock=clock)

    async def run() -> None:
        await recorder.warning(POD, "Bad", "it broke")
        clock.now += 60
        await recorder.warning(POD, "Bad", "it broke")
        await recorder.normal(POD, "Good", "it works")

    asyncio.run(run())
    bad, good = api.events.values()
    assert (bad["count"], bad["type"], bad["source"]) == (2, "Warning", {"component": "tester"})
    assert (bad["firstTimestamp"], bad["lastTimestamp"]) == ("1970-01-12T13:46:40Z", "1970-01-12T13:47:40Z")
    assert bad["involvedObject"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "demo", "name": "web", "uid": "u"}
    assert (good["count"], good["type"], good["message"]) == (1, "Normal", "it works")


def test_an_event_that_somebody_deleted_is_made_anew() -> None:
    api = Api()
    recorder = Recorder(api, "tester")

    async def run() -> None:
        await recorder.warning(POD, "Bad", "it broke")
        api.events.clear()
        await recorder.warning(POD, "Bad", "it broke")

    asyncio.run(run())
    assert [event["count"] for event in api.events.values()] == [1]


def test_who_says_too_much_about_one_object_is_cut_short() -> None:
    api, clock = Api(), Clock()
    recorder = Recorder(api, "tester", clock=clock)
    other = {**POD, "metadata": {**POD["metadata"], "name": "other"}}  # type: ignore[dict-item]

    async def run() -> None:
        for number in range(BURST + 5):
            await recorder.normal(POD, "Noise", str(number))
        assert len(api.events) == BURST
        await recorder.normal(other, "Noise", "another object is another matter")
        clock.now += REFILL_SECONDS
        await recorder.normal(POD, "Noise", "later")
        await recorder.normal(POD, "Noise", "too soon")

    asyncio.run(run())
    assert len(api.events) == BURST + 2


def test_a_refused_event_disturbs_nobody() -> None:
    api = Api()
    api.refuse = True
    asyncio.run(Recorder(api, "tester").warning(POD, "Bad", "it broke"))
    assert not api.events


def test_cluster_scoped_objects_have_their_events_in_default() -> None:
    api = Api()
    node = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}
    asyncio.run(Recorder(api, "tester").normal(node, "Seen", "here"))
    (path,) = api.events
    assert path.startswith("/api/v1/namespaces/default/events/n.")
    assert reference(node) == node


def test_an_object_whose_name_no_event_can_have_is_spoken_of_all_the_same() -> None:
    api = Api()
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "system:node"}
    asyncio.run(Recorder(api, "tester").normal(role, "Seen", "here"))
    (path,) = api.events
    assert path.rpartition("/")[2].count("-") == 4
