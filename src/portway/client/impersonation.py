"""The headers by which a user asks to be taken for another: a kubeconfig's as, as-uid, as-groups and as-user-extra.

Source: client-go transport/round_trippers.go.
"""

import re
from collections.abc import Mapping
from typing import Any

from portway.client.credentials import Headers, checked

_NOT_IN_A_NAME = re.compile(rb"[^!#$&'*+\-.^_`|~0-9A-Za-z]")
"""Bytes that a header's name can't have (RFC 9110 token), and the percent sign."""


def impersonation(user: Mapping[str, Any]) -> Headers:
    """Impersonate-* headers of a kubeconfig's user, in kubectl's order. Raises CredentialError."""
    headers = [("Impersonate-User", user["as"])] if user.get("as") else []
    headers += [("Impersonate-Uid", user["as-uid"])] if user.get("as-uid") else []
    headers += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        headers += [(f"Impersonate-Extra-{_escaped(key)}", value) for value in values]
    return tuple(checked(name, value) for name, value in headers)


def _escaped(key: str) -> str:
    """A key as part of a header's name; the server undoes it (kube-apiserver unescapeExtraKey)."""
    return _NOT_IN_A_NAME.sub(lambda found: b"%%%02X" % ord(found[0]), key.encode()).decode()
