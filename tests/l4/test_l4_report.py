"""What can't be served: an Event, a condition while it lasts, and nobody else is kept from being served."""

import errno
import socket
from typing import Any, cast

import pytest

from portway.client.protocol import Client
from portway.gateway.l4.addresses import Addresses, AddressUnavailableError
from portway.gateway.l4.listeners import Listeners
from portway.gateway.l4.netlink import Held, Netlink
from portway.gateway.l4.settings import ServiceProxySettings
from portway.gateway.l4.wants import Where
from portway.kube.errors import ServiceUnavailable
from portway.kube.objects import Object
from portway.testing.cluster import accepts, free_port, wait_until
from portway.testing.services import Written, fetch, service_address, serving


def condition(patch: object) -> dict[str, object]:
    assert isinstance(patch, dict)
    (found,) = patch["status"]["conditions"]
    return dict(found)


def test_a_taken_port_is_told_and_tried_again_and_in_nobodys_way() -> None:
    taken, free = free_port(), free_port()
    blocker = socket.create_server(("127.0.0.1", taken))
    with serving() as wire:
        address = wire.service(
            "web",
            "",
            {"name": "a", "port": 80, "protocol": "TCP", "nodePort": taken},
            {"name": "b", "port": 81, "protocol": "TCP", "nodePort": free},
            type="NodePort",
        )
        web = wire.server(b"one")
        ports = [{"name": name, "port": web.port, "protocol": "TCP"} for name in "ab"]
        wire.endpoints("web", web, ports=ports)
        assert fetch("127.0.0.1", free) == fetch(address, 80) == b"one"
        wait_until(lambda: wire.written.events, "no Event")
        (event,) = wire.written.events
        assert (event["type"], event["reason"]) == ("Warning", "FailedToBind")
        words = f"node port 127.0.0.1:{taken}/TCP cannot be served: another program listens there"
        assert event["message"] == words
        assert event["involvedObject"]["name"] == "web"
        path, patch = wire.written.patches[0]
        assert path == "/api/v1/namespaces/ns/services/web/status"
        told = condition(patch)
        assert (told["type"], told["status"], told["message"]) == ("portway.dev/PortsError", "True", words)

        status = {"conditions": [told]}
        ports = [
            {"name": "a", "port": 80, "protocol": "TCP", "nodePort": taken},
            {"name": "b", "port": 81, "protocol": "TCP", "nodePort": free},
        ]
        wire.service("web", address, *ports, type="NodePort", status=status)
        blocker.close()
        assert fetch("127.0.0.1", taken) == b"one"
        wait_until(lambda: condition(wire.written.patches[-1][1]).get("$patch") == "delete", "it is not cleared")
        assert len(wire.written.events) == 1


def test_a_condition_of_an_earlier_life_is_cleared() -> None:
    with serving() as wire:
        told = {"type": "portway.dev/PortsError", "status": "True", "message": "long ago"}
        wire.service("web", status={"conditions": [told]})
        wait_until(lambda: wire.written.patches, "nothing is cleared")
        assert condition(wire.written.patches[0][1])["$patch"] == "delete"
        assert wire.written.events == []


def test_a_protocol_that_is_not_served_is_said() -> None:
    with serving() as wire:
        address = wire.service("web", "", {"port": 90, "protocol": "SCTP"}, {"name": "t", "port": 80})
        wait_until(lambda: wire.written.events, "no Event")
        assert f"{address}:90/SCTP cannot be served: SCTP is not served" in wire.written.events[0]["message"]


def test_two_services_on_one_address_take_turns() -> None:
    external = service_address()
    with serving() as wire:
        wire.service("first", externalIPs=[external])
        wire.endpoints("first", wire.server(b"first"))
        assert fetch(external, 80) == b"first"
        wire.service("second", externalIPs=[external])
        wire.endpoints("second", wire.server(b"second"))
        wait_until(lambda: wire.written.events, "no Event")
        assert "service ns/first has it" in wire.written.events[0]["message"]
        wire.apply("services", {"metadata": {"namespace": "ns", "name": "first"}}, "DELETED")
        assert fetch(external, 80) == b"second"


def test_addresses_that_the_machine_cannot_have_are_told_of_once_for_cluster_addresses_and_for_each_other() -> None:
    with serving(interface="no-interface-can-be-called-so") as wire:
        for number in range(1, 4):
            wire.service(f"web-{number}", f"192.0.2.{number}")
        wait_until(lambda: wire.written.events, "no Event")
        wire.service("out", externalIPs=["192.0.2.77"])
        wait_until(lambda: len(wire.written.events) == 2, "no second Event")
        node, service = wire.written.events
        assert node["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": "here"}
        assert "cluster addresses of services are not served on this machine" in node["message"]
        assert service["involvedObject"]["name"] == "out"
        assert [path for path, _ in wire.written.patches] == ["/api/v1/namespaces/ns/services/out/status"]


