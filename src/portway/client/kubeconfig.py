"""kubeconfig files, read by kubectl's rules: which files, how they merge, what the chosen context means.

`load` finds and merges the files, `Kubeconfig.resolve` picks a context and makes a `ClusterConfig` (its TLS settings
are in `tls`). Nothing is written, and no program is run: users who log in by an exec plugin are refused by name.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from portway.client.api import ClusterConfig
from portway.client.tls import TlsError, client_context

NAMED = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""The lists of a kubeconfig: their key, and the key of an entry's content."""
FILES = {
    "clusters": ("certificate-authority",),
    "users": ("client-certificate", "client-key", "tokenFile"),
    "contexts": (),
}
"""Fields that name a file, relative to the kubeconfig that they stand in."""

Entry = dict[str, Any]


class KubeconfigError(Exception):
    """What is wrong with the configuration, in one line that names the file, context, cluster or user."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says instead of the file; "" and () mean that it says nothing. Named as kubectl's flags."""

    context: str = ""
    cluster: str = ""
    user: str = ""
    server: str = ""
    namespace: str = ""
    token: str = field(default="", repr=False)
    certificate_authority: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    as_user: str = ""
    as_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The merged content of the files."""

    current_context: str
    clusters: Mapping[str, Entry]
    users: Mapping[str, Entry] = field(repr=False)
    contexts: Mapping[str, Entry]
    sources: tuple[Path, ...] = ()
    """The files that were read."""

    def resolve(self, overrides: Overrides | None = None) -> ClusterConfig:
        """The cluster and user of the current context, or of what `overrides` says. Raises KubeconfigError."""
        said = overrides or Overrides()
        context = self._context(said)
        cluster = self._cluster(said.cluster or context.get("cluster") or "", said)
        user = self._user(said.user or context.get("user") or "")
        server = _server(said.server or cluster.get("server") or "", self.sources)
        token, token_file = said.token or user.get("token") or "", "" if said.token else user.get("tokenFile") or ""
        try:
            tls = client_context(**_trust(cluster, said), **_client_certificate(user)) if _is_https(server) else None
        except (TlsError, ValueError) as error:
            raise KubeconfigError(f"{server}: {error}") from error
        return ClusterConfig(
            server,
            tls=tls,
            server_name=said.tls_server_name or cluster.get("tls-server-name") or None,
            headers=(*_basic(user, bool(token or token_file)), *_impersonation(user, said)),
            token=token,
            token_file=token_file,
            namespace=said.namespace or context.get("namespace") or "default",
        )

    def _context(self, said: Overrides) -> Entry:
        name = said.context or self.current_context
        if not name:
            return {}
        if name not in self.contexts:
            # A named context must exist; a stale current-context too, as in kubectl.
            raise KubeconfigError(f'context "{name}" does not exist')
        return self.contexts[name]

    def _cluster(self, name: str, said: Overrides) -> Entry:
        if not name:
            return {}
        if name not in self.clusters:
            if said.server and not said.cluster:
                return {}
            raise KubeconfigError(f'cluster "{name}" does not exist')
        if self.clusters[name].get("proxy-url"):
            raise KubeconfigError(f'cluster "{name}" is reached through a proxy (proxy-url), which is not supported')
        return self.clusters[name]

    def _user(self, name: str) -> Entry:
        if not name:
            return {}
        if name not in self.users:
            raise KubeconfigError(f'user "{name}" does not exist')
        user = self.users[name]
        for plugin in ("exec", "auth-provider"):
            if user.get(plugin):
                command = user[plugin].get("command") or user[plugin].get("name") or "?"
                raise KubeconfigError(f'user "{name}" logs in with the {plugin} plugin {command}: not supported')
        return user


def load(explicit: str = "", *, environ: Mapping[str, str] | None = None, home: Path | None = None) -> Kubeconfig:
    """Read what kubectl would: `explicit` (--kubeconfig) alone, else $KUBECONFIG's files, else ~/.kube/config.

    In a list, the first file to say something wins; files that aren't there are skipped, but `explicit` must be there.
    Raises KubeconfigError.
    """
    if explicit:
        return _merge([_read(Path(explicit))])
    listed = (os.environ if environ is None else environ).get("KUBECONFIG", "")
    paths = [Path(part) for part in listed.split(os.pathsep) if part]
    if not paths:
        paths = [(home or Path.home()) / ".kube" / "config"]
    return _merge([_read(path) for path in dict.fromkeys(paths) if path.exists()])


def _read(path: Path) -> tuple[Path, Entry]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # The parser quotes the text around the fault, which may be a credential: only the place is passed on.
        mark = getattr(error, "problem_mark", None)
        raise KubeconfigError(f"{path}: not YAML" + (f" (line {mark.line + 1})" if mark else "")) from error
    if document is None:
        document = {}
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config":
        raise KubeconfigError(f"{path}: not a kubeconfig")
    return path, document


def _merge(files: list[tuple[Path, Entry]]) -> Kubeconfig:
    merged: dict[str, dict[str, Entry]] = {section: {} for section in NAMED}
    for path, document in files:
        for section in NAMED:
            for name, content in _entries(path, document, section):
                merged[section].setdefault(name, content)
    current = (str(document.get("current-context") or "") for _, document in files)
    return Kubeconfig(
        current_context=next(filter(None, current), ""),
        clusters=merged["clusters"],
        users=merged["users"],
        contexts=merged["contexts"],
        sources=tuple(path for path, _ in files),
    )


def _entries(path: Path, document: Entry, section: str) -> list[tuple[str, Entry]]:
    entries = document.get(section) or []
    if not isinstance(entries, list):
        raise KubeconfigError(f"{path}: {section} is not a list")
    found = []
    for index, entry in enumerate(entries):
        content = entry.get(NAMED[section]) or {} if isinstance(entry, dict) else None
        if not isinstance(content, dict) or not entry.get("name"):
            raise KubeconfigError(f"{path}: {section}[{index}] needs a name and a {NAMED[section]}")
        files = {key: str(path.parent / content[key]) for key in FILES[section] if content.get(key)}
        found.append((str(entry["name"]), content | files))
    return found


def _server(server: str, sources: tuple[Path, ...]) -> str:
    if not server:
        where = ", ".join(map(str, sources)) or "no kubeconfig was found"
        raise KubeconfigError(f"no cluster is chosen ({where})")
    if "://" not in server:
        server = f"http://{server}"  # kubectl's reading of --server=host:port
    if not server.startswith(("http://", "https://")):
        raise KubeconfigError(f'the server "{server}" is neither http nor https')
    return server.rstrip("/")


def _is_https(server: str) -> bool:
    return server.startswith("https://")


def _trust(cluster: Entry, said: Overrides) -> dict[str, Any]:
    insecure = said.insecure_skip_tls_verify or bool(cluster.get("insecure-skip-tls-verify"))
    file, data = said.certificate_authority or cluster.get("certificate-authority"), None
    if not said.certificate_authority and cluster.get("certificate-authority-data"):
        data = _decoded("certificate-authority-data", cluster)
    if said.insecure_skip_tls_verify:
        file = data = None
    if insecure and (file or data):
        raise TlsError("a certificate authority together with insecure-skip-tls-verify makes no sense")
    return {"authority_file": file, "authority_data": data, "verify": not insecure}


def _client_certificate(user: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for argument in ("certificate", "key"):
        found[f"{argument}_file"] = user.get(f"client-{argument}")
        if user.get(f"client-{argument}-data"):
            found[f"{argument}_data"] = _decoded(f"client-{argument}-data", user)
    return found


def _decoded(key: str, entry: Entry) -> bytes:
    try:
        return base64.b64decode(entry[key], validate=False)
    except ValueError as error:
        raise TlsError(f"{key} is not base64") from error


def _basic(user: Entry, has_token: bool) -> list[tuple[str, str]]:
    if has_token or not user.get("username"):
        return []
    pair = f"{user['username']}:{user.get('password') or ''}".encode()
    return [("Authorization", "Basic " + base64.b64encode(pair).decode())]


def _impersonation(user: Entry, said: Overrides) -> list[tuple[str, str]]:
    if said.as_user or said.as_groups:
        user = {"as": said.as_user, "as-groups": said.as_groups}
    headers = [("Impersonate-User", user["as"])] if user.get("as") else []
    headers += [("Impersonate-Uid", user["as-uid"])] if user.get("as-uid") else []
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{key}", value) for value in values]
    return headers
