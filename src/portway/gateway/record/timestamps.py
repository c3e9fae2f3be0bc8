"""RFC 3339 with microseconds in UTC, as audit events want it; the text of a second is made once."""

from time import gmtime, strftime

_KEPT = 1024


class Seconds(dict[int, str]):
    """`2026-01-02T15:04:05.` by unix second. Index it; it fills itself and forgets now and then."""

    def __missing__(self, second: int) -> str:
        if len(self) >= _KEPT:
            self.clear()
        text = self[second] = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
        return text


def timestamp(seconds: Seconds, moment: float) -> str:
    """`2026-01-02T15:04:05.000006Z` for a unix time."""
    second = int(moment)
    return f"{seconds[second]}{int((moment - second) * 1000000):06d}Z"
