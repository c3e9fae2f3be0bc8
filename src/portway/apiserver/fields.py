"""The fields of the API's messages: numbers, JSON names and types, read once from data/protobuf-fields.json.

The data file holds, per message and field number, `[optional|required|inline|struct] [repeated] TYPE NAME`:

- `optional`: a pointer in upstream's Go types, so that zero is a value of its own ("false" isn't "unset");
- `required`: written to JSON even when zero or empty (no `omitempty`);
- `inline`: the fields of the message stand beside its siblings in JSON (Go's embedded structs);
- `struct`: a message that isn't a pointer upstream, so that protobuf has it even when nothing is in it;
- TYPE: string, bytes, bool, int32, int64, the name of a message, or `map<string,TYPE>`.

Who uses it: `protobuf` (bytes → JSON), `protobufwriter` (JSON → bytes), `conform` (which JSON fields exist, of which
type) and `schema` (merge keys).
Source: the protobuf tags of k8s.io/api and k8s.io/apimachinery v1.36.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64"})

TIMES = frozenset({"meta.v1.Time", "meta.v1.MicroTime"})
QUANTITY = "api.resource.Quantity"
INT_OR_STRING = "util.intstr.IntOrString"
RAW_JSON = frozenset({"meta.v1.FieldsV1", "runtime.RawExtension"})
"""Messages whose only field holds JSON text."""
STRING_LISTS = frozenset(
    {"authentication.v1.ExtraValue", "authorization.v1.ExtraValue", "certificates.v1.ExtraValue"},
)
"""Messages that are plain lists of strings in JSON."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `type` is the element's type for repeated fields and the value's type for maps."""

    number: int
    name: str
    type: str
    repeated: bool
    map: bool
    presence: str
    """"optional", "required", "inline", "struct" or ""."""

    @property
    def keeps_zero(self) -> bool:
        """Whether a zero value is kept in JSON when it is given."""
        return self.presence in ("optional", "required")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its fields by number and by JSON name (the fields of inline messages included in the latter)."""

    name: str
    by_number: Mapping[int, Field]
    by_name: Mapping[str, Field]


def _field(number: str, text: str) -> Field:
    *flags, kind, name = text.split(" ")
    is_map = kind.startswith("map<")
    presence = next((flag for flag in flags if flag != "repeated"), "")
    return Field(
        int(number), name, kind[len("map<string,") : -1] if is_map else kind, "repeated" in flags, is_map, presence
    )


def _names(
    fields: Mapping[int, Field], table: Mapping[str, Mapping[str, str]], within: tuple[str, ...]
) -> dict[str, Field]:
    """The fields by JSON name; the guard `within` keeps a data file with an inline cycle from looping."""
    found: dict[str, Field] = {}
    for field in fields.values():
        if field.presence != "inline":
            found[field.name] = field
        elif field.type not in within:
            inner = {int(n): _field(n, text) for n, text in table[field.type].items()}
            found.update(_names(inner, table, (*within, field.type)))
    return found


@functools.cache
def messages() -> Mapping[str, Message]:
    """Returns every known message by name ("core.v1.Pod")."""
    text = resources.files("portway.apiserver").joinpath("data/protobuf-fields.json").read_text("utf-8")
    table: dict[str, dict[str, str]] = json.loads(text)
    found = {}
    for name, entries in table.items():
        by_number = {int(n): _field(n, entry) for n, entry in entries.items()}
        found[name] = Message(name, by_number, _names(by_number, table, (name,)))
    return found


def message_for(api_version: str, kind: str) -> Message | None:
    """Returns the message of an object by its apiVersion and kind, None when there is none.

    Options and Status are registered in every group upstream, so that ("apps/v1", "DeleteOptions") is
    meta.v1.DeleteOptions.
    """
    group, _, version = api_version.rpartition("/")
    package = f"{group.split('.')[0] or 'core'}.{version}"
    known = messages()
    return known.get(f"{package}.{kind}") or known.get(f"meta.v1.{kind}")


def render_time(moment: datetime.datetime, *, micro: bool) -> str:
    """Returns a time as metav1.Time (RFC 3339, UTC, seconds) or MicroTime (microseconds) prints it."""
    utc = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="microseconds" if micro else "seconds") + "Z"
