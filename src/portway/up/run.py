"""The supervising process of `portway up`: checks, first-run set-up, then the control process and the gateway workers.

Everything that can be wrong is found here, before a child starts, and is one line (`UpError`). What runs afterwards is
`gateway.supervisor`'s to keep running. The terminal's text is `banner.py`'s.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from portway.gateway.l4.settings import ServiceProxySettings
from portway.gateway.settings import Authentication, ClusterSettings, GatewaySettings, Limits, Record
from portway.gateway.supervisor import Child, Supervisor
from portway.kube.ingresshosts import IngressHosts
from portway.up import bootstrap, certificates, datadir, listeners, stores
from portway.up.banner import Banner
from portway.up.bootstrap import Credentials
from portway.up.controlsettings import ControlSettings
from portway.up.datadir import DataDir
from portway.up.settings import PLAIN_ADDRESS, UpSettings

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_API_BACKLOG = 1024


def up(settings: UpSettings, environment: Mapping[str, str]) -> int:
    """Run a cluster until it is told to stop; the exit code. Raises UpError when it cannot start."""
    # Whoever holds the lock may be told to reload (`portway user` does): until the supervisor has a handler for that,
    # everything is still being read for the first time.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listeners.check(_listeners(settings))
    if settings.etcd is not None:
        stores.check(settings.etcd)
    directory = datadir.prepare(settings.data_dir)
    with contextlib.closing(datadir.take_lock(directory)):
        datadir.clear_run(directory)
        credentials = bootstrap.bootstrap(settings, directory)
        with listening(directory.api_socket) as api, listening(directory.streams_socket) as streams:
            children = _children(settings, directory, credentials, (api, streams), environment)
            return asyncio.run(_supervise(settings, directory, credentials, children))


async def _supervise(settings: UpSettings, directory: DataDir, credentials: Credentials, children: list[Child]) -> int:
    supervisor = _Supervisor(settings, directory, children)
    banner = Banner(settings, credentials, directory)
    telling = asyncio.create_task(banner.when_ready(), name="banner")
    try:
        return await supervisor.run()
    finally:
        telling.cancel()


class _Supervisor(Supervisor):
    """Brings the joined files up to date before the children read them again."""

    def __init__(self, settings: UpSettings, directory: DataDir, children: list[Child]) -> None:
        super().__init__(children)
        self._up_settings = settings
        self._directory = directory

    def signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            for problem in bootstrap.join_trust(self._up_settings, self._directory):
                print(f"portway: reload: {problem}; what was read before stays in force", file=sys.stderr, flush=True)
        super().signal(number)


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket of the control process, for the owner alone (0600). It outlives the process that serves it."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_API_BACKLOG)
        yield listener


def _listeners(settings: UpSettings) -> list[listeners.Listener]:
    found = [listeners.Listener(settings.bind_address, settings.secure_port, "--secure-port", "--bind-address")]
    if settings.plain_port:
        found.append(listeners.Listener(PLAIN_ADDRESS, settings.plain_port, "--insecure-port", "--insecure-port 0"))
    return found


def _children(
    settings: UpSettings,
    directory: DataDir,
    credentials: Credentials,
    inherited_sockets: tuple[socket.socket, socket.socket],
    environment: Mapping[str, str],
) -> list[Child]:
    """The control process first: it is stopped last."""
    inherited = {name: environment[name] for name in _INHERITED if name in environment}
    descriptors = (inherited_sockets[0].fileno(), inherited_sockets[1].fileno())
    control = control_settings(settings, directory, credentials, descriptors, inherited)
    gateway = gateway_settings(settings, directory, credentials).to_json().encode()
    env = inherited | {"PORTWAY_PARENT_PID": str(os.getpid())}
    children = [
        Child(
            name="control",
            argv=(sys.executable, "-m", "portway.up.control"),
            env=env,
            input=control.to_json(),
            pass_fds=descriptors,
        )
    ]
    for index in range(settings.workers):
        argv = (sys.executable, "-m", "portway.gateway.worker", str(index))
        children.append(Child(name=f"gateway worker {index}", argv=argv, env=env, input=gateway))
    if settings.proxy_mode != "none":
        command = (sys.executable, "-m", "portway.gateway.l4")
        told = service_proxy_settings(settings, directory).to_json().encode()
        children.append(Child(name="service proxy", argv=command, env=env, input=told))
    return children


def control_settings(
    settings: UpSettings,
    directory: DataDir,
    credentials: Credentials,
    descriptors: tuple[int, int],
    inherited: dict[str, str],
) -> ControlSettings:
    """What the control process is told."""
    log_dir = directory.run / "logs"
    log_dir.mkdir(mode=0o700, exist_ok=True)
    return ControlSettings(
        socket_fd=descriptors[0],
        streams_fd=descriptors[1],
        socket_path=str(directory.api_socket),
        database=str(directory.database) if settings.store == "sqlite" else "",
        etcd=settings.etcd,
        identity=certificates.fingerprint((directory.pki / "ca.crt").read_bytes()),
        node=settings.node_name,
        tokens=str(credentials.tokens),
        signing_key=str(credentials.signing_key),
        key_files=tuple(str(file) for file in settings.service_account_key_file),
        issuer=settings.service_account_issuer,
        audiences=settings.audiences,
        authority=(str(directory.pki / "ca.crt"), str(directory.pki / "ca.key")),
        jwks_uri=settings.service_account_jwks_uri,
        root_ca=credentials.anchor.decode(),
        service_cluster_ip_range=settings.service_cluster_ip_range,
        service_node_port_range=settings.service_node_port_range,
        advertise=settings.advertised,
        compaction_seconds=settings.etcd_compaction_interval,
        watch_history=settings.default_watch_cache_size,
        controllers=",".join(settings.controllers),
        load_balancer_addresses=settings.load_balancer_addresses,
        ingress_own=credentials.names,
        ingress_domains=settings.ingress_domains,
        cluster_cidr=settings.cluster_cidr,
        seed=str(directory.root),
        log_dir=str(log_dir),
        demo=settings.demo,
        environment=inherited | {"PYTHONUNBUFFERED": "1"},
    )


def service_proxy_settings(settings: UpSettings, directory: DataDir) -> ServiceProxySettings:
    """What the service proxy is told."""
    changed: dict[str, Any] = dict(settings.limit)
    return ServiceProxySettings(
        api_socket=str(directory.api_socket),
        node=settings.node_name,
        nodeport_addresses=settings.nodeport_addresses,
        interface=settings.interface,
        own_interface=not settings.service_interface,
        door=tuple((listener.host, listener.port) for listener in _listeners(settings)),
        api_door=(settings.bind_address, settings.secure_port),
        cluster_cidrs=(settings.cluster_cidr,),
        limits=Limits(**changed),
    )


def gateway_settings(settings: UpSettings, directory: DataDir, credentials: Credentials) -> GatewaySettings:
    """What the gateway workers are told."""
    changed: dict[str, Any] = dict(settings.limit)
    metrics = directory.run / "gateway"
    metrics.mkdir(mode=0o700, exist_ok=True)
    return GatewaySettings(
        clusters=(
            ClusterSettings(
                api_socket=str(directory.api_socket),
                streams_socket=str(directory.streams_socket),
                cluster_cidrs=(settings.cluster_cidr,),
                endpoints_without_pods=settings.proxy_endpoints_without_pods,
                external_names=settings.proxy_external_names,
                kubelet_ca_file=str(settings.kubelet_certificate_authority or ""),
            ),
        ),
        bind_address=settings.bind_address,
        secure_port=settings.secure_port,
        tls_cert_file=str(credentials.tls_cert),
        tls_private_key_file=str(credentials.tls_key),
        insecure_port=settings.plain_port or None,
        workers=settings.workers,
        html_sandbox=settings.html_sandbox,
        ingress=IngressHosts(credentials.names, settings.ingress_domains),
        limits=Limits(**changed),
        authentication=Authentication(
            anonymous_auth=settings.anonymous_auth,
            token_auth_file=str(credentials.tokens),
            basic_auth_file=str(credentials.htpasswd),
            client_ca_file=str(credentials.client_ca),
            service_account_key_files=tuple(
                str(file) for file in (credentials.signing_key, *settings.service_account_key_file)
            ),
            service_account_issuer=settings.service_account_issuer,
            api_audiences=settings.audiences,
        ),
        record=Record(
            audit_log_path=settings.audit_log_path,
            audit_policy_file=str(settings.audit_policy_file or ""),
            audit_log_maxsize=settings.audit_log_maxsize,
            audit_log_maxbackup=settings.audit_log_maxbackup,
            access_log=settings.access_log,
            access_log_path=settings.access_log_path,
            run_dir=str(metrics),
        ),
    )
