"""kubeconfig files, read by kubectl's rules: which files, how they merge, what the chosen context means.

`load` finds and merges the files (in a pod, without any, the service account: `incluster`), `Kubeconfig.resolve` picks
a context and makes a `ClusterConfig`; `entries` says what is wrong with it. Nothing is written and no program is run:
credential plugins are run when a credential is needed (`execcredentials`).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from portway.client import incluster
from portway.client.cluster import ClusterConfig
from portway.client.credentials import CredentialError
from portway.client.entries import CONTEXT, Entry, cluster_problems, user_problems, wrong_types
from portway.client.impersonation import impersonation
from portway.client.logins import Logins
from portway.client.proxies import Proxy, from_environment, parse
from portway.client.tls import TlsError

NAMED = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""The lists of a kubeconfig: their key, and the key of an entry's content."""
FILES = {
    "clusters": ("certificate-authority",),
    "users": ("client-certificate", "client-key", "tokenFile"),
    "contexts": (),
}
"""Fields that name a file, relative to the kubeconfig that they stand in."""


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
    client_certificate: str = ""
    client_key: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    disable_compression: bool = False
    as_user: str = ""
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()


class Context(NamedTuple):
    """One context of the files, as `kubectl config get-contexts` lists it; "" for what it doesn't say."""

    name: str
    cluster: str
    user: str
    namespace: str
    current: bool


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The merged content of the files."""

    current_context: str
    clusters: Mapping[str, Entry]
    users: Mapping[str, Entry] = field(repr=False)
    contexts: Mapping[str, Entry]
    sources: tuple[Path, ...] = ()
    """The files that were read."""
    in_cluster: bool = False
    """Whether the current context is the pod's service account."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    logins: Logins = field(default_factory=Logins, repr=False, compare=False)

    def each(self) -> Iterator[Context]:
        """All contexts, by name."""
        for name, context in sorted(self.contexts.items()):
            cluster, user, namespace = (str(context.get(key) or "") for key in ("cluster", "user", "namespace"))
            yield Context(name, cluster, user, namespace, name == self.current_context)

    def resolve_each(self) -> Iterator[tuple[str, ClusterConfig | KubeconfigError]]:
        """Every context's name with what it means, or with why it can't be used: one broken entry spoils no other."""
        for context in self.each():
            try:
                yield context.name, self.resolve(Overrides(context=context.name))
            except KubeconfigError as error:
                yield context.name, error

    def resolve(self, overrides: Overrides | None = None) -> ClusterConfig:
        """The cluster and user of the current context, or of what `overrides` says. Raises KubeconfigError."""
        said = overrides or Overrides()
        context = self._context(said)
        cluster_name, user_name = said.cluster or context.get("cluster") or "", said.user or context.get("user") or ""
        cluster = _cluster_as_said(self._entry("cluster", self.clusters, cluster_name, said), said)
        user = _user_as_said(self._entry("user", self.users, user_name, said), said)
        server = _server(cluster.get("server") or "", self.sources)
        problems = [*cluster_problems(cluster_name, cluster), *user_problems(user_name, user)]
        if problems:
            raise KubeconfigError("; ".join(problems))
        try:
            return ClusterConfig(
                server,
                credentials=self.logins.credentials(server, cluster, user),
                headers=impersonation(user),
                server_name=cluster.get("tls-server-name") or None,
                proxy=self._proxy(server, cluster),
                namespace=said.namespace or context.get("namespace") or "default",
                disable_compression=bool(cluster.get("disable-compression")),
            )
        except (CredentialError, TlsError, OSError, ValueError) as error:
            raise KubeconfigError(f"{server}: {error}") from error

    def _context(self, said: Overrides) -> Entry:
        name = said.context or self.current_context
        if not name:
            return {}
        if self.in_cluster and not said.context and (said.server or said.cluster or said.user):
            # The service account's token is for the pod's own API server and nobody else.
            return {}
        if name not in self.contexts:
            # A named context must exist; a stale current-context too, as in kubectl.
            raise KubeconfigError(f'context "{name}" does not exist')
        wrong = wrong_types(f'context "{name}"', self.contexts[name], CONTEXT)
        if wrong:
            raise KubeconfigError("; ".join(wrong))
        return self.contexts[name]

    def _entry(self, kind: str, entries: Mapping[str, Entry], name: str, said: Overrides) -> Entry:
        if name in entries:
            return entries[name]
        if not name or (kind == "cluster" and said.server and not said.cluster):
            return {}
        raise KubeconfigError(f'{kind} "{name}" does not exist')

    def _proxy(self, server: str, cluster: Entry) -> Proxy | None:
        if cluster.get("proxy-url"):
            return parse(cluster["proxy-url"])
        config = ClusterConfig(server)
        return from_environment(self.environ, server.partition(":")[0], *config.address)


