"""TCP through the service proxy: real sockets on loopback."""

import asyncio
import contextlib
import errno
import hashlib
import http.client
import json
import resource
import socket
import struct
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.gateway.l4.health import HealthListener
from portway.gateway.l4.sockets import source_filter
from portway.gateway.settings import Limits
from portway.testing.cluster import accepts, free_port, wait_until
from portway.testing.services import connect, endpoint, fetch, pod_address, service_address, serving

RESET = struct.pack("ii", 1, 0)


def test_a_cluster_address_leads_to_its_endpoint() -> None:
    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(b"one"))
        assert fetch(address, 80) == b"one"


def test_a_node_port_an_external_and_a_load_balancer_address_do_too() -> None:
    node_port, external, balanced = free_port(), service_address(), service_address()
    with serving() as wire:
        wire.service(
            "web",
            "",
            {"port": 80, "protocol": "TCP", "nodePort": node_port},
            type="LoadBalancer",
            externalIPs=[external],
            status={"loadBalancer": {"ingress": [{"ip": balanced, "ipMode": "VIP"}]}},
        )
        wire.endpoints("web", wire.server(b"one"))
        for address, port in (("127.0.0.1", node_port), (external, 80), (balanced, 80)):
            assert fetch(address, port) == b"one"
        assert not accepts("127.0.0.2", node_port)


def test_without_endpoints_a_connection_is_reset() -> None:
    with serving() as wire:
        address = wire.service("web")
        with pytest.raises(ConnectionResetError), connect(address, 80) as sock:
            sock.recv(1)


def test_an_endpoint_that_refuses_is_replaced_by_another() -> None:
    with serving() as wire:
        web = wire.server(b"one")
        gone = endpoint(pod_address())
        address = wire.service("web")
        wire.endpoints("web", gone, web, gone | {"addresses": [pod_address()]})
        assert [fetch(address, 80) for _ in range(6)] == [b"one"] * 6


def test_endpoints_that_serve_while_they_terminate_are_for_when_nobody_is_ready() -> None:
    with serving() as wire:
        old, new = wire.server(b"old"), wire.server(b"new")
        old.close()
        old = wire.server(b"old", port=new.port)
        leaving = endpoint(old.address, ready=False, serving=True, terminating=True)
        address = wire.service("web")
        wire.endpoints("web", leaving, port=new.port)
        assert fetch(address, 80) == b"old"
        with connect(address, 80) as lasting:
            lasting.sendall(b"x")
            assert lasting.recv(3) == b"old"
            wire.endpoints("web", leaving, new)
            assert {fetch(address, 80) for _ in range(8)} == {b"new"}
            wire.endpoints("web", new)
            lasting.sendall(b"still here")
            assert lasting.recv(100) == b"still here"


def test_the_end_of_one_direction_leaves_the_other_open() -> None:
    def count(sock: socket.socket) -> None:
        received = b""
        while data := sock.recv(65536):
            received += data
        sock.sendall(b"%d bytes" % len(received))

    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(count))
        with connect(address, 80) as sock:
            sock.sendall(b"x" * 100_000)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b"100000 bytes"
            assert sock.recv(100) == b""


def test_a_server_that_ends_first_can_still_be_written_to() -> None:
    got: list[bytes] = []
    done = threading.Event()

    def end_first(sock: socket.socket) -> None:
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            got.append(data)
        done.set()

    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(end_first))
        with connect(address, 80) as sock:
            assert sock.recv(100) == b"bye"
            assert sock.recv(100) == b""
            sock.sendall(b"more")
        assert done.wait(10)
        assert b"".join(got) == b"more"


def test_a_reset_is_passed_on_both_ways() -> None:
    seen: list[str] = []
    told = threading.Event()

    def see(sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1)
            sock.sendall(b"x")
            sock.recv(1)
            told.set()
            return
        seen.append("reset")
        told.set()

    def break_off(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    with serving() as wire:
        first, second = wire.service("web"), wire.service("broken")
        wire.endpoints("web", wire.server(see))
        wire.endpoints("broken", wire.server(break_off))
        with connect(first, 80) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert told.wait(10)
        assert seen == ["reset"]
        with connect(second, 80) as sock:
            sock.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_what_a_server_says_before_it_hangs_up_reaches_a_client_that_still_sends() -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(10)
        sock.sendall(b"too large")
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                pass

    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(refuse))
        with connect(address, 80) as sock:
            sock.sendall(b"x" * 1000)
            assert sock.recv(100) == b"too large"


