"""What a door without a login lets through at all, by path, host and method: `kubectl proxy`'s filter.

Regular expressions, unanchored unless they say so; a rejected path or method always wins; a path and a host must be
accepted. An empty list matches nothing. Hosts of services (`hosts.py`) need no accepting: nobody else can have them.

A path is judged decoded, as it was written and as it is without "//", "." and "..": whoever stands before the API
server may tidy it up (kubectl proxy does). Both must be accepted, neither may be rejected.
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from portway.gateway.hosts import without_port
from portway.kube.errors import Forbidden

KEPT: Final = 4096
"""Requests whose answer is remembered; then all are forgotten."""
LONGEST: Final = 1024
"""Bytes of the longest request (method, host and target) that is remembered."""


@dataclass(frozen=True)
class FilterRules:
    """kubectl proxy's flags of the same names, split at their commas."""

    accept_paths: tuple[str, ...] = ("^.*",)
    reject_paths: tuple[str, ...] = ("^/api/.*/pods/.*/exec", "^/api/.*/pods/.*/attach")
    accept_hosts: tuple[str, ...] = ("^localhost$", r"^127\.0\.0\.1$", r"^\[::1\]$")
    reject_methods: tuple[str, ...] = ("^$",)
    static_prefix: str = ""
    """Paths that begin so are files, which no rule about paths and methods is for; "" = none."""


class Filter:
    """The rules, compiled. Raises re.error for one that isn't a regular expression."""

    def __init__(self, rules: FilterRules) -> None:
        self._accept_paths = _compiled(rules.accept_paths)
        self._reject_paths = _compiled(rules.reject_paths)
        # The defaults keep people from exec'ing by accident of the API; a service's "/pods/x/exec" is its own.
        usual = FilterRules().reject_paths
        self._reject_at_sites = _compiled([pattern for pattern in rules.reject_paths if pattern not in usual])
        self._accept_hosts = _compiled(rules.accept_hosts)
        self._reject_methods = _compiled(rules.reject_methods)
        self._static_prefix = rules.static_prefix
        self._known: dict[tuple[bytes, bytes, bytes], str] = {}

    def check(self, method: bytes, host: bytes, target: bytes, *, own_host: bool) -> None:
        """Forbidden, with the rule that says so, for a request that may not pass.

        `own_host`: it came to a service's own host name; the target is the same in the proxy verb's words.
        """
        key = (method, host, target)
        why = self._known.get(key)
        if why is None:
            why = self._why(method.decode("latin-1"), host.decode("latin-1"), target.decode("latin-1"), own_host)
            if len(method) + len(host) + len(target) <= LONGEST:
                if len(self._known) >= KEPT:
                    self._known.clear()
                self._known[key] = why
        if why:
            raise Forbidden(f"Forbidden: {why}")

    def _why(self, method: str, host: str, target: str, own_host: bool) -> str:
        written = target.partition("?")[0]
        paths = _readings(written)
        if self._static_prefix and all(p.startswith(self._static_prefix) for p in (written, *paths)):
            return self._why_host(host, own_host)
        rejected = self._reject_at_sites if own_host else self._reject_paths
        if any(_matches(rejected, path) for path in paths):
            return "this path is rejected (--reject-paths)"
        if _matches(self._reject_methods, method):
            return f"the method {method} is rejected (--reject-methods)"
        if not all(_matches(self._accept_paths, path) for path in paths):
            return "this path is not accepted (--accept-paths)"
        return self._why_host(host, own_host)

    def _why_host(self, host: str, own_host: bool) -> str:
        if own_host or _matches(self._accept_hosts, without_port(host)):
            return ""
        return f'the host "{without_port(host)}" is not accepted (--accept-hosts)'


def _compiled(patterns: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern) for pattern in patterns)


def _readings(written: str) -> tuple[str, ...]:
    """The path decoded, and what it is when somebody tidies it up. A line feed stands as another character, so that
    "." matches it and "$" doesn't stop before it.
    """
    path = unquote(written).replace("\n", "\0")
    if "//" not in path and "/." not in path:
        return (path,)
    tidy = posixpath.normpath("/" + path.lstrip("/"))
    return path, tidy + "/" if path.endswith("/") and tidy != "/" else tidy


def _matches(patterns: Sequence[re.Pattern[str]], text: str) -> bool:
    return any(pattern.search(text) for pattern in patterns)
