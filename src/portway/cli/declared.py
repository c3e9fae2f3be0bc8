"""Flags of a command whose settings are declared (`portway.options`): one for each, and --config for a file of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from portway.cli import params
from portway.options.declared import Option, Options
from portway.options.errors import SettingsError
from portway.options.values import Choice, boolean, path


def flags_of(options: Options[Any], switches: frozenset[str] = frozenset()) -> list[click.Parameter]:
    """--config and a flag for each option. `switches` are flags without a value; in the file they are true or false."""
    config = click.Option(
        ["--config"],
        metavar="FILE",
        help="YAML file with any of these settings, without their dashes",
        shell_complete=params.files,
    )
    named = options.by_name.items()
    return [config, *(_flag(one, options.defaults[name], switch=name in switches) for name, one in named)]


def given(flags: Mapping[str, Any]) -> dict[str, object]:
    """The flags that were given, by their names on the command line."""
    return {name.replace("_", "-"): value for name, value in flags.items() if value not in (None, ())}


def config_file(text: str | None) -> Path | None:
    """The path that --config names, None without it. Raises SettingsError."""
    if text is None:
        return None
    try:
        return path(text)
    except ValueError as error:
        raise SettingsError(f"--config: {error}", usage=True) from None


def _help(option: Option, default: Any, *, switch: bool) -> str:
    shown = option.shown_default or (str(default).lower() if isinstance(default, bool) else str(default or ""))
    return f"{option.help}  [default: {shown}]" if shown and not switch else option.help


def _flag(option: Option, default: Any, *, switch: bool) -> click.Option:
    name = [f"--{option.name}"]
    told = _help(option, default, switch=switch)
    if switch:
        return click.Option(name, is_flag=True, default=None, help=told)
    return click.Option(
        name,
        metavar=option.metavar,
        multiple=option.many,
        help=told,
        shell_complete=_completion(option),
    )


def _completion(option: Option) -> params.Complete | None:
    if option.metavar in ("FILE", "DIR"):
        return params.files if option.metavar == "FILE" else params.directories
    if option.parse is boolean:
        return params.words("true", "false")
    return params.words(*option.parse.allowed) if isinstance(option.parse, Choice) else None
