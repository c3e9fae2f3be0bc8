"""`python -m bench`: measure, print the table, write it where asked. Exit code 1 when a target is missed."""

import argparse
import dataclasses
import os
import shutil
import signal
import sys
from pathlib import Path

from bench import report
from bench.process import BenchError
from bench.run import GROUPS, MEASURES, QUICK, Options, run

DOCUMENT = Path("docs/benchmarks.md")
ALONE = "PORTWAY_BENCH_ALONE"
_NUMBERS = ("rounds", "seconds", "services")


def _alone() -> None:
    """Root measures in a network namespace of its own, which ends with the run: nothing of it is on the machine's."""
    if os.geteuid() or ALONE in os.environ or not all(map(shutil.which, ("unshare", "ip"))):
        return
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-m", "bench"]
    os.execvpe(command[0], [*command, *sys.argv[1:]], {**os.environ, ALONE: "1"})


def _known() -> str:
    """The names that --only takes."""
    groups = (f"{name} ({', '.join(members)})" for name, members in GROUPS.items())
    return f"{' and '.join(groups)}"


def main() -> int:
    _alone()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Portway beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round, a small crowd: a look, not a result")
    parser.add_argument("--only", metavar="LIST", help=f"of {_known()}; separated by commas")
    parser.add_argument("--rounds", type=int, help="rounds of each measure")
    parser.add_argument("--seconds", type=float, help="seconds of each round")
    parser.add_argument("--services", type=int, help="services of the large cluster, of five endpoints each")
    parser.add_argument("--write", action="store_true", help=f"write the table to {DOCUMENT}")
    arguments = parser.parse_args()
    options = QUICK if arguments.quick else Options()
    given = {name: getattr(arguments, name) for name in _NUMBERS if getattr(arguments, name)}
    if arguments.only:
        given["measures"] = tuple(one for word in arguments.only.split(",") for one in GROUPS.get(word, (word,)))
        if unknown := set(given["measures"]) - set(MEASURES):
            parser.error(f"--only: unknown {', '.join(sorted(unknown))}; there are {_known()}")
    return _run(dataclasses.replace(options, **given), write=arguments.write)


def _run(options: Options, *, write: bool) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl+C does
    try:
        figures = run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    table = report.render(figures, options)
    print(table)
    if write:
        DOCUMENT.write_text(report.document(table))
    return int(any(check.holds is False for check in figures.checks))


if __name__ == "__main__":
    sys.exit(main())