def test_a_receiver_that_does_not_read_stops_its_sender_and_memory_stays_small() -> None:
    sent = [0]

    def flood(sock: socket.socket) -> None:
        chunk = bytes(1 << 20)
        while True:
            sent[0] += sock.send(chunk)

    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(flood))
        with connect(address, 80):

            def stopped() -> bool:
                before = sent[0]
                time.sleep(0.2)
                return 0 < sent[0] == before

            wait_until(stopped, "the sender is not stopped")
            assert sent[0] < 64 << 20  # what the kernel's buffers take


@pytest.mark.slow
def test_a_gibibyte_passes_unchanged_and_in_bounded_memory() -> None:
    size, piece = 1 << 30, b"".join(struct.pack("I", n) for n in range(1 << 18))
    expected = hashlib.blake2b()
    for _ in range(size // len(piece)):
        expected.update(piece)

    def send(sock: socket.socket) -> None:
        for _ in range(size // len(piece)):
            sock.sendall(piece)

    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(send))
        with connect(address, 80) as sock:
            found, received = hashlib.blake2b(), 0
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            while data := sock.recv(1 << 18):
                found.update(data)
                received += len(data)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert received == size
        assert found.digest() == expected.digest()
        assert after - before < 32 << 10  # KiB


def test_a_client_address_keeps_its_endpoint() -> None:
    with serving() as wire:
        first = wire.server(b"one")
        others = [wire.server(word, port=first.port) for word in (b"two", b"three")]
        address = wire.service("web", sessionAffinity="ClientIP")
        wire.endpoints("web", first, *others)
        found = fetch(address, 80, "127.0.0.1")
        assert {fetch(address, 80, "127.0.0.1") for _ in range(9)} == {found}
        assert len({fetch(address, 80, f"127.0.1.{n}") for n in range(1, 40)}) == 3


def test_affinity_ends_with_its_seconds() -> None:
    with serving() as wire:
        first = wire.server(b"one")
        address = wire.service(
            "web", sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}}
        )
        wire.endpoints("web", first, wire.server(b"two", port=first.port))
        found = fetch(address, 80)

        def other() -> bool:
            time.sleep(1.1)
            return fetch(address, 80) != found

        wait_until(other, "the client stays with its endpoint for ever")


def test_policies_that_say_local_leave_only_this_nodes_endpoints() -> None:
    node_port = free_port()
    with serving() as wire:
        here = wire.server(b"here")
        there = endpoint(wire.server(b"there", port=here.port).address, node="another")
        port = {"port": 80, "protocol": "TCP", "nodePort": node_port}
        address = wire.service("web", "", port, type="NodePort", externalTrafficPolicy="Local")
        wire.endpoints("web", here, there)
        assert {fetch("127.0.0.1", node_port) for _ in range(8)} == {b"here"}
        assert {fetch(address, 80) for _ in range(8)} == {b"here", b"there"}
        wire.service("web", address, port, type="NodePort", internalTrafficPolicy="Local")
        assert {fetch("127.0.0.1", node_port) for _ in range(8)} == {b"here", b"there"}
        assert {fetch(address, 80) for _ in range(8)} == {b"here"}
        wire.endpoints("web", there, port=here.port)
        assert fetch(address, 80) == b""


def test_source_ranges_guard_the_load_balancers_address_alone() -> None:
    balanced = service_address()
    with serving() as wire:
        address = wire.service(
            "web",
            type="LoadBalancer",
            loadBalancerSourceRanges=["127.0.3.0/24"],
            status={"loadBalancer": {"ingress": [{"ip": balanced}]}},
        )
        wire.endpoints("web", wire.server(b"one"))
        assert fetch(balanced, 80, "127.0.3.7") == b"one"
        assert fetch(balanced, 80, "127.0.0.1") == b""
        assert fetch(address, 80, "127.0.0.1") == b"one"


def test_a_range_that_is_none_admits_nobody() -> None:
    admits = source_filter(("nonsense", "192.0.2.0/24"))
    assert admits is not None
    assert [admits(address) for address in ("192.0.2.9", "198.51.100.1", "2001:db8::1")] == [True, False, False]
    assert source_filter(()) is None


