"""`portway gateway`: one flag per setting, made from `door.settings`; what runs is `door.gateway`'s."""

import os
from typing import Any

import click

from portway.cli.declared import config_file, flags_of, given
from portway.cli.errors import CliError
from portway.door.settings import GATEWAY, load


def _run(config: str | None, **flags: Any) -> int:
    settings = load(given(flags), config_file(config))
    from portway.door.errors import DoorError
    from portway.door.gateway import run

    try:
        return run(settings, dict(os.environ))
    except DoorError as error:
        raise CliError(str(error)) from error


command = click.Command(
    "gateway",
    callback=_run,
    params=flags_of(GATEWAY),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="""Run a door for a team, in front of a cluster that a kubeconfig names, or of the one that it runs in.

    People log in with what they have: the cluster's own tokens, OIDC, client certificates, passwords. The cluster's
    RBAC decides what they may reach, and to its API server they are who they are (the door impersonates them). Services
    are reached directly where pod addresses can be, and never through the API server then. SIGHUP reads certificates,
    tokens and passwords again; SIGTERM lets requests finish.

    \b
    Examples:
      portway gateway --tls-cert-file tls.crt --tls-private-key-file tls.key
      portway gateway --config gateway.yaml --domain apps.example.com
    \b
    gateway.yaml:
      tls-cert-file: /etc/portway/tls.crt
      tls-private-key-file: /etc/portway/tls.key
      oidc-issuer-url: https://login.example.com
      oidc-client-id: portway
    """,
)
"""The command; `cli` finds it by this name."""
