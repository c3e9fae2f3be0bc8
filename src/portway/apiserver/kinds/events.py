"""Events, as core/v1 and as events.k8s.io/v1: one stored form (core's), two views.

Source: pkg/apis/core/validation/events.go, pkg/apis/events/v1/conversion.go, pkg/printers/internalversion, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Columns, Context, Kind, Strategy
from portway.kube import names
from portway.kube.errors import Cause, invalid_value, required
from portway.kube.objects import Object

_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
"""Field of events.k8s.io → the same in core; all others have the same name."""
_ABSENT: Mapping[str, Any] = {
    "reportingComponent": "",
    "reportingInstance": "",
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
}
"""What upstream prints of a core event even when it says nothing."""
_MAX_NAME, _MAX_NOTE = 128, 1024
_TYPES = ("Normal", "Warning")


class EventStrategy(Strategy):
    """What is particular to core events."""

    def defaults(self, obj: Object) -> None:
        """Parts that upstream prints even when they say nothing."""
        for key in ("involvedObject", "source"):
            obj.setdefault(key, {})
        for key, value in _ABSENT.items():
            obj.setdefault(key, value)

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """The namespace is that of the object concerned."""
        return list(_namespace(obj, "involvedObject"))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The same."""
        return list(_namespace(new, "involvedObject"))


class NewEventStrategy(Strategy):
    """What is particular to events of events.k8s.io."""

    def defaults(self, obj: Object) -> None:
        """The same as for core's."""
        for key in ("regarding", "deprecatedSource"):
            obj.setdefault(key, {})

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """The stricter rules of the newer kind."""
        return [*_namespace(obj, "regarding"), *_new_causes(obj)]

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """Events say what happened: only the series, and metadata, may change."""
        fixed = ("regarding", "reason", "type", "reportingController", "reportingInstance", "action", "related", "note")
        changed = [name for name in (*fixed, "eventTime") if new.get(name) != old.get(name)]
        return [invalid_value(name, new.get(name), common.IMMUTABLE) for name in changed]


def _namespace(obj: Object, field: str) -> Iterator[Cause]:
    own, other = obj["metadata"].get("namespace", ""), common.part(obj, field).get("namespace", "")
    if own != other and not (not other and own == "default"):
        yield invalid_value("involvedObject.namespace", other, "does not match event.namespace")


def _new_causes(obj: Object) -> Iterator[Cause]:
    if not obj.get("eventTime"):
        yield required("eventTime")
    controller = obj.get("reportingController", "")
    if not controller:
        yield required("reportingController")
    else:
        yield from common.bad("reportingController", controller, names.is_qualified_name(controller))
    for name in ("reportingInstance", "action", "reason"):
        value = obj.get(name, "")
        if not value:
            yield required(name)
        elif len(value.encode()) > _MAX_NAME:
            yield invalid_value(name, "", f"can have at most {_MAX_NAME} characters")
    if len(obj.get("note", "").encode()) > _MAX_NOTE:
        yield invalid_value("message", "", f"can have at most {_MAX_NOTE} characters")
    if obj.get("type", "") not in _TYPES:
        yield invalid_value("type", "", f"has invalid value: {obj.get('type', '')}")


def _to_core(obj: Object) -> Object:
    stored = {_NAMES.get(name, name): value for name, value in obj.items()}
    return {**_ABSENT, **stored, "kind": "Event", "apiVersion": "v1"}


def _from_core(obj: Object) -> Object:
    back = {core: new for new, core in _NAMES.items()}
    shown = {back.get(name, name): value for name, value in obj.items()}
    return {**shown, "kind": "Event", "apiVersion": "events.k8s.io/v1"}


def _cells(obj: Object, now: float) -> list[Any]:
    involved, source = obj.get("involvedObject") or {}, obj.get("source") or {}
    first, last, count = _times(obj)
    return [
        common.since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        "/".join(part for part in (involved.get("kind", "").lower(), involved.get("name", "")) if part),
        involved.get("fieldPath", ""),
        _source(obj, source),
        obj.get("message", "").strip(),
        common.since(first, now),
        count,
        obj["metadata"].get("name", ""),
    ]


def _times(obj: Object) -> tuple[str | None, str | None, int]:
    """When it happened first and last, and how often."""
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    series = obj.get("series") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    return first, last, series.get("count") or obj.get("count") or 1


def _source(obj: Object, source: Mapping[str, str]) -> str:
    component = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or ""
    return f"{component}, {host}" if host else component


def _new_cells(obj: Object, now: float) -> list[Any]:
    return _cells(_to_core(obj), now)


def _columns(cells: Any) -> Columns:
    return Columns(
        (
            Column("Last Seen", description="Time since it last happened."),
            Column("Type", description="Normal or Warning."),
            Column("Reason", description="What happened, in a word."),
            Column("Object", description="What it happened to."),
            common.wide("Subobject", "The part of it."),
            common.wide("Source", "Who says so."),
            Column("Message", description="What happened, in a sentence."),
            common.wide("First Seen", "Time since it first happened."),
            common.wide("Count", "How often."),
            Column("Name", format="name", priority=1, description="The event's own name."),
        ),
        cells,
    )


_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def _fields(obj: Object) -> Mapping[str, str]:
    involved = obj.get("involvedObject") or {}
    component = (obj.get("source") or {}).get("component") or obj.get("reportingComponent") or ""
    return {
        **{f"involvedObject.{part}": involved.get(part, "") for part in _INVOLVED},
        "reason": obj.get("reason", ""),
        "reportingComponent": obj.get("reportingComponent", ""),
        "source": component,
        "type": obj.get("type", ""),
    }


def _new_fields(obj: Object) -> Mapping[str, str]:
    core = _fields(_to_core(obj))
    regarding = {f"regarding.{part}": core[f"involvedObject.{part}"] for part in _INVOLVED}
    return {**core, **regarding, "reportingController": core["reportingComponent"]}


EVENT = Kind(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    singular="event",
    namespaced=True,
    short_names=("ev",),
    strategy=EventStrategy(),
    create_on_update=True,
    has_dependents=False,
    selectable=tuple(_fields({})),
    selectable_fields=_fields,
    columns=_columns(_cells),
)
NEW_EVENT = Kind(
    group="events.k8s.io",
    version="v1",
    kind="Event",
    plural="events",
    singular="event",
    namespaced=True,
    short_names=("ev",),
    strategy=NewEventStrategy(),
    create_on_update=True,
    has_dependents=False,
    selectable=tuple(_new_fields({})),
    selectable_fields=_new_fields,
    columns=_columns(_new_cells),
    store_group="",
    store_plural="events",
    to_storage=_to_core,
    from_storage=_from_core,
)
