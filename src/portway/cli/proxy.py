"""`portway proxy`: kubectl proxy's flags, and what it should have been besides."""

import dataclasses
from typing import Any

import click

from portway.cli import cluster, params
from portway.cli.errors import CliError
from portway.client.kubeconfig import KubeconfigError, load
from portway.gateway.filter import FilterRules

_RULES = FilterRules()


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _contexts(text: str, kubeconfig: str) -> tuple[str, ...]:
    if text != "all":
        return _list(text)
    try:
        return tuple(context.name for context in load(kubeconfig).each())
    except KubeconfigError as error:
        raise CliError(str(error)) from error


@click.command("proxy")
@click.option("-p", "--port", type=click.IntRange(0, 65535), default=None, help="port to serve on; 0 = any  [8001]")
@click.option("--address", default="127.0.0.1", metavar="IP", show_default=True, help="address to serve on")
@params.path_option("-u", "--unix-socket", metavar="FILE", help="serve on this unix socket instead")
@click.option("--api-prefix", default="/", metavar="PREFIX", show_default=True, help="path to serve the API under")
@click.option("-w", "--www", default="", metavar="DIR", type=click.Path(), help="also serve the files of a directory")
@click.option("-P", "--www-prefix", default="/static/", metavar="PREFIX", show_default=True, help="… under this path")
@click.option("--accept-paths", default=",".join(_RULES.accept_paths), metavar="REGEXES", show_default=True)
@click.option("--reject-paths", default=",".join(_RULES.reject_paths), metavar="REGEXES", show_default=True)
@click.option("--accept-hosts", default=",".join(_RULES.accept_hosts), metavar="REGEXES", show_default=True)
@click.option("--reject-methods", default=",".join(_RULES.reject_methods), metavar="REGEXES", show_default=True)
@click.option("--disable-filter", is_flag=True, help="let everything through: any page may then be you")
@click.option(
    "--append-server-path/--no-append-server-path",
    default=True,
    show_default=True,
    help="keep the path of the server's URL in front of every request's",
)
@click.option("--keepalive", default="0s", metavar="DURATION", help="taken and not needed: connections are kept alive")
@click.option(
    "--html-sandbox/--no-html-sandbox", default=True, show_default=True, help="pages opened by path get no origin"
)
@click.option(
    "--via",
    type=click.Choice(["auto", "direct", "tunnel", "through"]),
    default="auto",
    show_default=True,
    help="how services are reached: pod addresses, port-forwarding, the API server's proxy verb",
)
@click.option("--cluster-cidr", "cluster_cidrs", multiple=True, metavar="CIDR", help="the cluster's pod addresses")
@click.option(
    "--contexts", default="", metavar="LIST", help="further contexts to serve, at /clusters/NAME/; all = every one"
)
@click.option("--explain", is_flag=True, help="say which way to the services was chosen, and why")
@click.option("--access-log", type=click.Choice(["off", "json", "combined"]), default="off", show_default=True)
@cluster.options
def command(port: int | None, keepalive: str, **said: Any) -> int:  # noqa: ARG001
    """Serve the cluster's API, and its services, on this machine.

    The URLs are those of `kubectl proxy`, with the same flags. Besides, every service has a host name of its own, where
    browsers give it its own cookies, storage and WebSockets: http://NAME.NAMESPACE.localhost:8001/, with another port
    as http://PORT.NAME.NAMESPACE.localhost:8001/. http://localhost:8001/ in a browser lists them.

    \b
    Examples:
      portway proxy                          # and open http://localhost:8001/
      portway proxy --port=0 --context prod
      portway proxy --contexts all           # http://localhost:8001/clusters/NAME/api/v1/…
      curl http://localhost:8001/api/v1/namespaces/default/pods
    """
    from portway.door.errors import DoorError
    from portway.door.proxy import ProxySettings, run

    if said["unix_socket"] and port is not None:
        raise click.UsageError("cannot set --unix-socket and --port at the same time", click.get_current_context())
    names = {option.name for option in dataclasses.fields(ProxySettings)}
    own = {name: said.pop(name) for name in list(said) if name in names and name != "overrides"}
    disabled = said.pop("disable_filter")
    rules = {name: _list(said.pop(name)) for name in ("accept_paths", "reject_paths", "accept_hosts", "reject_methods")}
    www_prefix = "/" + own["www_prefix"].strip("/") + "/"
    own["contexts"] = _contexts(own["contexts"], own["kubeconfig"])
    own["filter"] = None if disabled else FilterRules(**rules, static_prefix=www_prefix if own["www"] else "")
    if disabled and not own["unix_socket"]:
        click.echo("Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious", err=True)
    own["unix_socket"] = str(own["unix_socket"] or "")
    try:
        return run(ProxySettings(**own, port=8001 if port is None else port, overrides=said))
    except DoorError as error:
        raise CliError(str(error)) from error