def test_addresses_that_must_not_be_dialled_are_not_even_as_endpoints() -> None:
    with serving() as wire:
        secret = wire.server(b"secret", address="127.0.0.1")
        address = wire.service("web")
        wire.endpoints("web", secret)
        assert fetch(address, 80) == b""
        assert secret.peers == []


def test_an_endpoint_that_leads_back_here_is_not_dialled() -> None:
    with serving(cluster_cidrs=("127.0.0.0/8",)) as wire:
        address = wire.service("web")
        other = wire.service("other")
        wire.endpoints("web", endpoint(other), port=80)
        wire.endpoints("other", endpoint(address), port=80)
        assert fetch(address, 80) == b""
        assert fetch(other, 80) == b""


def test_a_service_that_goes_takes_its_listener_with_it_and_no_connection() -> None:
    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(b"one"))
        with connect(address, 80) as sock:
            sock.sendall(b"x")
            assert sock.recv(3) == b"one"
            wire.apply("services", {"metadata": {"namespace": "ns", "name": "web"}}, "DELETED")
            wait_until(lambda: not accepts(address, 80), "still listening")
            sock.sendall(b"more")
            assert sock.recv(4) == b"more"


def test_connections_over_the_bounds_are_reset() -> None:
    with serving(Limits(service_connections=3, service_connections_per_port=2)) as wire:
        first, second = wire.service("web"), wire.service("other")
        for name in ("web", "other"):
            wire.endpoints(name, wire.server(b"one"))
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connect(first, 80)) for _ in range(2)]
            for sock in held:
                sock.sendall(b"x")
                assert sock.recv(3) == b"one"
            assert fetch(first, 80) == b""
            with connect(second, 80) as third:
                third.sendall(b"x")
                assert third.recv(3) == b"one"
                assert fetch(second, 80) == b""
            held[0].close()
            wait_until(lambda: fetch(first, 80) == b"one", "the place is not free again")


def test_connections_that_rest_too_long_are_ended() -> None:
    with serving(Limits(service_idle_timeout=1)) as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(b"one"))
        with connect(address, 80, seconds=30) as sock:
            sock.sendall(b"x")
            assert sock.recv(3) == b"one"
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_a_stop_lets_what_is_under_way_end_and_does_not_wait_for_what_rests() -> None:
    with serving() as wire:
        address = wire.service("web")
        wire.endpoints("web", wire.server(b"one"))
        with connect(address, 80) as sock:
            sock.sendall(b"x")
            assert sock.recv(3) == b"one"
            begun = time.monotonic()
            wire.stop()
            assert time.monotonic() - begun < 4
            assert sock.recv(1) == b""
        assert not accepts(address, 80)


def test_a_rolling_update_loses_no_connection() -> None:
    """As a rollout goes: a new pod, then an old one terminates, serves what it has and goes, once for each."""
    failed: list[bytes] = []
    count = [0]
    done = threading.Event()
    with serving() as wire:
        old = [wire.server(b"old")]
        port = old[0].port
        old += [wire.server(b"old", port=port) for _ in range(2)]
        address = wire.service("web")
        wire.endpoints("web", *old)

        def use() -> None:
            while not done.is_set():
                found = fetch(address, 80)
                count[0] += 1
                if found not in (b"old", b"new"):
                    failed.append(found)

        users = [threading.Thread(target=use) for _ in range(4)]
        for user in users:
            user.start()
        new: list[object] = []
        for gone in old:
            new.append(wire.server(b"new", port=port))
            staying = [*old[old.index(gone) + 1 :], *new]
            leaving = endpoint(gone.address, ready=False, serving=True, terminating=True)
            before = count[0]
            wire.endpoints("web", *staying, leaving, port=port)  # type: ignore[arg-type]
            wait_until(lambda seen=before: count[0] > seen + 20, "nobody comes")
            gone.close()
            wire.endpoints("web", *staying, port=port)  # type: ignore[arg-type]
        wait_until(lambda: fetch(address, 80) == b"new", "the new ones are not used")
        done.set()
        for user in users:
            user.join(20)
    assert failed == []


