"""The paths outside the resources: /version, /livez, /readyz, /healthz and the list of paths at /.

Source: k8s.io/apiserver/pkg/server/healthz and server/routes. The API's own documents are `discovery` and `openapi`.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Mapping

import orjson

from portway.apiserver.http import Request, Response
from portway.apiserver.server import Server
from portway.kube.query import query_parameters

TEXT = "text/plain; charset=utf-8"
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
_VERSION = re.compile(r"v(\d+)\.(\d+)\.")

Check = Callable[[Server], bool]

CHECKS: Mapping[str, Check] = {
    "ping": lambda _: True,
    "store": lambda server: server.cache.alive and server.store.failure() is None,
    "poststarthook/bootstrap": lambda server: server.ready,
    "shutdown": lambda server: not server.stopping,
}
"""What readiness asks, by name."""
PROBES: Mapping[str, tuple[str, ...]] = {
    "healthz": ("ping", "store", "poststarthook/bootstrap"),
    "livez": ("ping", "store"),
    "readyz": tuple(CHECKS),
}


def version(server: Server) -> Response:
    """Answers /version; the numbers are those of the Kubernetes API that is spoken."""
    match = _VERSION.match(server.config.git_version)
    major, minor = match.groups() if match else ("", "")
    value = {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1) if minor else "",
        "gitVersion": server.config.git_version,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"{sys.platform}/{platform.machine()}",
    }
    return Response(200, orjson.dumps(value, option=orjson.OPT_INDENT_2))


def probe(server: Server, path: str, request: Request) -> Response | None:
    """Answers a probe or one check of it ("/livez/ping"); None when there is no such path."""
    name, _, single = path.strip("/").partition("/")
    if name not in PROBES:
        return None
    if single:
        if single not in PROBES[name]:
            return None
        fine = CHECKS[single](server)
        return _text(200, "ok") if fine else _text(500, "internal server error: reason withheld\n")
    excluded = set(query_parameters(request.query).get("exclude", []))
    results = [(check, check in excluded or CHECKS[check](server)) for check in PROBES[name]]
    lines = [
        f"[{'+' if fine else '-'}]{check} {'ok' if fine else 'failed: reason withheld'}" for check, fine in results
    ]
    if not all(fine for _, fine in results):
        return _text(500, "\n".join([*lines, f"{name} check failed", ""]))
    if "verbose" in request.params:
        return _text(200, "\n".join([*lines, f"{name} check passed", ""]))
    return _text(200, "ok")


def paths(status: int, group_versions: list[tuple[str, str]], more: list[str]) -> Response:
    """Answers with the list of paths, `more` among them: at / it is the answer, elsewhere it comes with 404.

    As upstream.
    """
    found = ["/api", "/apis", "/openapi/v2", "/openapi/v3", "/version", *more]
    found += [f"/apis/{group}/{version}" if group else f"/api/{version}" for group, version in group_versions]
    found += [f"/apis/{group}" for group, _ in group_versions if group]
    for name, checks in PROBES.items():
        found += [f"/{name}", *(f"/{name}/{check}" for check in checks)]
    value = {"paths": sorted(set(found))}
    return Response(status, orjson.dumps(value, option=orjson.OPT_INDENT_2))


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode(), TEXT, [_NO_SNIFF])
