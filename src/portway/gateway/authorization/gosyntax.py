"""Values as Go's `%#v` prints them: one of upstream's messages is such a print, and clients see it."""

from collections.abc import Mapping, Sequence

from portway.kube.quoting import quote


def strings(values: Sequence[str]) -> str:
    """A []string; an empty one is nil here."""
    return "[]string" + ("{" + ", ".join(map(quote, values)) + "}" if values else "(nil)")


def default_info(uid: str, groups: Sequence[str], extra: Mapping[str, Sequence[str]]) -> str:
    """A *user.DefaultInfo without a name; maps print in the order of their keys."""
    pairs = ", ".join(f"{quote(key)}:{strings(extra[key])}" for key in sorted(extra))
    printed = "map[string][]string" + ("{" + pairs + "}" if extra else "(nil)")
    return f'&user.DefaultInfo{{Name:"", UID:{quote(uid)}, Groups:{strings(groups)}, Extra:{printed}}}'
