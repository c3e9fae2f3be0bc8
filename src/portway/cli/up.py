"""`portway up`: one flag per setting, made from `up.settings`; what runs is `up.run`'s."""

import os
from pathlib import Path
from typing import Any

import click

from portway.cli import params
from portway.up.errors import SettingsError
from portway.up.settings import DEFAULTS, OPTIONS, Option, load
from portway.up.values import Choice, boolean, path

_SWITCHES = frozenset({"demo"})
"""Flags without a value; in the configuration file they are true or false."""


def _help(option: Option) -> str:
    default = DEFAULTS[option.name]
    shown = option.shown_default or (str(default).lower() if isinstance(default, bool) else str(default or ""))
    return f"{option.help}  [default: {shown}]" if shown and option.name not in _SWITCHES else option.help


def _flag(option: Option) -> click.Option:
    name = [f"--{option.name}"]
    if option.name in _SWITCHES:
        return click.Option(name, is_flag=True, default=None, help=_help(option))
    return click.Option(
        name,
        metavar=option.metavar,
        multiple=option.many,
        help=_help(option),
        shell_complete=_completion(option),
    )


def _completion(option: Option) -> params.Complete | None:
    if option.metavar in ("FILE", "DIR"):
        return params.files if option.metavar == "FILE" else params.directories
    if option.parse is boolean:
        return params.words("true", "false")
    return params.words(*option.parse.allowed) if isinstance(option.parse, Choice) else None


def _run(config: str | None, **flags: Any) -> int:
    given = {name.replace("_", "-"): value for name, value in flags.items() if value not in (None, ())}
    settings = load(given, None if config is None else _config_file(config))
    from portway.up.run import up

    return up(settings, dict(os.environ))


def _config_file(text: str) -> Path:
    try:
        return path(text)
    except ValueError as error:
        raise SettingsError(f"--config: {error}", usage=True) from None


command = click.Command(
    "up",
    callback=_run,
    params=[
        click.Option(
            ["--config"],
            metavar="FILE",
            help="YAML file with any of these settings, without their dashes",
            shell_complete=params.files,
        ),
        *map(_flag, OPTIONS.values()),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""Run an embedded cluster and the door to it, in the foreground.

    A small Kubernetes API, its controllers and the gateway start on this machine and keep what they need in DATA-DIR.
    Flags are named as kube-apiserver's where it has the same. A setting is taken from its flag, else from the
    configuration file, else it is the default. SIGHUP reads certificates, tokens and passwords again; Ctrl+C or
    SIGTERM lets requests finish, a second one ends at once.

    \b
    Examples:
      portway up --demo                                   # something to look at, in a browser
      portway up --data-dir ./cluster --secure-port 7443  # keys, users and objects in ./cluster
      portway up --config portway.yaml --access-log json
    \b
    portway.yaml:
      secure-port: 7443
      audit-log-path: /var/log/portway/audit.log
    """,
)
"""The command; `cli` finds it by this name."""
