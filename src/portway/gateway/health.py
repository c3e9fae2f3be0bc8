"""What the door says of itself: /livez, /readyz, /healthz and /metrics.

Live means that this worker runs. Ready means that it knows the cluster and that the API answers; while the API is
away the door goes on proxying from what it knows, stays live, and says here that it is not ready for everything.
Format: kube-apiserver's healthz package.
"""

from collections.abc import Callable, Mapping
from time import time
from urllib.parse import parse_qs

from portway.client.view import ClusterView
from portway.gateway import answers
from portway.gateway.localanswers import Answer
from portway.gateway.record import CONTENT_TYPE, Recorder
from portway.kube.identity import User


class Health:
    """The door's own answers."""

    def __init__(
        self, view: ClusterView, recorder: Recorder, more: Mapping[str, Callable[[], str]] | None = None
    ) -> None:
        """`more`: further checks of readiness by name; each says "" or what is wrong."""
        self._view = view
        self._recorder = recorder
        checks: dict[str, Callable[[], str]] = {"ping": lambda: "", "view": self._synced, "api": self._api}
        checks |= more or {}
        self._checks = {"livez": {"ping": checks["ping"]}, "readyz": checks, "healthz": checks}

    def answer(self, path: str, query: str, *, page: bool, host: str, user: User) -> Answer | None:  # noqa: ARG002
        """(code, head without its empty line, body); None when the path is not one of these."""
        if path == "/metrics":
            body = self._recorder.render()
            return 200, answers.head(200, CONTENT_TYPE.encode(), len(body)), body
        parts = path.strip("/").split("/")
        checks = self._checks.get(parts[0])
        if checks is None or len(parts) > 2 or (len(parts) == 2 and parts[1] not in checks):
            return None
        asked = parse_qs(query, keep_blank_values=True)
        chosen = {parts[1]: checks[parts[1]]} if len(parts) == 2 else checks
        chosen = {name: check for name, check in chosen.items() if name not in asked.get("exclude", ())}
        return _report(parts[0], {name: check() for name, check in chosen.items()}, "verbose" in asked)

    def _synced(self) -> str:
        return "" if self._view.synced else "the cluster's objects are not all known yet"

    def _api(self) -> str:
        if self._view.connected:
            return ""
        silent = time() - self._view.last_contact if self._view.last_contact else 0.0
        return f"the API server has not answered for {silent:.0f} s; proxying goes on from what was known"


def _report(name: str, found: dict[str, str], verbose: bool) -> tuple[int, bytes, bytes]:
    failed = any(found.values())
    if not failed and not verbose:
        return 200, *answers.text(200, b"ok")
    lines = [f"[-]{check} failed: {why}" if why else f"[+]{check} ok" for check, why in found.items()]
    lines.append(f"{name} check {'failed' if failed else 'passed'}")
    code = 500 if failed else 200
    return code, *answers.text(code, "\n".join(lines).encode() + b"\n")
