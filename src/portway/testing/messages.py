"""Objects of any kind, made up by Hypothesis from the table of fields: of the declared types, otherwise anything."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from hypothesis import strategies as st

from portway.apiserver.fields import INT_OR_STRING, QUANTITY, RAW_JSON, SCALARS, STRING_LISTS, Message, messages

TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
MOMENTS = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30), timezones=st.just(datetime.UTC))


def leaves(kind: str) -> st.SearchStrategy[Any] | None:
    """Returns values of a type that isn't a plain message, as JSON has them; None for one that is."""
    if kind == "meta.v1.Time":
        return MOMENTS.map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))
    if kind == "meta.v1.MicroTime":
        return MOMENTS.map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0"))
    if kind in RAW_JSON:
        return st.just({"a": 1})
    return {
        "string": TEXT,
        "bytes": st.binary(max_size=6).map(lambda raw: base64.b64encode(raw).decode()),
        "bool": st.booleans(),
        "int32": st.integers(-(2**31), 2**31 - 1),
        "int64": st.integers(-(2**63), 2**63 - 1),
        QUANTITY: st.sampled_from(["1", "100m", "64Mi"]),
        INT_OR_STRING: st.one_of(st.integers(-(2**31), 2**31 - 1), TEXT),
        **dict.fromkeys(STRING_LISTS, st.lists(TEXT, max_size=2)),
    }.get(kind)


@st.composite
def objects_of(draw: st.DrawFn, message: Message, depth: int) -> dict[str, Any]:
    """Returns an object as JSON has it: a few fields of the message, `depth` levels deep, no zeros that vanish."""
    named = sorted(message.by_name.values(), key=lambda field: field.name)
    chosen = draw(st.lists(st.sampled_from(named), max_size=4, unique_by=lambda field: field.name))
    found: dict[str, Any] = {}
    for field in chosen:
        values = leaves(field.type)
        if values is None:
            if depth == 0:
                continue
            values = objects_of(messages()[field.type], depth - 1)
        if field.map:
            found[field.name] = draw(st.dictionaries(TEXT, values, min_size=1, max_size=2))
        elif field.repeated:
            found[field.name] = draw(st.lists(values, min_size=1, max_size=3))
        else:
            value = draw(values)
            if value or field.keeps_zero or field.type not in SCALARS:
                found[field.name] = value
    return found
