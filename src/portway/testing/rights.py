"""Rights that are known without asking: `held` by namespace, everything where it says nothing."""

from collections.abc import Iterable, Mapping

from portway.client.permissions import Permissions
from portway.door.rights import Rights
from portway.kube.identity import User
from portway.kube.rules import Rule

ALL = Permissions((Rule(("*",), ("",), ("services/proxy",)),))


class KnownRights(Rights):
    """See above."""

    def __init__(self, held: Mapping[str, Permissions] | None = None) -> None:
        self._held = held or {}

    def known(self, user: User, namespaces: Iterable[str]) -> Mapping[str, Permissions]:  # noqa: ARG002
        return {namespace: self._held.get(namespace, ALL) for namespace in namespaces}
