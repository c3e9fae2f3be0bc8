"""The options of list, watch and writes, from the query: parsed, checked, with upstream's refusals. Pure.

Source: k8s.io/apimachinery/pkg/apis/meta/internalversion/validation and pkg/apis/meta/v1/validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portway.apiserver.metadata import MAX_MANAGER, manager_causes
from portway.kube import errors
from portway.kube.errors import BadRequest, Cause
from portway.kube.quantity import parse_int64
from portway.kube.query import boolean
from portway.kube.selectors import FieldSelector, LabelSelector, parse_field_selector, parse_label_selector

META = "meta.k8s.io"
VALIDATIONS = ("", "Ignore", "Warn", "Strict")


@dataclass(frozen=True, slots=True)
class ListOptions:
    """How to list or watch. `resource_version` is None when it was not given; `timeout` in seconds, 0 = not given."""

    labels: LabelSelector
    fields: FieldSelector
    limit: int = 0
    continuation: str = ""
    resource_version: int | None = None
    match: str = ""
    timeout: int = 0
    bookmarks: bool = False
    initial_events: bool | None = None


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How to write: `validation` is Ignore, Warn or Strict, `manager` who owns what is written, `force` for applies."""

    dry_run: bool = False
    validation: str = "Warn"
    manager: str = ""
    force: bool = False


def truth(params: Mapping[str, str], name: str) -> bool:
    """Returns a boolean parameter, false when it was not given."""
    return name in params and boolean([params[name]])


def number(params: Mapping[str, str], name: str) -> int:
    """Returns a whole number, 0 when it was not given; raises BadRequest."""
    text = params.get(name, "")
    if not text:
        return 0
    found = parse_int64(text)
    if found is None:
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return found


def list_options(params: Mapping[str, str], *, watch: bool) -> ListOptions:
    """Returns the options of a list or watch; raises BadRequest or Invalid."""
    initial = truth(params, "sendInitialEvents") if "sendInitialEvents" in params else None
    options = ListOptions(
        labels=parse_label_selector(params.get("labelSelector", "")),
        fields=parse_field_selector(params.get("fieldSelector", "")),
        limit=max(number(params, "limit"), 0),
        continuation=params.get("continue", ""),
        resource_version=revision(params.get("resourceVersion", "")),
        match=params.get("resourceVersionMatch", ""),
        timeout=max(number(params, "timeoutSeconds"), 0),
        bookmarks=truth(params, "allowWatchBookmarks"),
        initial_events=initial,
    )
    causes = _watch_causes(options) if watch else _list_causes(options)
    if causes:
        raise errors.invalid("ListOptions", "", causes, META)
    return options


def revision(text: str) -> int | None:
    """Returns a resourceVersion as a number, None for none; raises BadRequest."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise BadRequest(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def _list_causes(options: ListOptions) -> list[Cause]:
    field, match, known = "resourceVersionMatch", options.match, options.resource_version
    causes: list[Cause] = []
    if options.initial_events is not None:
        causes.append(errors.forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if not match:
        return causes
    if known is None:
        causes.append(
            errors.forbidden_field(field, "resourceVersionMatch is forbidden unless resourceVersion is provided")
        )
    if options.continuation:
        causes.append(errors.forbidden_field(field, "resourceVersionMatch is forbidden when continue is provided"))
    if match not in ("Exact", "NotOlderThan"):
        causes.append(errors.not_supported(field, match, ["Exact", "NotOlderThan", ""]))
    if match == "Exact" and known == 0:
        causes.append(
            errors.forbidden_field(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
        )
    return causes


def _watch_causes(options: ListOptions) -> list[Cause]:
    field = "resourceVersionMatch"
    if options.initial_events is None:
        if options.match:
            return [
                errors.forbidden_field(
                    field, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
                )
            ]
        return []
    causes: list[Cause] = []
    if not options.match:
        causes.append(
            errors.forbidden_field(field, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        )
    elif options.match != "NotOlderThan":
        causes.append(errors.not_supported(field, options.match, ["NotOlderThan"]))
    if options.continuation:
        causes.append(errors.forbidden_field("continue", "continue is forbidden for watch with sendInitialEvents"))
    return causes


def write_options(params: Mapping[str, str], kind: str, agent: str = "", *, applies: bool = False) -> WriteOptions:
    """Returns the options of a create, update or patch (`kind`: CreateOptions, …); raises Invalid.

    A client that names no manager is known by its User-Agent (`agent`); one that applies must name one.
    """
    causes: list[Cause] = []
    if applies and not params.get("fieldManager"):
        causes.append(errors.required("fieldManager", "is required for apply patch"))
    if "force" in params and kind == "PatchOptions" and not applies:
        causes.append(errors.forbidden_field("force", "may not be specified for non-apply patch"))
    dry_run = params.get("dryRun", "")
    if dry_run not in ("", "All"):
        causes.append(errors.not_supported("dryRun", dry_run, ["All"]))
    manager = params.get("fieldManager", "")
    causes.extend(manager_causes("fieldManager", manager))
    validation = params.get("fieldValidation", "")
    if validation not in VALIDATIONS:
        causes.append(errors.not_supported("fieldValidation", validation, list(VALIDATIONS)))
    if causes:
        raise errors.invalid(kind, "", causes, META)
    force = applies and truth(params, "force")
    return WriteOptions(dry_run == "All", validation or "Warn", manager or _manager_of(agent), force)


def _manager_of(agent: str) -> str:
    """What a client calls itself: its User-Agent up to the first slash, printable and no longer than a manager."""
    name = "".join(char for char in agent.split("/", 1)[0] if char.isprintable())
    return name.encode()[:MAX_MANAGER].decode(errors="ignore")
