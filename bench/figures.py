"""What a run found: per door the rounds of each measure, for Portway the checks against its targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.load import Latency, Saturation

DIRECT = "no proxy"
PORTWAY = "Portway"
HAPROXY = "HAProxy"


@dataclass
class DoorFigures:
    """Rounds of one door, in the order they were measured; `note` says why there are none."""

    note: str = ""
    saturation: list[Saturation] = field(default_factory=list)
    tls_body: list[float] = field(default_factory=list)
    plain_body: list[float] = field(default_factory=list)
    tls_paced: list[Latency] = field(default_factory=list)
    plain_paced: list[Latency] = field(default_factory=list)

    @property
    def rate(self) -> float | None:
        """Requests a second at saturation, the median of the rounds; None without any, as all of these."""
        return _median(self.rates)

    @property
    def p50(self) -> float | None:
        return _median([round_.p50 for round_ in self.saturation])

    @property
    def p99(self) -> float | None:
        return _median([round_.p99 for round_ in self.saturation])

    @property
    def rates(self) -> list[float]:
        return [round_.rate for round_ in self.saturation]

    def bodies(self, *, tls: bool) -> list[float]:
        """GB/s of one big body, each round's."""
        return self.tls_body if tls else self.plain_body

    def body(self, *, tls: bool) -> float | None:
        """Their median."""
        return _median(self.bodies(tls=tls))

    def paced(self, *, tls: bool) -> Latency | None:
        """Latency at 1,000 req/s."""
        rounds = self.tls_paced if tls else self.plain_paced
        p50, p99 = _median([round_.p50 for round_ in rounds]), _median([round_.p99 for round_ in rounds])
        return None if p50 is None or p99 is None else Latency(p50, p99)


@dataclass(frozen=True)
class Check:
    """One target: what is measured, what must hold, what was found, and whether it holds (None: wasn't measured)."""

    what: str
    target: str
    found: str
    holds: bool | None


@dataclass
class Figures:
    """Everything a run found, doors in the order they are shown."""

    doors: dict[str, DoorFigures] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    load: float = 0.0
    """The machine's load average before anything was started."""


def ratio(ones: Sequence[float], others: Sequence[float]) -> float | None:
    """The median of the rounds' ratios: a machine that is slower for a while is slower for both in that round."""
    if len(ones) != len(others):  # a round was lost
        one, other = _median(ones), _median(others)
        return one / other if one and other else None
    return _median([one / other for one, other in zip(ones, others, strict=True) if other])


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def compare(figures: Figures) -> list[Check]:
    """The targets that the doors' figures decide; those without figures are left out."""
    portway, haproxy = (figures.doors.get(name, DoorFigures()) for name in (PORTWAY, HAPROXY))
    checks = []
    share = ratio(portway.rates, haproxy.rates)
    if share is not None:
        checks.append(Check("req/s, of HAProxy's", "≥ 0.6 (aim: 0.77)", f"{share:.2f}", share >= 0.6))
    for name, door in figures.doors.items():
        share = ratio(portway.rates, door.rates)
        if name not in (PORTWAY, HAPROXY, DIRECT, "nginx") and "kubectl" not in name and share is not None:
            checks.append(Check(f"req/s, of {name}'s", "> 1", f"{share:.2f}", share > 1))
    if portway.p99 is not None:
        checks.append(Check("p99 at saturation", "< 5 ms", f"{portway.p99:.1f} ms", portway.p99 < 5))
    for tls in (True, False):
        share = ratio(portway.bodies(tls=tls), haproxy.bodies(tls=tls))
        if share is not None:
            what = f"1 GiB body over {'TLS' if tls else 'plain HTTP'}, of HAProxy's speed"
            checks.append(Check(what, "≥ 0.95", f"{share:.2f}", share >= 0.95))
    return checks + _added_latency(portway, figures.doors.get(DIRECT, DoorFigures()))


def _added_latency(portway: DoorFigures, direct: DoorFigures) -> list[Check]:
    checks = []
    for tls in (True, False):
        with_it, without = portway.paced(tls=tls), direct.paced(tls=tls)
        if with_it and without:
            added = with_it.p50 - without.p50
            what = f"p50 added at 1,000 req/s, both over {'TLS' if tls else 'plain HTTP'}"
            checks.append(Check(what, "< 0.25 ms", f"{added:.2f} ms", added < 0.25))
    return checks