def test_a_health_check_port_tells_how_many_endpoints_are_here() -> None:
    number = free_port()
    with serving() as wire:
        web = wire.server(b"one")
        wire.service("web", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=number)
        wire.endpoints("web", web, endpoint(pod_address(), node="elsewhere"), endpoint(pod_address(), ready=False))
        wait_until(lambda: accepts("127.0.0.1", number), "nobody listens")
        status, head, body = health(number)
        assert (status, head["content-type"]) == (200, "application/json")
        assert head["x-load-balancing-endpoint-weight"] == "1"
        service = {"namespace": "ns", "name": "web"}
        assert body == {"service": service, "localEndpoints": 1, "serviceProxyHealthy": True}
        wire.endpoints("web", endpoint(pod_address(), node="elsewhere"), port=web.port)
        status, _, body = health(number)
        assert (status, body["localEndpoints"]) == (503, 0)


def test_clients_that_only_hold_on_do_not_keep_a_health_check_port_busy() -> None:
    number = free_port()
    with serving() as wire, contextlib.ExitStack() as stack:
        wire.service("web", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=number)
        wait_until(lambda: accepts("127.0.0.1", number), "nobody listens")
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", number), 3)) for _ in range(200)]
        status, _, _ = health(number)
        assert status == 503
        assert held[0].recv(1) == b""  # well before its time is up


def test_a_health_check_port_waits_when_there_are_no_descriptors() -> None:
    class Exhausted(socket.socket):
        tries = 0

        def accept(self) -> tuple[socket.socket, Any]:
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")

    async def script() -> None:
        with Exhausted() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            listener = HealthListener(sock, lambda: b"", asyncio.get_running_loop())
            with socket.create_connection(sock.getsockname()):
                async with asyncio.timeout(10):
                    while not sock.tries:
                        await asyncio.sleep(0)
                for _ in range(100):
                    await asyncio.sleep(0)
            assert sock.tries == 1
            listener.close()

    asyncio.run(script())


def health(port: int) -> tuple[int, dict[str, str], dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        head = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, head, json.loads(answer.read())


def test_an_endpoint_that_does_not_answer_is_given_up_for_another() -> None:
    with serving(Limits(connect_timeout=1)) as wire, contextlib.ExitStack() as stack:
        web = wire.server(b"one")
        silent = stack.enter_context(socket.create_server((pod_address(), web.port), backlog=0))
        # Nobody accepts: this one fills the queue, and the kernel drops what comes after it.
        stack.enter_context(socket.create_connection(silent.getsockname(), 5))
        address = wire.service("web")
        wire.endpoints("web", endpoint(silent.getsockname()[0]), port=web.port)
        with connect(address, 80) as sock:
            wire.endpoints("web", web)
            sock.sendall(b"x")
            assert sock.recv(3) == b"one"


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 400_000), max_size=6),
    st.lists(st.integers(1, 400_000), max_size=6),
    st.booleans(),
    st.integers(1, 200_000),
)
def test_what_goes_in_comes_out_both_ways_however_slowly_it_is_read(
    up: list[int], down: list[int], server_reads: bool, piece: int
) -> None:
    """Both sides send pieces of these sizes and end; the server reads at once, or after it has said all."""
    sent_up, sent_down = (b"".join(bytes([n % 251]) * size for n, size in enumerate(sizes)) for sizes in (up, down))
    got: list[bytes] = []
    done = threading.Event()

    def speak(sock: socket.socket) -> None:
        writer = threading.Thread(target=say, args=(sock, sent_down, down))
        writer.start()
        if not server_reads:
            writer.join()
        got.append(hear(sock, piece))
        writer.join()
        done.set()

    with serving() as wire, contextlib.ExitStack() as stack:
        address = wire.service("web")
        wire.endpoints("web", wire.server(speak))
        sock = stack.enter_context(connect(address, 80))
        writer = threading.Thread(target=say, args=(sock, sent_up, up))
        writer.start()
        assert hear(sock, piece) == sent_down
        writer.join()
        assert done.wait(20)
    assert got == [sent_up]


def say(sock: socket.socket, content: bytes, sizes: list[int]) -> None:
    place = 0
    for size in sizes:
        sock.sendall(content[place : place + size])
        place += size
    sock.shutdown(socket.SHUT_WR)


def hear(sock: socket.socket, piece: int) -> bytes:
    found = bytearray()
    while data := sock.recv(piece):
        found += data
    return bytes(found)
