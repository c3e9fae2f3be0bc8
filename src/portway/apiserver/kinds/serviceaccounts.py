"""ServiceAccounts. Their tokens are made in `portway.apiserver.tokens`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Kind, Strategy
from portway.kube.objects import Object


def _cells(obj: Object, _now: float) -> Iterable[Any]:
    return (len(obj.get("secrets") or ()),)


SERVICE_ACCOUNT = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    plural="serviceaccounts",
    singular="serviceaccount",
    namespaced=True,
    short_names=("sa",),
    strategy=Strategy(),
    returns_deleted=True,
    columns=common.columns(_cells, Column("Secrets", "string", description="How many secrets it lists.")),
)
