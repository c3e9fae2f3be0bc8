"""The workload kinds that `kubectl cluster-info dump` lists: always empty, and no part of what this API offers.

This cluster has no controllers that would run a Deployment, so there are none, and nobody can make one (405). kubectl's
dump asks for these four by their paths and gives up at the first 404; so the paths are answered, with empty lists.
Discovery and OpenAPI don't name them: to every client that asks what there is, this is an API server without them.
"""

from __future__ import annotations

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Kind


def _never(group: str, kind: str, short_name: str) -> Kind:
    return Kind(
        group=group,
        version="v1",
        kind=kind,
        plural=f"{kind.lower()}s",
        singular=kind.lower(),
        namespaced=True,
        short_names=(short_name,),
        verbs=("get", "list", "watch"),
        offered=False,
        columns=common.columns(lambda *_: ()),
    )


WORKLOADS = (
    _never("", "ReplicationController", "rc"),
    _never("apps", "DaemonSet", "ds"),
    _never("apps", "Deployment", "deploy"),
    _never("apps", "ReplicaSet", "rs"),
)
