"""A kubeconfig's cluster and user: are their fields of the right type, and do they go together? In kubectl's words.

Source: client-go clientcmd/validation.go, and what kubectl 1.37 said to each case here.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from portway.client.execplugin import MODES, VERSIONS
from portway.client.proxies import parse, shown
from portway.kube.quoting import quote

Entry = dict[str, Any]

_REMOVED_PROVIDERS = {
    "gcp": 'The gcp auth plugin has been removed. Please use the "gke-gcloud-auth-plugin" kubectl/client-go credential '
    "plugin instead.",
    "azure": "The azure auth plugin has been removed. Please use the https://github.com/Azure/kubelogin "
    "kubectl/client-go credential plugin instead.",
}


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _string_lists(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and _strings(v) for k, v in value.items())


_TEXT = (lambda value: isinstance(value, str)), "a string"
_FLAG = (lambda value: isinstance(value, bool)), "true or false"
_LIST = _strings, "a list of strings"
_MAP = (lambda value: isinstance(value, dict)), "a mapping"
_MAPS = (lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value)), "a list of mappings"

Types = Mapping[str, tuple[Callable[[Any], bool], str]]

CLUSTER: Types = {
    **dict.fromkeys(
        ("server", "tls-server-name", "certificate-authority", "certificate-authority-data", "proxy-url"), _TEXT
    ),
    **dict.fromkeys(("insecure-skip-tls-verify", "disable-compression"), _FLAG),
    "extensions": _MAPS,
}
USER: Types = {
    **dict.fromkeys(
        ("client-certificate", "client-certificate-data", "client-key", "client-key-data", "token", "tokenFile"), _TEXT
    ),
    **dict.fromkeys(("as", "as-uid", "username", "password"), _TEXT),
    "as-groups": _LIST,
    "as-user-extra": (_string_lists, "lists of strings by name"),
    "auth-provider": _MAP,
    "exec": _MAP,
}
CONTEXT: Types = dict.fromkeys(("cluster", "user", "namespace"), _TEXT)
EXEC: Types = {
    **dict.fromkeys(("command", "apiVersion", "interactiveMode", "installHint"), _TEXT),
    "args": _LIST,
    "env": _MAPS,
    "provideClusterInfo": _FLAG,
}
VARIABLE: Types = dict.fromkeys(("name", "value"), _TEXT)


def wrong_types(where: str, entry: Entry, types: Types) -> list[str]:
    """What is of another type than it must be, by name. Values are not shown; unknown names and nulls are nothing."""
    return [
        f"{where}: {name} is not {called}"
        for name, (fits, called) in types.items()
        if entry.get(name) is not None and not fits(entry[name])
    ]


def cluster_problems(name: str, cluster: Entry) -> list[str]:
    """What is wrong with a cluster that is to be used."""
    found = wrong_types(f'cluster "{name}"', cluster, CLUSTER)
    if found:
        return found
    if cluster.get("proxy-url"):
        try:
            parse(cluster["proxy-url"])
        except ValueError as error:
            found.append(f"invalid 'proxy-url' {quote(shown(cluster['proxy-url']))} for cluster {quote(name)}: {error}")
    file = cluster.get("certificate-authority")
    if file and cluster.get("certificate-authority-data"):
        found.append(
            f"certificate-authority-data and certificate-authority are both specified for {name}. "
            "certificate-authority-data will override."
        )
    found += _unreadable("certificate-authority", name, file)
    if cluster.get("insecure-skip-tls-verify") and (file or cluster.get("certificate-authority-data")):
        found.append("specifying a root certificates file with the insecure flag is not allowed")
    return found


def user_problems(name: str, user: Entry) -> list[str]:
    """What is wrong with a user that is to log in."""
    found = wrong_types(f'user "{name}"', user, USER)
    if found:
        return found
    has_basic = bool(user.get("username") or user.get("password"))
    if user.get("token") and has_basic:
        found.append(
            f"more than one authentication method found for {name}; found [token basicAuth], only one is allowed"
        )
    elif user.get("tokenFile") and has_basic:
        found.append("username/password or bearer token may be set, but not both")
    found += _certificate_problems(name, user)
    found += _plugin_problems(name, user)
    if not user.get("as") and any(user.get(key) for key in ("as-uid", "as-groups", "as-user-extra")):
        found.append(f"requesting uid, groups or user-extra for {name} without impersonating a user")
    return found


def _certificate_problems(name: str, user: Entry) -> Iterable[str]:
    file, data = user.get("client-certificate"), user.get("client-certificate-data")
    key, key_data = user.get("client-key"), user.get("client-key-data")
    if not (file or data):
        return
    if file and data:
        yield f"client-cert-data and client-cert are both specified for {name}. client-cert-data will override."
    if key and key_data:
        yield f"client-key-data and client-key are both specified for {name}; client-key-data will override"
    if not (key or key_data):
        yield (
            f"client-key-data or client-key must be specified for {name} to use the clientCert authentication method."
        )
    yield from _unreadable("client-cert", name, file)
    yield from _unreadable("client-key", name, key)


def _plugin_problems(name: str, user: Entry) -> Iterable[str]:
    provider, plugin = user.get("auth-provider"), user.get("exec")
    if provider and plugin:
        yield f"authProvider cannot be provided in combination with an exec plugin for {name}"
    elif provider:
        called = str(provider.get("name") or "")
        yield _REMOVED_PROVIDERS.get(called) or f"no Auth Provider found for name {quote(called)}"
    if not plugin:
        return
    wrong = wrong_types(f'user "{name}": exec', plugin, EXEC)
    for variable in [] if wrong else plugin.get("env") or []:
        wrong += wrong_types(f'user "{name}": exec: env', variable, VARIABLE)
    if wrong:
        yield from wrong
        return
    version, mode = plugin.get("apiVersion"), plugin.get("interactiveMode")
    must = f"must be specified for {name} to use exec authentication plugin"
    if not plugin.get("command"):
        yield f"command {must}"
    if not version:
        yield f"apiVersion {must}"
    if any(not variable.get("name") for variable in plugin.get("env") or []):
        yield f"env variable name {must}"
    if not mode and version != VERSIONS[1]:
        yield f"interactiveMode {must}"
    elif mode and mode not in MODES:
        yield f"invalid interactiveMode for {name}: {quote(mode)}"
    elif version and version not in VERSIONS:
        yield f"exec plugin: invalid apiVersion {quote(version)}"


def _unreadable(what: str, name: str, file: str | None) -> Iterable[str]:
    if not file:
        return
    try:
        with Path(file).open("rb"):
            pass
    except OSError as error:
        yield f"unable to read {what} {file} for {name} due to open {file}: {str(error.strerror).lower()}"
