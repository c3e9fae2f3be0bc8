"""Limits: each can be set by its name, each is documented, and nonsense is refused in one line."""

import dataclasses
from pathlib import Path

import pytest

from portway.gateway.settings import Limits
from portway.options.errors import SettingsError
from portway.up.settings import load

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()


@pytest.mark.parametrize(("field", "default"), dataclasses.asdict(Limits()).items())
def test_every_limit_is_documented_with_its_default_and_can_be_set(field: str, default: float, tmp_path: Path) -> None:
    name = field.replace("_", "-")
    assert f"| `{name}` | {default:g} |" in DOCUMENTED
    settings = load({"data-dir": str(tmp_path), "limit": [f"{name}=7"]})
    changed = dict(settings.limit)
    assert changed == {field: 7}
    assert isinstance(changed[field], type(default))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("header-bytes", "is not NAME=VALUE"),
        ("nonsense=3", "is not NAME=VALUE with one of the names header-bytes"),
        ("header-bytes=many", '"many" is no number for header-bytes'),
        ("idle-timeout=-1", "must be more than 0"),
        ("connections=0", "must be more than 0"),
        ("body-timeout=inf", "must be more than 0"),
        ("body-timeout=nan", "must be more than 0"),
    ],
)
def test_nonsense_is_refused(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=why):
        load({"data-dir": str(tmp_path), "limit": [text]})
