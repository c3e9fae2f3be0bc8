"""The table: on a terminal as in docs/benchmarks.md, Markdown."""

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import portway
from bench import programs
from bench.figures import HAPROXY, PORTWAY, DoorFigures, Figures, ratio
from bench.run import Options

_PROGRAMS = (
    programs.HAPROXY,
    programs.NGINX,
    programs.ENVOY,
    programs.TRAEFIK,
    programs.CADDY,
    programs.KUBECTL,
    programs.WRK,
    programs.ETCD,
)

_BUSY = 0.5


def render(figures: Figures, options: Options) -> str:
    """Everything found, as Markdown."""
    parts = []
    if any(door.rate or door.body(tls=False) or door.paced(tls=False) for door in figures.doors.values()):
        parts.append(_doors(figures))
    notes = [f"- {name}: {door.note}" for name, door in figures.doors.items() if door.note]
    if notes:
        parts.append("\n".join(["Not measured, or not to the end:", "", *notes]))
    if figures.checks:
        rows = [[check.what, check.target, check.found, _verdict(check.holds)] for check in figures.checks]
        parts.append(_table(["Portway", "target", "measured", ""], rows))
    parts.append(f"{options.rounds} rounds of {options.seconds:.0f} s in turns, medians; {machine()}; {versions()}.")
    if figures.load > _BUSY:
        parts.append(f"**The machine was busy (load average {figures.load:.1f}): not a result.**")
    return "\n\n".join(parts) + "\n"


def document(table: str) -> str:
    """docs/benchmarks.md."""
    today = datetime.datetime.now(datetime.UTC).date()
    return f"""# Benchmarks

Written by `python -m bench --write` on {today}. Run it on your machine: the ratios are what carries over.

Load generator, proxy and backend share the machine. 32 kept-alive connections, answers of about 100 bytes of JSON from
nginx, two worker processes or threads for every proxy. Requests at saturation come from wrk over TLS (kubectl proxy:
plain HTTP in front, TLS behind). Portway checks a token and RBAC, filters headers, writes an audit event and counts
each request; the others proxy and write no log; "auth_request" asks the backend each time, Envoy's filter remembers
the answer. The latency columns are of a client that sends 1,000 requests a second, each when it is due. Each figure is
the median of the rounds, each ratio the median of the rounds' ratios: what was measured within the same half minute is
compared.

The rows about lists, watchers, creates and start-up are of the embedded API server: at its own unix socket, as the door
asks it, or through the door with TLS, a token, RBAC and audit, as clients do. A watcher's latency is from sending a
write to its event. Creates and etcd's puts are of the same values, each acknowledged when it is synced, on one disk.
`python -m bench --only api` makes these alone.

{table}"""


def _doors(figures: Figures) -> str:
    haproxy = figures.doors.get(HAPROXY, DoorFigures())
    head = ["", "req/s", "of HAProxy", "p50 ms", "p99 ms", "1 GiB TLS, GB/s", "1 GiB plain, GB/s"]
    head += ["1,000/s TLS: p50, p99 ms", "plain: p50, p99 ms"]
    rows = []
    for name, door in figures.doors.items():
        rows.append(
            [
                f"**{name}**" if name == PORTWAY else name,
                _number(door.rate, ",.0f"),
                _number(ratio(door.rates, haproxy.rates), ".2f"),
                _number(door.p50, ".2f"),
                _number(door.p99, ".2f"),
                _number(door.body(tls=True), ".2f"),
                _number(door.body(tls=False), ".2f"),
                _latency(door, tls=True),
                _latency(door, tls=False),
            ]
        )
    return _table(head, rows)


def _latency(door: DoorFigures, *, tls: bool) -> str:
    paced = door.paced(tls=tls)
    return f"{paced.p50:.2f}, {paced.p99:.2f}" if paced else ""


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _verdict(holds: bool | None) -> str:
    return "" if holds is None else "pass" if holds else "**miss**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    columns = [column for column in range(len(head)) if head[column] == "" or any(row[column] for row in rows)]
    cells = [[row[column] for column in columns] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * max(3, width) for width in widths) + " |")
    return "\n".join(lines)


def machine() -> str:
    """Processor, cores, memory and kernel of this machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if "model name" in line), "?")
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {os.cpu_count()} cores, {gibibytes:.0f} GiB, Linux {platform.release().partition('-')[0]}"


def versions() -> str:
    """Of everything that took part."""
    told = [f"{program.name} {version}" for program in _PROGRAMS if (version := program.version())]
    return ", ".join([f"Portway {portway.__version__}", f"Python {platform.python_version()}", *told])
