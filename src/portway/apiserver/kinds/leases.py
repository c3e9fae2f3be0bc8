"""Leases: who holds what, renewed in time.

Source: pkg/apis/coordination/validation, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.kube import names
from portway.kube.errors import Cause, invalid_value
from portway.kube.objects import Object


class LeaseStrategy(Strategy):
    """What is particular to Leases."""

    def defaults(self, obj: Object) -> None:
        """The spec is always there."""
        obj.setdefault("spec", {})

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """The numbers."""
        return list(_causes(obj["spec"]))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The same."""
        return list(_causes(new["spec"]))


def _causes(spec: dict[str, Any]) -> Iterator[Cause]:
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        yield invalid_value("spec.leaseDurationSeconds", duration, "must be greater than 0")
    yield from common.not_negative("spec.leaseTransitions", transitions)
    if spec.get("strategy") is not None:
        # A name that is not a domain's is one of upstream's own.
        strategy = spec["strategy"]
        yield from common.bad("spec.strategy", strategy, names.is_qualified_name(strategy))
    if spec.get("preferredHolder") and not spec.get("strategy"):
        yield invalid_value("spec.preferredHolder", spec["preferredHolder"], "must not be specified without strategy")


def _cells(obj: Object, _now: float) -> Iterable[Any]:
    return ((obj.get("spec") or {}).get("holderIdentity", ""),)


LEASE = Kind(
    group="coordination.k8s.io",
    version="v1",
    kind="Lease",
    plural="leases",
    singular="lease",
    namespaced=True,
    strategy=LeaseStrategy(),
    create_on_update=True,
    unconditional_update=False,
    columns=common.columns(_cells, Column("Holder", description="Who holds it.")),
)
