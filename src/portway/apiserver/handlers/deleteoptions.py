"""DeleteOptions, from the body of a DELETE or from its query.

Grace periods end at once: there is no kubelet that would confirm the end of a pod, so nothing waits for one. What a
propagation policy does to the object is `portway.apiserver.propagation`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portway.apiserver import body as bodies
from portway.apiserver.body import Expected
from portway.apiserver.http import Request
from portway.apiserver.kinds import common
from portway.apiserver.options import number, truth
from portway.apiserver.propagation import POLICIES
from portway.apiserver.registry import Preconditions
from portway.kube import errors

_EXPECTED = Expected("v1", "DeleteOptions", any_version=True)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete. `policy` is one of POLICIES, "" when the client leaves it to the kind."""

    dry_run: bool
    preconditions: Preconditions
    policy: str


async def delete_options(request: Request) -> DeleteOptions:
    """Returns the options of a DELETE; raises BadRequest or Invalid."""
    raw = await request.body()
    if raw:
        given = (await bodies.decode(raw, request.header(b"content-type"), _EXPECTED, strict=False)).obj
    else:
        given = _from_query(request.params)
    _check(given)
    conditions = given.get("preconditions") or {}
    return DeleteOptions(
        bool(given.get("dryRun")),
        Preconditions(conditions.get("uid") or "", conditions.get("resourceVersion") or ""),
        _policy(given),
    )


def _policy(given: Mapping[str, Any]) -> str:
    """The propagation policy; orphanDependents is how it was said before there were three."""
    orphan = given.get("orphanDependents")
    if orphan is not None:
        return "Orphan" if orphan else "Background"
    return given.get("propagationPolicy") or ""


def _from_query(params: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if params.get("dryRun"):
        given["dryRun"] = [params["dryRun"]]
    if params.get("propagationPolicy"):
        given["propagationPolicy"] = params["propagationPolicy"]
    if params.get("orphanDependents"):
        given["orphanDependents"] = truth(params, "orphanDependents")
    if params.get("gracePeriodSeconds"):
        given["gracePeriodSeconds"] = number(params, "gracePeriodSeconds")
    return given


def _check(given: Mapping[str, Any]) -> None:
    causes = common.first(
        errors.not_supported("dryRun", value, ["All"]) for value in given.get("dryRun") or () if value != "All"
    )
    policy = given.get("propagationPolicy")
    if policy and policy not in POLICIES:
        causes.append(errors.not_supported("propagationPolicy", policy, [*POLICIES, "nil"]))
    if policy and given.get("orphanDependents") is not None:
        causes.append(
            errors.invalid_value(
                "propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"
            )
        )
    if given.get("gracePeriodSeconds", 0) < 0:
        causes.append(
            errors.invalid_value(
                "gracePeriodSeconds", given["gracePeriodSeconds"], "must be greater than or equal to 0"
            )
        )
    if causes:
        raise errors.invalid("DeleteOptions", "", causes, "meta.k8s.io")