def load(
    explicit: str = "",
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    service_account: Path = incluster.DIRECTORY,
) -> Kubeconfig:
    """Read what kubectl would: `explicit` (--kubeconfig) alone, else $KUBECONFIG's files, else ~/.kube/config.

    In a list, the first file to say something wins; files that aren't there are skipped, but `explicit` must be there.
    When no file chooses a cluster, a pod's `service_account` does. Raises KubeconfigError.
    """
    environ = os.environ if environ is None else environ
    if explicit:
        return _merge([_read(Path(explicit))], environ, service_account)
    paths = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if not paths:
        paths = [(home or Path.home()) / ".kube" / "config"]
    return _merge([_read(path) for path in dict.fromkeys(paths) if path.exists()], environ, service_account)


def _read(path: Path) -> tuple[Path, Entry]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from error
    except RecursionError:
        raise KubeconfigError(f"{path}: not YAML that can be read: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: not UTF-8, or a date that the calendar doesn't have
        # The parser quotes the text around the fault, which may be a credential: only the place is passed on.
        mark = getattr(error, "problem_mark", None)
        raise KubeconfigError(f"{path}: not YAML" + (f" (line {mark.line + 1})" if mark else "")) from error
    if document is None:
        document = {}
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config":
        raise KubeconfigError(f"{path}: not a kubeconfig")
    return path, document


def _merge(files: list[tuple[Path, Entry]], environ: Mapping[str, str], service_account: Path) -> Kubeconfig:
    sources = tuple(path for path, _ in files)
    current = next(filter(None, (str(document.get("current-context") or "") for _, document in files)), "")
    pod = None if current else incluster.document(environ, service_account)
    if pod is not None:
        files, current = [*files, (service_account, pod)], pod["current-context"]
    merged: dict[str, dict[str, Entry]] = {section: {} for section in NAMED}
    for path, document in files:
        for section in NAMED:
            for name, content in _entries(path, document, section):
                merged[section].setdefault(name, content)
    return Kubeconfig(
        current_context=current,
        clusters=merged["clusters"],
        users=merged["users"],
        contexts=merged["contexts"],
        sources=sources,
        in_cluster=pod is not None,
        environ=environ,
        logins=Logins(environ),
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
        found.append((str(entry["name"]), content | _files(path.absolute().parent, content, FILES[section])))
    return found


def _files(directory: Path, content: Entry, keys: tuple[str, ...]) -> Entry:
    """The fields that name files, as absolute paths; a plugin's command too, unless PATH is to be searched for it."""
    found: Entry = {key: str(directory / content[key]) for key in keys if content.get(key) and _is_text(content[key])}
    plugin = content.get("exec")
    if isinstance(plugin, dict) and _is_text(plugin.get("command")) and "/" in plugin["command"]:
        found["exec"] = plugin | {"command": str(directory / plugin["command"])}
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _cluster_as_said(cluster: Entry, said: Overrides) -> Entry:
    changes = {"server": said.server, "tls-server-name": said.tls_server_name}
    if said.certificate_authority:
        changes["certificate-authority"] = said.certificate_authority
        cluster = {key: value for key, value in cluster.items() if key != "certificate-authority-data"}
    elif said.insecure_skip_tls_verify:
        cluster = {key: value for key, value in cluster.items() if not key.startswith("certificate-authority")}
    flags = {
        "insecure-skip-tls-verify": said.insecure_skip_tls_verify,
        "disable-compression": said.disable_compression,
    }
    return cluster | {key: value for key, value in (changes | flags).items() if value}


def _user_as_said(user: Entry, said: Overrides) -> Entry:
    changes: Entry = {
        "token": said.token,
        "client-certificate": said.client_certificate,
        "client-key": said.client_key,
        "as": said.as_user,
        "as-uid": said.as_uid,
        "as-groups": list(said.as_groups),
    }
    changes = {key: value for key, value in changes.items() if value}
    replaced = {f"{key}-data" for key in changes}
    if said.token:
        # kubectl 1.37 goes on using the file here; what a command line says and nobody heeds is a fault, not a rule.
        replaced.add("tokenFile")
    return {key: value for key, value in user.items() if key not in replaced} | changes


def _server(server: str, sources: tuple[Path, ...]) -> str:
    if not server:
        where = ", ".join(map(str, sources)) or "no kubeconfig was found"
        raise KubeconfigError(f"no cluster is chosen ({where})")
    if not _is_text(server):
        raise KubeconfigError("the server is not a string")
    if "://" not in server:
        server = f"http://{server}"  # kubectl's reading of --server=host:port
    if not server.startswith(("http://", "https://")):
        raise KubeconfigError(f'the server "{server}" is neither http nor https')
    try:
        host, _ = ClusterConfig(server).address
    except ValueError:
        host = ""
    if not host or not server.isprintable() or " " in server:
        raise KubeconfigError(f"the server {server!a} is not a URL")
    return server.rstrip("/")