@pytest.mark.parametrize("address", ["0.0.0.0", "169.254.169.254", "100.100.100.200", "224.0.0.1", "255.255.255.255"])
def test_an_address_that_no_service_may_have_is_not_listened_on(address: str) -> None:
    """Whoever writes a status could take every address of the machine otherwise, or speak for the cloud."""
    number = free_port()
    with serving() as wire:
        ingress = [{"ip": address, "ipMode": "VIP"}]
        wire.service(
            "web",
            "",
            {"port": number, "protocol": "TCP"},
            type="LoadBalancer",
            status={"loadBalancer": {"ingress": ingress}},
        )
        wait_until(lambda: wire.written.events, "no Event")
        words = f"load balancer address {address}:{number}/TCP cannot be served: no service may have such an address"
        assert wire.written.events[0]["message"] == words
        assert not accepts("127.0.0.1", number)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_door_s_port_is_not_taken_while_the_door_is_away(host: str) -> None:
    door, beside = free_port(), free_port()
    with serving(door=((host, door),)) as wire:
        ports = [{"name": str(n), "port": 80 + n, "protocol": "TCP", "nodePort": n} for n in (door, beside)]
        wire.service("web", "", *ports, type="NodePort")
        wait_until(lambda: wire.written.events, "no Event")
        words = f"node port 127.0.0.1:{door}/TCP cannot be served: the door listens there"
        assert wire.written.events[0]["message"] == words
        web = wire.server(b"one")
        listed = [{"name": port["name"], "port": web.port, "protocol": "TCP"} for port in ports]
        wire.endpoints("web", web, ports=listed)
        assert fetch("127.0.0.1", beside) == b"one"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", door), 5)


def test_settings_cross_the_process_boundary() -> None:
    doors = (("127.0.0.1", 6443), ("::1", 8001))
    told = ServiceProxySettings("/api.sock", "here", ("127.0.0.0/8",), door=doors, api_door=doors[0])
    assert ServiceProxySettings.from_json(told.to_json()) == told


def test_many_problems_fit_into_a_message() -> None:
    with serving() as wire:
        wire.service("web", "", *({"name": f"p{n}", "port": n, "protocol": "SCTP"} for n in range(1, 1001)))
        wait_until(lambda: wire.written.patches, "no condition")
        message = str(condition(wire.written.patches[0][1])["message"])
        assert message.endswith("; and 995 more")
        assert message == wire.written.events[0]["message"]


def test_a_condition_that_cannot_be_cleared_at_once_is_cleared_later() -> None:
    class Troubled(Written):
        async def patch(self, path: str, patch: Any, content_type: str = "") -> Object:
            await super().patch(path, patch, content_type)
            if len(self.patches) == 1:
                raise ServiceUnavailable("etcd is gone")
            return {}

    with serving() as wire:
        troubled = Troubled()
        wire.proxy._reporter._client = cast(Client, troubled)
        told = {"type": "portway.dev/PortsError", "status": "True", "message": "long ago"}
        wire.service("web", status={"conditions": [told]})
        wait_until(lambda: len(troubled.patches) == 2, "it is not tried again")


class OneTaken(Netlink):
    """A kernel that refuses one address, for a reason of that one."""

    def addresses(self) -> list[Held]:
        return []

    def local_routes(self) -> list[Held]:
        return []

    def add_local_route(self, _index: int, address: str, _origin: int) -> None:
        if address == "10.96.0.1":
            raise OSError(errno.ENOBUFS, "No buffer space available")

    def delete_local_route(self, _address: str, _origin: int) -> None: ...


def test_a_cluster_address_that_alone_cannot_be_added_is_the_service_s_problem() -> None:
    addresses = Addresses("services0", own=True)
    addresses.unavailable, addresses._netlink = "", OneTaken()
    with pytest.raises(AddressUnavailableError, match="cannot be added to interface services0") as caught:
        addresses.hold("10.96.0.1")
    assert not caught.value.every
    addresses.hold("10.96.0.2")
    addresses.close()
    with pytest.raises(AddressUnavailableError) as caught:
        Addresses("", own=False).hold("10.96.0.1")
    assert caught.value.every


@pytest.mark.parametrize("spelled", ["fd00:96::9", "FD00:96:0:0:0:0:0:9", "::ffff:10.96.0.9", "10.96.0.9"])
def test_an_endpoint_leads_here_however_it_is_spelled(spelled: str) -> None:
    owners = {Where("TCP", address, 80): ("ns", "web") for address in ("fd00:96::9", "10.96.0.9")}
    listeners = Listeners.__new__(Listeners)
    listeners.owners = owners
    assert listeners.leads_here(spelled, 80)
