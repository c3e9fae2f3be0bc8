"""How fields merge, and which are required, as our tables have it, is how upstream's published document has it."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

import pytest

from portway.apiserver.fields import Message, message_for, messages
from portway.apiserver.kinds import KINDS
from portway.apiserver.managed.types import extensions
from portway.apiserver.openapischemas import Schema, add_kind, component, required_fields

pytestmark = pytest.mark.deploy

VERSION = "v1.36.0"
MERGING = (
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-patch-merge-key",
)


@functools.cache
def published() -> dict[str, Any]:
    folder = resources.files("kubernetes_validate").joinpath(f"kubernetes-json-schema/{VERSION}-local")
    found: dict[str, Any] = json.loads(folder.joinpath("_definitions.json").read_text("utf-8"))["$defs"]
    return found


def merging(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: schema[name] for name in MERGING if name in schema}


def known() -> list[Message]:
    return [message for message in messages().values() if component(message.name) in published()]


def test_nearly_every_message_is_published() -> None:
    assert len(known()) > len(messages()) * 0.9


def test_what_is_required_is_what_upstream_requires() -> None:
    theirs = {message.name: sorted(published()[component(message.name)].get("required", ())) for message in known()}
    assert {name: list(required_fields().get(name, ())) for name in theirs} == theirs
    assert required_fields().keys() <= theirs.keys()


@pytest.mark.parametrize("message", known(), ids=lambda message: message.name)
def test_lists_and_maps_merge_as_upstream_says(message: Message) -> None:
    theirs = published()[component(message.name)]
    properties = theirs.get("properties", {})
    sides = {
        "": ({**extensions(message.name, "")}, theirs),
        **{name: (extensions(message.name, name), properties.get(name, {})) for name in message.by_name},
    }
    for name, (ours, schema) in sides.items():
        wanted = {key: value for key, value in merging(schema).items() if "patch" not in key}
        assert merging(ours) == wanted, name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource)
def test_what_a_kinds_openapi_says_of_merging_is_what_upstreams_says(kind: Any) -> None:
    schemas: dict[str, Schema] = {}
    add_kind(kind, schemas)
    assert message_for(kind.api_version, kind.kind) is not None
    for name, schema in schemas.items():
        theirs = published().get(name, {}).get("properties", {})
        for field, property_ in schema["properties"].items():
            if name in published():
                assert merging(property_) == merging(theirs.get(field, {})), (name, field)
