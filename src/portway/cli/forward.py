"""`portway forward`: local ports to services, workloads and pods that survive what happens to them."""

import asyncio
import json
import logging
import signal
import sys
import webbrowser
from typing import Any

import click
import uvloop

from portway.cli import cluster
from portway.cli.cluster import Connection
from portway.cli.errors import CliError
from portway.cli.traffic import Screen
from portway.client.forwards import words
from portway.client.forwards.events import Event, Teller
from portway.client.forwards.forwards import Forward, Forwards
from portway.client.forwards.ports import Hopeless
from portway.client.forwards.words import SELECTOR, WordError
from portway.kube.labelgrammar import SelectorError

_TLS = ("443", "8443", "6443", "https")


class _Ordered(click.Command):
    """Makes -l a word among the others: it is a target, and the ports behind it are its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest, words_of_ours = iter(args), list[str]()
        for one in rest:
            option, equals, value = one.partition("=")
            if option in ("-l", "--selector") and not equals:
                value = next(rest, "")
            elif one.startswith("-l") and len(one) > 2 and option != "--selector":
                value = one[2:].removeprefix("=")
            elif option != "--selector":
                words_of_ours.append(one)
                continue
            if not value:
                raise click.UsageError("option -l needs a label selector, as in -l app=web", ctx)
            words_of_ours.append(f"{SELECTOR}/{value}")
        return super().parse_args(ctx, words_of_ours)


@click.command("forward", cls=_Ordered)
@click.argument("targets", nargs=-1, metavar="TYPE/NAME [LOCAL:]REMOTE... [TYPE/NAME ...]")
@click.option(
    "-l", "--selector", "_selector", metavar="LABELS", help="pods with these labels, as a target", expose_value=False
)
@click.option(
    "--address",
    multiple=True,
    default=("localhost",),
    show_default=True,
    metavar="IP,...",
    help="addresses to listen on",
)
@click.option(
    "--pod-running-timeout",
    default="1m0s",
    show_default=True,
    metavar="DURATION",
    help="how long to wait for a target's first pod",
)
@click.option("-o", "--output", "form", type=click.Choice(["json"]), help="one event a line, for scripts")
@click.option("--open", "browse", is_flag=True, help="open the first port in a browser")
@cluster.options
def command(
    targets: tuple[str, ...],
    address: tuple[str, ...],
    pod_running_timeout: str,
    form: str | None,
    browse: bool,
    **said: Any,
) -> int:
    """Forward local ports to services, deployments, pods and whatever else has pods, until Ctrl+C.

    As `kubectl port-forward`, for several targets at once, and it stays: each connection goes to a ready pod, the one
    with the fewest connections; pods may come and go, and so may the API server. Ports are numbers or names;
    LOCAL is the same number when it isn't given, and any free port when it is 0 or empty.

    \b
    Examples:
      portway forward svc/db 5432
      portway forward svc/db 5432 deploy/web 8080:http pod/x :80 -l app=web 9000:80
      portway forward svc/grafana :http --open
      portway forward svc/db :5432 -o json | jq -r 'select(.event == "listening").local'
    """
    context = click.get_current_context()
    try:
        wanted, listen = words.parse(targets), words.addresses(address)
        timeout = words.seconds(pod_running_timeout)
    except WordError as error:
        raise click.UsageError(str(error), context) from error
    # What goes wrong with watching shows where it matters, as events.
    logging.getLogger("portway.client.informer").setLevel(logging.ERROR)
    live = form is None and sys.stdout.isatty()
    told: Teller = _print_json if form else _print

    async def run(connection: Connection) -> int:
        screen = Screen(_print) if live else None
        forwards = Forwards(
            connection.client,
            connection.namespace,
            screen.tell if screen else told,
            addresses=listen,
            running_timeout=timeout,
        )
        try:
            return await _until_stopped(forwards, wanted, screen, browse)
        except (Hopeless, SelectorError) as error:
            raise CliError(str(error)) from error
        finally:
            await forwards.close()

    return cluster.connected(run, runner=uvloop.run, **said)


async def _until_stopped(
    forwards: Forwards, wanted: tuple[words.Wanted, ...], screen: Screen | None, browse: bool
) -> int:
    """Runs until Ctrl+C or SIGTERM, which are its only good ends."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopped = loop.create_task(stop.wait(), name="stop")
    work = loop.create_task(_work(forwards, wanted, screen, browse), name="forwards")
    try:
        await asyncio.wait((stopped, work), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        for task in (stopped, work):
            task.cancel()
        await asyncio.gather(stopped, work, return_exceptions=True)
    return 0


async def _work(forwards: Forwards, wanted: tuple[words.Wanted, ...], screen: Screen | None, browse: bool) -> None:
    await forwards.open(wanted)
    if browse:
        await asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url(forwards.all[0]))
    if screen is None:
        await forwards.run()
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(screen.run(forwards.all), name="screen")
        group.create_task(forwards.run(), name="following")


def url(forward: Forward) -> str:
    """What a browser opens."""
    scheme = "https" if forward.remote in _TLS or forward.port in _TLS else "http"
    return f"{scheme}://localhost:{forward.local}/"


def _print_json(event: Event) -> None:
    print(json.dumps(event.to_json(), ensure_ascii=False), flush=True)


def _print(event: Event) -> None:
    """kubectl's words on standard output; what it has no words for on standard error."""
    match event.event:
        case "listening":
            host = f"[{event.address}]" if ":" in event.address else event.address
            print(f"Forwarding from {host}:{event.local} -> {event.port or event.remote}", flush=True)
        case "connected":
            print(f"Handling connection for {event.local}", flush=True)
        case "failed":
            _complain(f"an error occurred forwarding {event.local} -> {event.remote}: {event.message}")
        case "waiting":
            _complain(f"{event.message}; waiting")
        case "ready":
            _complain(f"{event.target}: a pod is ready")
        case "trouble":
            _complain(f"{event.target}: {event.message}; trying again")


def _complain(message: str) -> None:
    print(f"portway: {message}", file=sys.stderr, flush=True)
