"""The admin's kubeconfig: how kubectl, and `portway` itself, gets in.

One cluster, one user, one context, all named `portway`; certificates are embedded so that the file can be moved.
The cluster carries the address of the plain listener as an extension (kubeconfig's own mechanism, which kubectl
ignores), for `portway url --http`.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.up.certificates import KeyPair
from portway.up.datadir import write_private
from portway.up.errors import UpError

NAME = "portway"
EXTENSION = "portway.dev/plain"


@dataclass(frozen=True, slots=True)
class Access:
    """What the file says.

    Attributes:
        server: URL of the TLS listener.
        authority: PEM that verifies it; b"" = the system's authorities do.
        admin: the admin's client certificate.
        plain_server: URL of the plain listener, "" = there is none.
    """

    server: str
    authority: bytes
    admin: KeyPair
    plain_server: str


def render(access: Access) -> bytes:
    """The file's content."""
    import yaml

    cluster: dict[str, Any] = {"server": access.server}
    if access.authority:
        cluster["certificate-authority-data"] = _base64(access.authority)
    if access.plain_server:
        cluster["extensions"] = [{"name": EXTENSION, "extension": {"server": access.plain_server}}]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [
            {
                "name": NAME,
                "user": {
                    "client-certificate-data": _base64(access.admin.certificate),
                    "client-key-data": _base64(access.admin.key),
                },
            }
        ],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
        "current-context": NAME,
    }
    return yaml.safe_dump(content, sort_keys=False).encode()


def write(path: Path, access: Access) -> None:
    """Write the file unless it holds somebody else's clusters; UpError says what to do instead."""
    try:
        if path.exists() and not _ours(path.read_bytes()):
            raise UpError(
                f"{path} holds other clusters and is left alone; give --kubeconfig another file"
                " (kubectl reads several: KUBECONFIG=a:b)"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, render(access))
    except OSError as error:
        raise UpError(
            f"cannot write kubeconfig {path}: {error.strerror}; choose another place with --kubeconfig"
        ) from error


def _ours(content: bytes) -> bool:
    import yaml

    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        return False
    if found is None:
        return True
    clusters = found.get("clusters") if isinstance(found, dict) else None
    return isinstance(clusters, list) and [isinstance(one, dict) and one.get("name") for one in clusters] == [NAME]


def _base64(pem: bytes) -> str:
    return base64.b64encode(pem).decode("ascii")
