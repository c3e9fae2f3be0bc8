"""How far a backend behind `https:` is trusted: not at all, as upstream, or verified when its Service asks for that.

A Service asks with annotations:

    portway.dev/backend-ca           secret/NAME or configmap/NAME in the service's namespace, optionally /KEY
    (default ca.crt) portway.dev/backend-server-name  the name in the backend's certificate (default NAME.NAMESPACE.svc)

A bundle that can't be read makes the service unreachable (fail closed), never unverified.
"""

import base64
import binascii
import ipaddress
import ssl
from dataclasses import dataclass

from portway.client.records import Service
from portway.client.tls import Session
from portway.kube.errors import ServiceUnavailable, StatusError
from portway.kube.names import is_dns1123_subdomain

CA_ANNOTATION = "portway.dev/backend-ca"
NAME_ANNOTATION = "portway.dev/backend-server-name"
REFRESH = 30.0
"""Seconds after which a bundle is read again, so that a rotated CA is picked up."""

_PLURALS = {"secret": "secrets", "configmap": "configmaps"}


@dataclass(frozen=True, slots=True)
class Trust:
    """A TLS context and the name to ask for ("" = send and check none). `bundle` is what it verifies with."""

    context: ssl.SSLContext
    server_name: str
    bundle: str = ""


def unverified() -> Trust:
    """What kube-apiserver does with pods and services: any certificate will do."""
    context = _client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return Trust(context, "")


def verified(bundle: str, server_name: str) -> Trust:
    """Only chains to `bundle` (PEM) with `server_name` in the certificate. Raises ssl.SSLError for a bad bundle."""
    context = _client_context()
    context.load_verify_locations(cadata=bundle)
    return Trust(context, server_name, bundle)


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = Session
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def reference(service: Service) -> tuple[str, str, str] | None:
    """(plural, name, key) of the bundle that a Service names, None when it asks for nothing. Raises
    ServiceUnavailable.
    """
    text = service.annotations.get(CA_ANNOTATION)
    if text is None:
        if NAME_ANNOTATION in service.annotations:
            raise ServiceUnavailable(f'service "{service.name}" names a backend server but no {CA_ANNOTATION}')
        return None
    kind, _, rest = text.partition("/")
    name, _, key = rest.partition("/")
    if kind not in _PLURALS or not name:
        raise ServiceUnavailable(
            f'service "{service.name}": {CA_ANNOTATION} must be secret/NAME[/KEY] or configmap/NAME[/KEY], not "{text}"'
        )
    return _PLURALS[kind], name, key or "ca.crt"


def server_name(service: Service) -> str:
    """The name that the backend's certificate must carry. Raises ServiceUnavailable for one that none can."""
    name = service.annotations.get(NAME_ANNOTATION) or f"{service.name}.{service.namespace}.svc"
    if is_dns1123_subdomain(name) and not _is_address(name):
        raise ServiceUnavailable(
            f'service "{service.name}": {NAME_ANNOTATION} must be a DNS name or an address, not "{name}"'
        )
    return name


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def from_object(plural: str, value: dict[str, object], key: str, name: str) -> Trust:
    """The trust that a Secret or ConfigMap holds. Raises StatusError (503) when it holds none."""
    data = value.get("data")
    text = data.get(key) if isinstance(data, dict) else None
    try:
        if not isinstance(text, str):
            raise ValueError(f'has no key "{key}"')
        if plural == "secrets":
            text = base64.b64decode(text, validate=True).decode("ascii")
        return verified(text, name)
    except (ValueError, ssl.SSLError, binascii.Error) as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> StatusError:
    return ServiceUnavailable(f"the CA bundle for this service's backend cannot be used: {error}")
