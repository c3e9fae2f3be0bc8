"""`portway forward`: its command line, and what a terminal shows of it."""

import io
from typing import Any

import pytest

from portway.cli import run
from portway.cli.forward import command, url
from portway.cli.traffic import Screen, lines, size
from portway.client.forwards.events import Event


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["svc/db", "80", "-l", "app=web", "90:80"], ("svc/db", "80", "selector/app=web", "90:80")),
        (["-lapp=web", "80", "--selector=a,b", ":81"], ("selector/app=web", "80", "selector/a,b", ":81")),
        (["--selector", "x", "80", "-n", "ns"], ("selector/x", "80")),
    ],
)
def test_a_selector_is_a_word_among_the_others(arguments: list[str], expected: tuple[str, ...]) -> None:
    context = command.make_context("forward", arguments)
    assert context.params["targets"] == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "list of ports are required"),
        (["svc/db"], "at least 1 PORT is required"),
        (["svc/db", "53/udp"], "port 53 is UDP, which cannot be forwarded: port-forward carries TCP only"),
        (["svc/db", "80", "-l"], "needs a label selector"),
        (["svc/db", "80", "--pod-running-timeout=soon"], "not a duration"),
        (["svc/db", "80", "--address="], "names no address"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["forward", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("portway: ")
    assert words in said
    assert said.count("\n") == 1


class Numbers:
    """A forward as the screen sees it."""

    def __init__(self, **changes: Any) -> None:
        self.label, self.local, self.port, self.remote = "svc/db", 5432, "5432", "5432"
        self.active: set[int] = {1, 2}
        self.connections, self.traffic, self.pods, self.waiting = 7, (1234, 5_600_000), 2, ""
        self.__dict__.update(changes)


def test_the_state_of_forwards() -> None:
    listed: Any = [Numbers(), Numbers(label="deploy/web", local=80, pods=1, waiting="no pod of deploy/web runs")]
    assert lines(listed) == [
        "svc/db      5432 -> 5432  2 open, 7 in all  sent 1.2 kB, received 5.6 MB  2 pods",
        "deploy/web  80 -> 5432    2 open, 7 in all  sent 1.2 kB, received 5.6 MB  no pod of deploy/web runs",
    ]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (12_345, "12 kB"),
        (999_600, "1.0 MB"),
        (10**15, "1000 TB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert size(count) == expected


def test_an_event_is_printed_above_the_state() -> None:
    out = io.StringIO()
    screen = Screen(lambda event: print(event.message, file=out), out)
    listed: Any = [Numbers()]
    screen._forwards = listed
    screen.tell(Event("waiting", "svc/db", "80", message="no pod"))
    screen.tell(Event("connected", "svc/db", "80"))
    screen.tell(Event("ready", "svc/db", "80", message="a pod"))
    first, second = out.getvalue().split("\x1b[1A\r\x1b[J")
    assert first.startswith("no pod\nsvc/db ")
    assert second.startswith("a pod\nsvc/db ")


@pytest.mark.parametrize(
    ("remote", "port", "scheme"), [("80", "8080", "http"), ("https", "8443", "https"), ("443", "10443", "https")]
)
def test_what_a_browser_opens(remote: str, port: str, scheme: str) -> None:
    forward: Any = Numbers(remote=remote, port=port, local=9000)
    assert url(forward) == f"{scheme}://localhost:9000/"
