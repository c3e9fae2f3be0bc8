"""The grammar of a forward's command line, kubectl's table and ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.client.forwards.words import PortPair, Wanted, WordError, addresses, parse, port, seconds


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("5000", PortPair(None, "5000")),
        ("8888:5000", PortPair(8888, "5000")),
        (":5000", PortPair(0, "5000")),
        ("0:5000", PortPair(0, "5000")),
        ("http", PortPair(None, "http")),
        ("8080:http", PortPair(8080, "http")),
        (":http", PortPair(0, "http")),
        ("53/tcp", PortPair(None, "53")),
        ("8053:dns/TCP", PortPair(8053, "dns")),
    ],
)
def test_ports(word: str, expected: PortPair) -> None:
    assert port(word) == expected


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("0", "invalid port format"),
        ("0:0", "invalid port format"),
        ("-1", "invalid port format"),
        ("65536", "invalid port format"),
        ("65536:80", "local port"),
        ("a:5000", "local port"),
        ("5000:a b", "invalid port format"),
        ("1:2:3", "invalid port format"),
        (":", "invalid port format"),
        ("", "invalid port format"),
        ("-x-", "invalid port format"),
        ("53/udp", "port 53 is UDP, which cannot be forwarded"),
        (":dns/UDP", "TCP only"),
        ("9/sctp", "port 9 is SCTP"),
    ],
)
def test_what_is_no_port(word: str, words: str) -> None:
    with pytest.raises(WordError, match=words):
        port(word)


def test_several_targets_with_their_ports() -> None:
    line = "svc/db 5432 deploy/web 8080:http pod/x :80 selector/app=web,tier 9000:80 9001:81"
    assert parse(line.split()) == (
        Wanted("services", "db", (PortPair(None, "5432"),), "svc/db"),
        Wanted("deployments", "web", (PortPair(8080, "http"),), "deploy/web"),
        Wanted("pods", "x", (PortPair(0, "80"),), "pod/x"),
        Wanted("selector", "app=web,tier", (PortPair(9000, "80"), PortPair(9001, "81")), "app=web,tier"),
    )


def test_the_first_word_is_a_pod_and_later_ones_are_its_ports() -> None:
    ports = (PortPair(None, "http"), PortPair(None, "81"))
    assert parse(["web", "http", "81"]) == (Wanted("pods", "web", ports, "pod/web"),)


def test_a_selector_may_hold_slashes() -> None:
    (wanted,) = parse(["selector/app.kubernetes.io/name=web", "80"])
    assert wanted.name == "app.kubernetes.io/name=web"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "list of ports are required"),
        ("svc/db", "at least 1 PORT is required for svc/db"),
        ("svc/db 80 pod/x", "at least 1 PORT is required for pod/x"),
        ("secret/x 80", 'the resource type "secret" cannot be forwarded to'),
        ("svc/ 80", "not TYPE/NAME"),
        ("svc/a/b 80", "not TYPE/NAME"),
        ("svc/dns 53/udp", "UDP"),
    ],
)
def test_lines_that_make_no_sense(line: str, words: str) -> None:
    with pytest.raises(WordError, match=words):
        parse(line.split())


@given(st.lists(st.text(max_size=12), max_size=5))
def test_any_words_are_parsed_or_refused_in_one_line(line: list[str]) -> None:
    try:
        wanted = parse(line)
    except WordError:
        return
    assert all(one.ports for one in wanted)


def test_addresses() -> None:
    assert addresses(("localhost",)) == (("127.0.0.1", False), ("::1", False))
    assert addresses(("localhost,127.0.0.1", "10.0.0.1")) == (("127.0.0.1", True), ("::1", False), ("10.0.0.1", True))
    with pytest.raises(WordError):
        addresses((",",))


@pytest.mark.parametrize(
    ("text", "expected"), [("1m0s", 60), ("90s", 90), ("1.5h", 5400), ("1h2m3s", 3723), ("10ms", 0.01)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "m", "1d", "1m 2s", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(WordError):
        seconds(text)
