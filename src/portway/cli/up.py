"""`portway up`: one flag per setting, made from `up.settings`; what runs is `up.run`'s."""

import os
from typing import Any

import click

from portway.cli.declared import config_file, flags_of, given
from portway.up.settings import UP, load


def _run(config: str | None, **flags: Any) -> int:
    settings = load(given(flags), config_file(config))
    from portway.up.run import up

    return up(settings, dict(os.environ))


command = click.Command(
    "up",
    callback=_run,
    params=flags_of(UP, switches=frozenset({"demo"})),
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
