"""What the controllers compute, without an API: endpoints, their layout over slices, mirrors, aggregated rules."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.controllers import aggregation, desired, mirror, subsets
from portway.controllers.manager import CONTROLLERS, enabled_names
from portway.controllers.pods import PodFacts, pod_facts
from portway.controllers.slicing import MAX_ENDPOINTS, Plan, Template, Wish, plan

Object = dict[str, Any]


def service(**spec: Any) -> Object:
    spec = {"selector": {"app": "web"}, "clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]} | spec
    return {"metadata": {"namespace": "demo", "name": "web", "uid": "s1", "labels": {"team": "a"}}, "spec": spec}


def pod(name: str, *ips: str, ready: bool = True, ports: Iterable[Object] = (), **more: Any) -> PodFacts:
    obj: Object = {
        "metadata": {"namespace": "demo", "name": name, "uid": f"u-{name}", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": list(ports)}]},
        "status": {
            "phase": more.pop("phase", "Running"),
            "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [
                {"type": "Ready", "status": str(ready), "lastTransitionTime": more.pop("since", "2026-01-01T00:00:00Z")}
            ],
        },
    }
    obj["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if more.pop("terminating", False) else {}
    obj["spec"] |= more
    return pod_facts(obj)


# Conditions and inclusion

CONDITIONS = [
    # ready, terminating, publishNotReadyAddresses → (ready, serving, terminating) in a slice; where in Endpoints
    (True, False, False, (True, True, False), "addresses"),
    (False, False, False, (False, False, False), "notReadyAddresses"),
    (True, True, False, (False, True, True), None),
    (False, True, False, (False, False, True), None),
    (True, False, True, (True, True, False), "addresses"),
    (False, False, True, (True, False, False), "addresses"),
    (True, True, True, (True, True, True), "addresses"),
    (False, True, True, (True, False, True), "addresses"),
]


@pytest.mark.parametrize(("ready", "terminating", "publish", "conditions", "where"), CONDITIONS)
def test_conditions(
    ready: bool, terminating: bool, publish: bool, conditions: tuple[bool, bool, bool], where: str | None
) -> None:
    one = pod("p", "10.0.0.1", ready=ready, terminating=terminating)
    of = service(publishNotReadyAddresses=publish)
    (wish,) = desired.wishes(of, [one], {})
    assert tuple(wish.endpoints[0]["conditions"].values()) == conditions
    found = subsets.endpoints(of, [one], None).get("subsets") or [{}]
    assert [key for key in found[0] if key != "ports"] == ([where] if where else [])


@pytest.mark.parametrize(
    "left_out", [pod("p"), pod("p", "10.0.0.1", phase="Succeeded"), pod("p", "10.0.0.1", phase="Failed")]
)
def test_pods_without_address_or_life_are_left_out(left_out: PodFacts) -> None:
    assert desired.wishes(service(), [left_out], {}) == [Wish("IPv4", [], [])]
    assert "subsets" not in subsets.endpoints(service(), [left_out], None)


def test_everything_an_endpoint_says() -> None:
    one = pod("p", "10.0.0.1", hostname="p", subdomain="web")
    (wish,) = desired.wishes(service(trafficDistribution="PreferSameNode"), [one], {"n1": "z1"})
    assert wish.ports == [{"name": "http", "port": 80, "protocol": "TCP"}]
    assert wish.endpoints == [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "demo", "name": "p", "uid": "u-p"},
            "hostname": "p",
            "nodeName": "n1",
            "zone": "z1",
            "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]},
        }
    ]


def test_a_hostname_counts_only_below_its_own_service() -> None:
    other = pod("p", "10.0.0.1", hostname="p", subdomain="other")
    assert "hostname" not in desired.wishes(service(), [other], {})[0].endpoints[0]


# Ports


def test_named_target_ports_are_each_pod_s_own() -> None:
    of = service(
        ports=[{"name": "http", "port": 80, "targetPort": "web"}, {"name": "fixed", "port": 1, "targetPort": 2}]
    )
    old = pod("a", "10.0.0.1", ports=[{"name": "web", "containerPort": 8080}])
    new = pod("b", "10.0.0.2", ports=[{"name": "web", "containerPort": 9090}])
    udp = pod("c", "10.0.0.3", ports=[{"name": "web", "containerPort": 7070, "protocol": "UDP"}])
    ports = {
        wish.endpoints[0]["addresses"][0]: [(port["name"], port["port"]) for port in wish.ports]
        for wish in desired.wishes(of, [old, new, udp], {})
    }
    assert ports == {
        "10.0.0.1": [("http", 8080), ("fixed", 2)],
        "10.0.0.2": [("http", 9090), ("fixed", 2)],
        "10.0.0.3": [("fixed", 2)],
    }
    grouped = subsets.endpoints(of, [old, new, udp], None)["subsets"]
    assert sorted([p["port"] for p in subset["ports"]] for subset in grouped) == [[2], [8080, 2], [9090, 2]]


def test_sidecars_have_ports_and_other_init_containers_have_none() -> None:
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [{"name": "web", "containerPort": 1}]}
    init = {"name": "i", "ports": [{"name": "web", "containerPort": 2}]}
    one = pod("p", "10.0.0.1", initContainers=[init, sidecar])
    assert one.ports == {("web", "TCP"): 1}


def test_a_pod_without_any_of_the_ports() -> None:
    of = service(ports=[{"port": 80, "targetPort": "web"}])
    (wish,) = desired.wishes(of, [pod("p", "10.0.0.1")], {})
    assert (wish.ports, len(wish.endpoints)) == ([], 1)
    assert "subsets" not in subsets.endpoints(of, [pod("p", "10.0.0.1")], None)


def test_a_headless_service_without_ports_has_addresses_all_the_same() -> None:
    of = service(clusterIP="None", ports=None)
    (subset,) = subsets.endpoints(of, [pod("p", "10.0.0.1")], None)["subsets"]
    assert subset["addresses"][0]["ip"] == "10.0.0.1"
    assert subsets.endpoints(of, [], None)["metadata"]["labels"][desired.HEADLESS] == ""
    assert desired.template(of, []).labels[desired.HEADLESS] == ""


# Families and labels


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"IPv4": ["10.0.0.1"]}),
        ({"clusterIP": "fd00::1"}, {"IPv6": ["fd00::9"]}),
        ({"ipFamilies": ["IPv6", "IPv4"]}, {"IPv6": ["fd00::9"], "IPv4": ["10.0.0.1"]}),
        ({"clusterIP": "None"}, {"IPv4": ["10.0.0.1"]}),
    ],
)
def test_one_set_for_each_family_of_the_service(spec: Object, expected: dict[str, list[str]]) -> None:
    one = pod("p", "10.0.0.1", "fd00::9")
    found = {wish.address_type: wish.endpoints[0]["addresses"] for wish in desired.wishes(service(**spec), [one], {})}
    assert found == expected


def test_labels_of_the_service_are_copied_but_cannot_lie() -> None:
    of = service()
    of["metadata"]["labels"] |= {desired.SERVICE_NAME: "other", desired.MANAGED_BY: "me", desired.HEADLESS: ""}
    labels = desired.template(of, []).labels
    assert labels == {"team": "a", desired.SERVICE_NAME: "web", desired.MANAGED_BY: desired.SLICES_BY}


# Endpoints objects


def test_endpoints_keep_what_others_wrote_and_are_equal_when_nothing_changed() -> None:
    pods = [pod("b", "10.0.0.2"), pod("a", "10.0.0.1")]
    made = subsets.endpoints(service(), pods, None)
    made["metadata"] |= {"uid": "e1", "resourceVersion": "7"}
    made["metadata"]["annotations"]["mine"] = "x"
    again = subsets.endpoints(service(), reversed(pods), made)
    assert not subsets.differ(made, again)
    assert again["metadata"]["resourceVersion"] == "7"
    assert again["metadata"]["annotations"]["mine"] == "x"
    later = subsets.endpoints(service(), [pods[0], pod("a", "10.0.0.1", since="2026-02-02T00:00:00Z")], made)
    assert not subsets.differ(made, later)
    assert subsets.differ(made, subsets.endpoints(service(), pods[:1], made))


def test_endpoints_stop_at_a_thousand_ready_ones_first() -> None:
    pods = [pod(f"p{i}", f"10.0.{i // 256}.{i % 256}", ready=i >= 500) for i in range(1200)]
    made = subsets.endpoints(service(), pods, None)
    assert made["metadata"]["annotations"][subsets.OVER_CAPACITY] == "truncated"
    (subset,) = made["subsets"]
    assert (len(subset["addresses"]), len(subset["notReadyAddresses"])) == (700, 300)
    fewer = subsets.endpoints(service(), pods[:10], made)
    assert subsets.OVER_CAPACITY not in fewer["metadata"]["annotations"]


# Layout over slices

TEMPLATE = Template("demo", "web-", {"kubernetes.io/service-name": "web"}, {"kind": "Service", "name": "web"})
HTTP = [{"name": "http", "port": 80, "protocol": "TCP"}]
ADMIN = [{"name": "admin", "port": 81, "protocol": "TCP"}]


def endpoint(number: int, ready: bool = True) -> Object:
    address = f"10.0.{number // 256}.{number % 256}"
    return {"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"uid": f"u{number}"}}


class Slices:
    """Slices as an API holds them; applies plans and counts the writes."""

    def __init__(self) -> None:
        self.held: dict[str, Object] = {}
        self.made = 0

    def write(self, todo: Plan) -> int:
        for one in todo.create:
            self.made += 1
            metadata = {key: value for key, value in one["metadata"].items() if key != "generateName"}
            name = f"{one['metadata']['generateName']}{self.made}"
            self.held[name] = one | {"metadata": metadata | {"name": name, "uid": name}}
        for one in todo.update:
            before = self.held[one["metadata"]["name"]]
            assert before["addressType"] == one["addressType"], "the field is immutable"
            self.held[one["metadata"]["name"]] = one
        for one in todo.delete:
            del self.held[one["metadata"]["name"]]
        return len(todo.create) + len(todo.update) + len(todo.delete)

    def reach(self, *wishes: Wish) -> int:
        return self.write(plan(self.held.values(), wishes, TEMPLATE))

    def sizes(self) -> list[int]:
        return sorted(len(one["endpoints"]) for one in self.held.values())


def http(numbers: Iterable[int], ready: bool = True) -> Wish:
    return Wish("IPv4", HTTP, [endpoint(number, ready) for number in numbers])


def test_at_most_a_hundred_in_a_slice() -> None:
    slices = Slices()
    assert slices.reach(http(range(250))) == 3
    assert slices.sizes() == [50, 100, 100]


def test_nothing_to_do_writes_nothing() -> None:
    slices = Slices()
    slices.reach(http(range(250)), Wish("IPv6", HTTP, [endpoint(1)]))
    assert slices.reach(http(range(250)), Wish("IPv6", HTTP, [endpoint(1)])) == 0


def test_one_change_is_one_write() -> None:
    slices = Slices()
    slices.reach(http(range(250)))
    changed = http(range(250))
    changed.endpoints[120]["conditions"]["ready"] = False
    assert slices.reach(changed) == 1
    assert slices.reach(http(range(1, 250))) == 2  # 120 is ready again, and 0 has gone


def test_newcomers_go_into_a_slice_that_has_room() -> None:
    slices = Slices()
    slices.reach(http(range(250)))
    assert slices.reach(http(range(260))) == 1
    assert slices.sizes() == [60, 100, 100]


def test_newcomers_fill_slices_that_are_written_anyway() -> None:
    slices = Slices()
    slices.reach(http(range(200)))
    assert slices.reach(http([*range(5, 200), *range(300, 305)])) == 1
    assert slices.sizes() == [100, 100]


def test_newcomers_rather_fill_a_slice_that_is_written_anyway_than_a_fuller_one() -> None:
    slices = Slices()
    slices.reach(http(range(150)))
    slices.reach(http([*range(100), *range(100, 120)]))
    slices.reach(http([*range(20, 100), *range(100, 120)]))  # one slice of 80, one of 20
    assert slices.sizes() == [20, 80]
    assert slices.reach(http([*range(20, 100), *range(101, 120), 300])) == 1
    assert slices.sizes() == [20, 80]


def test_a_slice_left_without_endpoints_goes() -> None:
    slices = Slices()
    slices.reach(http(range(200)))
    slices.reach(http(range(5)))
    assert slices.sizes() == [5]


def test_a_service_without_endpoints_has_one_empty_slice() -> None:
    slices = Slices()
    assert slices.reach(Wish("IPv4", [], [])) == 1
    assert slices.sizes() == [0]
    assert slices.reach(Wish("IPv4", [], [])) == 0
    assert slices.reach(http(range(3))) == 1
    assert slices.reach(Wish("IPv4", [], [])) == 1
    assert (slices.sizes(), slices.made) == ([0], 1)


def test_changed_ports_change_slices_in_place() -> None:
    slices = Slices()
    slices.reach(http(range(3)))
    assert slices.reach(Wish("IPv4", ADMIN, [endpoint(i) for i in range(3)])) == 1
    assert (slices.made, [one["ports"] for one in slices.held.values()]) == (1, [ADMIN])


def slices(count: int, address_type: str) -> list[Object]:
    metadata = {"namespace": "demo", "labels": {}, "ownerReferences": [{"uid": "s1"}]}
    return [
        {"metadata": metadata | {"name": f"w{i}"}, "addressType": address_type, "ports": [{"port": i + 1}]}
        for i in range(count)
    ]


def many_subsets() -> None:
    subsets = [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": i + 1}]} for i in range(8000)]
    assert len(mirror.wishes(endpoints_object(*subsets))) == 8000


def many_slices_of_another_family() -> None:
    wishes = [Wish("IPv6", [{"port": i + 1}], [{"addresses": ["fd00::1"]}]) for i in range(8000)]
    planned = plan(slices(8000, "IPv4"), wishes, TEMPLATE)
    assert (len(planned.create), len(planned.delete)) == (8000, 8000)


def many_slices_too_many() -> None:
    same = [one | {"ports": [], "endpoints": [{"addresses": ["10.0.0.1"]}]} for one in slices(8000, "IPv4")]
    planned = plan(same, [Wish("IPv4", [], [])], TEMPLATE)
    assert (len(planned.update), len(planned.delete)) == (1, 7999)


def many_named_ports() -> None:
    named = [{"name": f"p{i}", "containerPort": i + 1} for i in range(8000)]
    of = service(ports=[{"name": f"p{i}", "port": 80, "targetPort": f"p{i}"} for i in range(8000)])
    (wish,) = desired.wishes(of, [pod("p", "10.0.0.1", ports=named)], {})
    assert [port["port"] for port in wish.ports] == list(range(1, 8001))


@pytest.mark.no_cover
@pytest.mark.parametrize("work", [many_subsets, many_slices_of_another_family, many_slices_too_many, many_named_ports])
def test_large_objects_take_time_in_proportion_to_their_size(work: Callable[[], None]) -> None:
    began = time.process_time()
    work()
    # Quadratic, each takes 2 s and more; in proportion, 0.2 s.
    assert time.process_time() - began < 1.5


def test_slices_of_another_family_are_not_reused() -> None:
    slices = Slices()
    slices.reach(http(range(3)))
    slices.reach(Wish("IPv6", HTTP, [endpoint(1)]))
    assert [one["addressType"] for one in slices.held.values()] == ["IPv6"]


def test_labels_and_owner_are_repaired_and_the_trigger_time_alone_is_no_reason() -> None:
    slices = Slices()
    slices.reach(http([1]))
    for labels, owner, trigger, writes in [
        ({"a": "b"}, TEMPLATE.owner, "", 1),
        ({"a": "b"}, {"kind": "Service", "name": "web", "uid": "new"}, "", 1),
        ({"a": "b"}, {"kind": "Service", "name": "web", "uid": "new"}, "2026-01-01T00:00:00Z", 0),
    ]:
        template = Template("demo", "web-", labels, owner, trigger_time=trigger)
        assert slices.write(plan(slices.held.values(), [http([1])], template)) == writes


def test_existing_slices_are_not_changed_by_planning() -> None:
    slices = Slices()
    slices.reach(http(range(3)))
    (before,) = slices.held.values()
    plan([before], [http([9])], TEMPLATE)
    assert len(before["endpoints"]) == 3


members = st.lists(
    st.tuples(st.sampled_from(["IPv4", "IPv6"]), st.booleans(), st.sets(st.integers(0, 400))), max_size=3
)


@given(st.lists(members, min_size=1, max_size=5))
def test_whatever_the_history_slices_say_what_is_wished(history: list[list[tuple[str, bool, set[int]]]]) -> None:
    slices = Slices()
    for step in history:
        wanted: dict[tuple[str, bool], Wish] = {}
        for address_type, admin, numbers in step:
            ports = ADMIN if admin else HTTP
            wanted[address_type, admin] = Wish(address_type, ports, [endpoint(number) for number in sorted(numbers)])
        slices.reach(*wanted.values())
        assert all(size <= MAX_ENDPOINTS for size in slices.sizes())
        said = {
            (one["addressType"], one["ports"] == ADMIN, each["addresses"][0])
            for one in slices.held.values()
            for each in one["endpoints"]
        }
        assert said == {
            (address_type, admin, each["addresses"][0])
            for (address_type, admin), wish in wanted.items()
            for each in wish.endpoints
        }
        assert slices.reach(*wanted.values()) == 0


# Mirrors


def endpoints_object(*subsets_: Object, **metadata: Any) -> Object:
    return {"metadata": {"namespace": "demo", "name": "web", "uid": "e1"} | metadata, "subsets": list(subsets_)}


def test_a_mirror_says_what_the_endpoints_say() -> None:
    reference = {"kind": "Pod", "namespace": "demo", "name": "web-0"}
    subset = {
        "addresses": [{"ip": "10.0.0.1", "targetRef": reference, "nodeName": "n1"}, {"ip": "fd00::1"}],
        "notReadyAddresses": [{"ip": "10.0.0.2", "hostname": "b"}, {"ip": "nonsense"}],
        "ports": [{"name": "http", "port": 80}],
    }
    by_type = {wish.address_type: wish for wish in mirror.wishes(endpoints_object(subset))}
    assert by_type["IPv4"].ports == HTTP
    assert by_type["IPv4"].endpoints == [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": reference, "nodeName": "n1"},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "hostname": "b"},
    ]
    assert by_type["IPv6"].endpoints == [{"addresses": ["fd00::1"], "conditions": {"ready": True}}]


def test_a_mirror_of_nothing_is_an_empty_slice() -> None:
    assert mirror.wishes(endpoints_object()) == [Wish("IPv4", [], [])]
    assert mirror.wishes({"metadata": {}, "subsets": None}) == [Wish("IPv4", [], [])]


def test_what_a_mirror_s_slices_are_called_and_whose_they_are() -> None:
    annotations = {mirror.APPLIED: "{}", "keep": "me"}
    template = mirror.template(endpoints_object(labels={"a": "b", desired.MANAGED_BY: "x"}, annotations=annotations))
    assert template.labels == {"a": "b", desired.SERVICE_NAME: "web", desired.MANAGED_BY: mirror.MIRRORED_BY}
    assert template.annotations == {"keep": "me"}
    assert (template.owner["kind"], template.owner["uid"], template.prefix) == ("Endpoints", "e1", "web-")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, True),
        ({"labels": {mirror.SKIP: "true"}}, False),
        ({"labels": {mirror.SKIP: "false"}}, True),
        ({"annotations": {mirror.LEADER: "{}"}}, False),
    ],
)
def test_which_endpoints_are_mirrored(metadata: Object, expected: bool) -> None:
    assert mirror.is_mirrored(endpoints_object(**metadata)) is expected


# Aggregated roles


def test_rules_are_the_union_in_a_fixed_order() -> None:
    def role(name: str, label: str, *verbs: str) -> Object:
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]} for verb in verbs]
        return {"metadata": {"name": name, "labels": {"to": label}}, "rules": rules}

    edit: Object = {
        "metadata": {"name": "edit", "labels": {"to": "edit"}},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}, {"matchLabels": {"to": "edit"}}]},
        "rules": [{"verbs": ["old"]}],
    }
    others = [edit, role("c", "edit", "update"), role("b", "view", "watch"), role("a", "view", "get", "watch")]
    expected = ["get", "watch", "update"]
    assert [rule["verbs"][0] for rule in aggregation.aggregated_rules(edit, others)] == expected
    assert [rule["verbs"][0] for rule in aggregation.aggregated_rules(edit, reversed(others))] == expected
    assert aggregation.is_aggregated(edit)
    assert not aggregation.is_aggregated(others[1])


# --controllers


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("*", {controller.name for controller in CONTROLLERS}),
        ("", set()),
        ("endpoints-controller", {"endpoints-controller"}),
        ("*,-endpoints-controller", {controller.name for controller in CONTROLLERS} - {"endpoints-controller"}),
        ("-endpoints-controller,*", {controller.name for controller in CONTROLLERS} - {"endpoints-controller"}),
        ("endpoints-controller,-endpoints-controller", {"endpoints-controller"}),
    ],
)
def test_which_controllers_run(selection: str, expected: set[str]) -> None:
    assert set(enabled_names(selection)) == expected


def test_an_unknown_controller_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match='"-nosuch" is not in the list'):
        enabled_names("*,-nosuch")
