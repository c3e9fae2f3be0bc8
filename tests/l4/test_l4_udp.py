"""UDP through the service proxy."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from portway.gateway.settings import Limits
from portway.kube.objects import Object
from portway.testing.cluster import free_port, wait_until
from portway.testing.services import Wire, endpoint, pod_address, service_address, serving

DNS = {"port": 53, "protocol": "UDP"}


@contextmanager
def echo(word: bytes, address: str = "", port: int = 0) -> Iterator[socket.socket]:
    """Answers each datagram with a word and what it was; its socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address or pod_address(), port))
        sock.settimeout(0.1)
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    data, client = sock.recvfrom(65536)
                    sock.sendto(word + data, client)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield sock
        finally:
            stop.set()
            thread.join(5)


def lead(wire: Wire, name: str, *endpoints: Object, port: int) -> None:
    ports = [{"name": "", "port": port, "protocol": "UDP"}]
    wire.endpoints(name, *endpoints, port=port, ports=ports)


def client() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0.3)
    return sock


def ask(sock: socket.socket, address: str, port: int, words: bytes = b"?") -> bytes:
    """An answer, asked for until it comes: datagrams may be lost."""
    answers: list[tuple[bytes, str]] = []

    def answered() -> bool:
        sock.sendto(words, (address, port))
        with contextlib.suppress(TimeoutError, ConnectionRefusedError):
            data, (origin, _) = sock.recvfrom(65536)
            answers.append((data, origin))
        return bool(answers)

    wait_until(answered, f"no answer from {address}:{port}", 10)
    data, origin = answers[0]
    assert origin == address
    return data


def test_datagrams_go_there_and_back_from_the_address_they_were_sent_to() -> None:
    with serving() as wire, echo(b"one:") as pod, client() as sock:
        address = wire.service("dns", "", DNS)
        lead(wire, "dns", endpoint(pod.getsockname()[0]), port=pod.getsockname()[1])
        assert ask(sock, address, 53) == b"one:?"
        assert ask(sock, address, 53, b"x" * 60_000) == b"one:" + b"x" * 60_000
        assert ask(sock, address, 53, b"") == b"one:"


def test_a_client_stays_with_one_endpoint_and_clients_spread() -> None:
    with serving() as wire, echo(b"one") as pod:
        port = pod.getsockname()[1]
        with echo(b"two", port=port) as other:
            address = wire.service("dns", "", DNS)
            lead(wire, "dns", *(endpoint(p.getsockname()[0]) for p in (pod, other)), port=port)
            seen = set()
            for _ in range(4):
                with client() as sock:
                    found = ask(sock, address, 53)
                    assert {ask(sock, address, 53) for _ in range(4)} == {found}
                    seen.add(found)
            assert seen == {b"one?", b"two?"}


def test_a_flow_moves_on_when_its_endpoint_terminates() -> None:
    with serving() as wire, echo(b"one") as pod, client() as sock:
        port = pod.getsockname()[1]
        with echo(b"two", port=port) as other:
            here, there = (endpoint(p.getsockname()[0]) for p in (pod, other))
            address = wire.service("dns", "", DNS)
            lead(wire, "dns", here, port=port)
            assert ask(sock, address, 53) == b"one?"
            here["conditions"] = {"ready": False, "serving": True, "terminating": True}
            lead(wire, "dns", here, there, port=port)
            wait_until(lambda: ask(sock, address, 53) == b"two?", "it stays")


def test_an_endpoint_that_refuses_is_replaced() -> None:
    with serving() as wire, echo(b"one") as pod, client() as sock:
        host, port = pod.getsockname()
        address = wire.service("dns", "", DNS)
        lead(wire, "dns", endpoint(pod_address()), endpoint(host), port=port)
        assert {ask(sock, address, 53) for _ in range(3)} == {b"one?"}


def test_flows_are_bounded_and_end_when_they_rest() -> None:
    with serving(Limits(service_udp_flows=1, service_udp_idle_timeout=1)) as wire, echo(b"one") as pod:
        host, port = pod.getsockname()
        address = wire.service("dns", "", DNS)
        lead(wire, "dns", endpoint(host), port=port)
        with client() as first, client() as second:
            assert ask(first, address, 53) == b"one?"
            second.sendto(b"!", (address, 53))
            with contextlib.suppress(TimeoutError):
                raise AssertionError(second.recv(100))
            assert ask(second, address, 53) == b"one?"  # once the first one's flow has ended


def test_source_ranges_hold_for_datagrams() -> None:
    balanced = service_address()
    with serving() as wire, echo(b"one") as pod, client() as friend, client() as stranger:
        host, port = pod.getsockname()
        friend.bind(("127.0.3.1", 0))
        status = {"loadBalancer": {"ingress": [{"ip": balanced}]}}
        more = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["127.0.3.0/24"], "status": status}
        wire.service("dns", "", DNS, **more)
        lead(wire, "dns", endpoint(host), port=port)
        assert ask(friend, balanced, 53) == b"one?"
        stranger.sendto(b"!", (balanced, 53))
        with contextlib.suppress(TimeoutError):
            raise AssertionError(stranger.recv(100))


def test_a_node_port_for_both_protocols() -> None:
    number = free_port()
    with serving() as wire, echo(b"one") as pod, client() as sock:
        host, port = pod.getsockname()
        web = wire.server(b"web", address=host, port=port)
        ports = [{"name": "", "port": web.port, "protocol": "TCP"}]
        wire.service(
            "both",
            "",
            {"port": 80, "protocol": "TCP", "nodePort": number},
            {"port": 80, "protocol": "UDP", "nodePort": number},
            type="NodePort",
        )
        wire.endpoints("both", web, ports=ports)
        assert ask(sock, "127.0.0.1", number) == b"one?"
        with socket.create_connection(("127.0.0.1", number), 10) as tcp:
            tcp.sendall(b"x")
            assert tcp.recv(3) == b"web"
