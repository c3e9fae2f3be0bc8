"""What `kubectl explain` says: a text for every field of the kinds, except the inner parts of pods and nodes."""

from typing import Any

import pytest

from portway.apiserver.fields import message_for, messages
from portway.apiserver.kinds import KINDS
from portway.apiserver.openapischemas import add_kind, component, descriptions

OF_NO_CONCERN = ("core.v1.PodSpec", "core.v1.PodStatus", "core.v1.NodeSpec", "core.v1.NodeStatus")
"""Parts of kinds that are kept for what services need of them."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.plural)
def test_every_field_says_what_it_means(kind: Any) -> None:
    found: dict[str, dict[str, Any]] = {}
    add_kind(kind, found)
    concerning = {component(message) for message in _concerning(kind)} & found.keys()
    silent = [
        (name, field)
        for name in concerning
        for field, schema in {"": found[name], **found[name]["properties"]}.items()
        if "description" not in schema
    ]
    assert concerning
    assert not silent


def _concerning(kind: Any) -> set[str]:
    """The messages that a kind is made of, down to those of no concern."""
    message = message_for(f"{kind.group}/{kind.version}".removeprefix("/"), kind.kind)
    assert message is not None
    todo, found = [message.name], set[str]()
    while todo:
        name = todo.pop()
        if name in messages() and name not in found and name not in OF_NO_CONCERN:
            found.add(name)
            todo += [field.type for field in messages()[name].by_name.values()]
    return found


def test_nothing_is_described_that_does_not_exist() -> None:
    made = {"meta.v1.ListMeta": {"selfLink", "resourceVersion", "continue", "remainingItemCount"}}
    for message, texts in descriptions().items():
        if message != "*":
            known = set(messages()[message].by_name) if message in messages() else made[message]
            assert set(texts) - {""} <= known, message
        for text in texts.values():
            assert text.endswith("."), text
