"""Which endpoint a client gets: kube-proxy's rules as a table, and what holds whatever the endpoints are."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.client.records import Endpoint
from portway.gateway.l4.balance import FIRST_REST, Balancer, Here, Target, eligible

HERE = Here("here", "zone-a")


def one(
    address: str = "10.0.0.1", state: str = "ready", node: str = "here", zones: str = "", nodes: str = ""
) -> Endpoint:
    ready, serving, terminating = {
        "ready": (True, True, False),
        "unready": (False, False, False),
        "leaving": (False, True, True),
        "left": (False, False, True),
        "published": (True, False, False),
    }[state]
    return Endpoint(address, 80, ready, serving, terminating, "", "", node, tuple(zones.split()), tuple(nodes.split()))


A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
TABLE: dict[str, tuple[list[Endpoint], bool, list[str]]] = {
    "nothing": ([], False, []),
    "ready ones": ([one(A), one(B, "unready"), one(C)], False, [A, C]),
    "publishNotReadyAddresses": ([one(A, "published")], False, [A]),
    "leaving ones beside ready ones": ([one(A, "leaving"), one(B)], False, [B]),
    "only leaving ones": ([one(A, "leaving"), one(B, "left"), one(C, "unready")], False, [A]),
    "local": ([one(A, node="there"), one(B)], True, [B]),
    "local, none here": ([one(A, node="there")], True, []),
    "local, leaving here, ready elsewhere": ([one(A, node="there"), one(B, "leaving")], True, [B]),
    "local, without a node": ([one(A, node="")], True, []),
    "another family": ([one("fd00::1"), one(A)], False, [A]),
    "hints for zones": ([one(A, zones="zone-a"), one(B, zones="zone-b zone-a"), one(C, zones="zone-b")], False, [A, B]),
    "hints for zones, one without": ([one(A, zones="zone-a"), one(B)], False, [A, B]),
    "hints for other zones": ([one(A, zones="zone-b"), one(B, zones="zone-b")], False, [A, B]),
    "hints for nodes": ([one(A, nodes="here", zones="zone-b"), one(B, nodes="there", zones="zone-a")], False, [A]),
    "hints of those that aren't ready": ([one(A, zones="zone-a"), one(B, "unready")], False, [A]),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    endpoints, local_only, expected = TABLE[name]
    assert [e.address for e in eligible(endpoints, 4, local_only, HERE)] == expected


endpoint = st.builds(
    one,
    st.sampled_from([A, B, C, "10.0.0.4", "fd00::1", "fd00::2"]),
    st.sampled_from(["ready", "unready", "leaving", "left", "published"]),
    st.sampled_from(["here", "there", ""]),
    st.sampled_from(["", "zone-a", "zone-b", "zone-a zone-b"]),
    st.sampled_from(["", "here", "there"]),
)


@given(st.lists(endpoint, max_size=8), st.sampled_from([4, 6]), st.booleans())
def test_the_chosen_are_of_the_family_the_node_and_the_best_state(
    endpoints: list[Endpoint], family: int, local_only: bool
) -> None:
    chosen = eligible(endpoints, family, local_only, HERE)
    fitting = [e for e in endpoints if (":" in e.address) == (family == 6) and (not local_only or e.node == "here")]
    assert set(chosen) <= set(fitting)
    assert all(e.ready for e in chosen) or not any(e.ready for e in fitting)
    assert all(e.ready or (e.serving and e.terminating) for e in chosen)
    assert bool(chosen) == any(e.ready or (e.serving and e.terminating) for e in fitting)


class Setting:
    """A balancer, its endpoints, and a clock that stands still."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.now = 1000.0
        self.refused: set[str] = set()
        self.endpoints = {"": endpoints}
        self.balancer = Balancer(
            lambda: self.endpoints,
            "",
            4,
            False,
            lambda: HERE,
            lambda address, _port: address not in self.refused,
            lambda: self.now,
        )

    def pick(self, client: str = "192.0.2.1", *tried: str) -> str:
        found = self.balancer.pick(client, [(address, 80) for address in tried])
        return found[0] if found else ""


def test_they_take_turns() -> None:
    setting = Setting(one(A), one(B), one(C))
    picked = [setting.pick() for _ in range(9)]
    assert sorted(picked) == [A] * 3 + [B] * 3 + [C] * 3


def test_what_was_tried_or_must_not_be_dialled_is_not_picked() -> None:
    setting = Setting(one(A), one(B), one(C))
    setting.refused = {B}
    assert {setting.pick("x", A) for _ in range(6)} == {C}
    assert setting.pick("x", A, C) == ""


def test_one_that_failed_rests_while_there_are_others_and_longer_each_time() -> None:
    setting = Setting(one(A), one(B))
    setting.balancer.failed((A, 80))
    assert {setting.pick() for _ in range(4)} == {B}
    assert setting.pick("x", B) == A
    setting.now += FIRST_REST
    assert {setting.pick() for _ in range(4)} == {A, B}
    setting.balancer.failed((A, 80))
    setting.now += FIRST_REST
    assert {setting.pick() for _ in range(4)} == {B}
    setting.balancer.reached((A, 80))
    assert {setting.pick() for _ in range(4)} == {A, B}


def test_affinity_holds_until_its_time_and_is_renewed_by_each_visit() -> None:
    setting = Setting(one(A), one(B))
    setting.balancer.affinity_seconds = 10
    first = setting.pick("client")
    for _ in range(5):
        setting.now += 9
        assert setting.pick("client") == first
    setting.now += 10
    assert {setting.pick("client")} | {setting.pick(f"other-{n}") for n in range(2)} == {A, B}


def test_affinity_lets_go_of_an_endpoint_that_is_gone_or_unreachable() -> None:
    setting = Setting(one(A), one(B))
    setting.balancer.affinity_seconds = 10
    first = setting.pick("client")
    second = A if first == B else B
    assert setting.pick("client", first) == second
    assert setting.pick("client") == second
    setting.endpoints = {"": (one(first),)}
    assert setting.pick("client") == first


@given(st.lists(st.sampled_from([A, B, C]), unique=True), st.lists(st.sampled_from(["c1", "c2", "c3"]), max_size=20))
def test_with_affinity_a_client_has_one_endpoint_as_long_as_they_stay(
    addresses: list[str], clients: Sequence[str]
) -> None:
    setting = Setting(*map(one, addresses))
    setting.balancer.affinity_seconds = 10
    known: dict[str, Target | None] = {}
    for client in clients:
        found = setting.balancer.pick(client)
        assert known.setdefault(client, found) == found
        assert (found is None) == (not addresses)
