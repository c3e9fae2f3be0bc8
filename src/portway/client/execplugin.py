"""Credential plugins: what they are told and what they answer, by client.authentication.k8s.io v1 and v1beta1.

Pure; `execcredentials` runs them. Messages are those of client-go's plugin/pkg/client/auth/exec, without what a plugin
printed: that may be a credential.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import yaml

from portway.client.credentials import CredentialError
from portway.kube.quoting import quote

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
"""v1alpha1 is gone from kubectl since 1.24."""
NEVER, IF_AVAILABLE, ALWAYS = MODES = ("Never", "IfAvailable", "Always")


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A user's `exec` entry, checked."""

    api_version: str
    command: str
    """A name for PATH, or a path."""
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    interactive_mode: str = IF_AVAILABLE
    install_hint: str = ""
    cluster: str = ""
    """JSON of `spec.cluster` for plugins that are told the cluster; "" for others."""

    def not_found(self) -> str:
        """What is said when there is no such program: kubectl's words and the hint, in a line."""
        hint = " ".join(self.install_hint.split())
        return f"exec: executable {self.command} not found" + (f" ({hint})" if hint else "")


@dataclass(frozen=True, slots=True)
class ExecStatus:
    """What a plugin answered: a token, a certificate with its key (PEM), or both; until when (unix seconds)."""

    token: str = field(repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    expires: float | None = None


def is_interactive(plugin: ExecPlugin, terminal: bool) -> bool:
    """Whether the plugin gets standard input; `terminal` says whether that is one. Raises CredentialError."""
    if plugin.interactive_mode == ALWAYS and not terminal:
        raise CredentialError("exec plugin cannot support interactive mode: standard input is not a terminal")
    return plugin.interactive_mode != NEVER and terminal


def exec_info(plugin: ExecPlugin, interactive: bool) -> str:
    """KUBERNETES_EXEC_INFO: one ExecCredential as JSON."""
    spec: dict[str, Any] = {"cluster": orjson.Fragment(plugin.cluster)} if plugin.cluster else {}
    spec["interactive"] = interactive
    return orjson.dumps({"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}).decode()


def decoded(plugin: ExecPlugin, stdout: bytes) -> ExecStatus:
    """The credential in a plugin's output. Raises CredentialError."""
    document = _document(stdout)
    version, kind = document.get("apiVersion") or "", document.get("kind") or ""
    if not isinstance(version, str) or not isinstance(kind, str):
        raise CredentialError("decoding stdout: couldn't get version/kind; json parse error: they are not strings")
    if kind != "ExecCredential":
        raise CredentialError(
            f"decoding stdout: no kind {quote(kind[:64])} is registered for version {quote(version[:64])}"
        )
    if version != plugin.api_version:
        raise CredentialError(
            f"exec plugin is configured to use API version {plugin.api_version}, plugin returned version "
            + quote(version[:64])[1:-1]
        )
    status = document.get("status")
    if status is None:
        raise CredentialError("exec plugin didn't return a status field")
    if not isinstance(status, dict):
        raise CredentialError("decoding stdout: status is not an object")
    token, certificate, key = (_text(status, name) for name in ("token", "clientCertificateData", "clientKeyData"))
    if not (token or certificate or key):
        raise CredentialError("exec plugin didn't return a token or cert/key pair")
    if bool(certificate) != bool(key):
        raise CredentialError("exec plugin returned only certificate or key, not both")
    return ExecStatus(token, certificate, key, _time(status))


def _document(stdout: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(stdout)
    except orjson.JSONDecodeError:
        document = _yaml(stdout)
    if not isinstance(document, dict):
        raise CredentialError("decoding stdout: couldn't get version/kind; json parse error: not an object")
    return document


def _yaml(stdout: bytes) -> Any:
    """kubectl's decoder takes YAML too. Scalars stay text, as an unquoted time would otherwise lose its form."""
    try:
        return yaml.load(stdout.decode("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 (builds str, list and dict only)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise CredentialError(
            "decoding stdout: couldn't get version/kind; json parse error: neither JSON nor YAML"
        ) from None


def _text(status: dict[str, Any], name: str) -> str:
    value = status.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CredentialError(f"decoding stdout: status.{name} is not of type string")
    return value


def _time(status: dict[str, Any]) -> float | None:
    text = _text(status, "expirationTimestamp")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or "T" not in text.upper():
            raise ValueError("no RFC 3339 time")
        # Go's zero time stands for "never".
        return None if moment.year == 1 else moment.timestamp()
    except (ValueError, OverflowError):
        raise CredentialError(f"decoding stdout: parsing time {quote(text[:64])} as RFC 3339") from None
