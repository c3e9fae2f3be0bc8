"""A kubeconfig's user at a cluster → its `Credentials`, by client-go's precedence. Entries are checked (`entries`).

Nothing is asked and no plugin is run here; files are read once, so that a wrong one is told at once.
"""

import base64
from collections.abc import Mapping
from pathlib import Path

import orjson

from portway.client.credentials import Credentials, FileCredentials, Headers, StaticCredentials, checked
from portway.client.entries import Entry
from portway.client.execcredentials import ExecCredentials, PluginProcess
from portway.client.execplugin import IF_AVAILABLE, ExecPlugin
from portway.client.tls import TlsContexts, TlsError, TlsSettings

PLUGIN_EXTENSION = "client.authentication.k8s.io/exec"
"""The cluster's extension that credential plugins are told (KEP-541)."""


class Logins:
    """Makes credentials. Users who log in by the same plugin at the same cluster share what it gave.

    `environ` is what plugins are run with; None = the process's.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._run = PluginProcess(environ)
        self._plugins: dict[tuple[ExecPlugin, TlsSettings], ExecCredentials] = {}

    def credentials(self, server: str, cluster: Entry, user: Entry) -> Credentials:
        """The user's credentials. Raises CredentialError, TlsError and OSError."""
        if not server.startswith("https://"):
            # kubectl shows nobody's credentials over plain HTTP, and runs no plugin for it.
            return StaticCredentials()
        token, token_file = user.get("token") or "", user.get("tokenFile") or ""
        headers = _basic(user)
        tls = tls_settings(cluster, user)
        if user.get("exec") and not (token or token_file or headers or tls.certificate_file or tls.certificate_data):
            key = _plugin(server, cluster, user["exec"]), tls
            if key not in self._plugins:
                self._plugins[key] = ExecCredentials(*key, self._run)
            return self._plugins[key]
        return FileCredentials(TlsContexts(tls), headers=headers, token=token, token_file=token_file)


def tls_settings(cluster: Entry, user: Entry) -> TlsSettings:
    return TlsSettings(
        authority_file=cluster.get("certificate-authority") or "",
        authority_data=_decoded("certificate-authority-data", cluster),
        verify=not cluster.get("insecure-skip-tls-verify"),
        certificate_file=user.get("client-certificate") or "",
        certificate_data=_decoded("client-certificate-data", user),
        key_file=user.get("client-key") or "",
        key_data=_decoded("client-key-data", user),
    )


def _decoded(key: str, entry: Entry) -> bytes:
    try:
        return base64.b64decode(entry.get(key) or "", validate=False)
    except ValueError as error:
        raise TlsError(f"{key} is not base64") from error


def _basic(user: Entry) -> Headers:
    if not user.get("username"):
        return ()
    pair = f"{user['username']}:{user.get('password') or ''}".encode()
    return (checked("Authorization", "Basic " + base64.b64encode(pair).decode()),)


def _plugin(server: str, cluster: Entry, plugin: Entry) -> ExecPlugin:
    return ExecPlugin(
        plugin["apiVersion"],
        plugin["command"],
        tuple(plugin.get("args") or ()),
        tuple((variable["name"], variable.get("value") or "") for variable in plugin.get("env") or ()),
        plugin.get("interactiveMode") or IF_AVAILABLE,
        plugin.get("installHint") or "",
        _told(server, cluster) if plugin.get("provideClusterInfo") else "",
    )


def _told(server: str, cluster: Entry) -> str:
    """`spec.cluster` of an ExecCredential, as JSON: the cluster as it is used, the authority's file as data."""
    authority = cluster.get("certificate-authority-data")
    if cluster.get("certificate-authority"):
        authority = base64.b64encode(Path(cluster["certificate-authority"]).read_bytes()).decode()
    told = {
        "server": cluster.get("server") if "://" in cluster.get("server", "") else server,
        "tls-server-name": cluster.get("tls-server-name"),
        "insecure-skip-tls-verify": cluster.get("insecure-skip-tls-verify"),
        "certificate-authority-data": authority,
        "proxy-url": cluster.get("proxy-url"),
        "disable-compression": cluster.get("disable-compression"),
    }
    extensions = cluster.get("extensions") or ()
    config = next((entry.get("extension") for entry in extensions if entry.get("name") == PLUGIN_EXTENSION), None)
    return orjson.dumps({key: value for key, value in told.items() if value} | {"config": config}).decode()
