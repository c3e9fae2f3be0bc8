"""`portway gateway`: a door for a team, beside or inside a cluster. A supervisor and its workers; nothing else.

Whoever comes is identified by what they have (a certificate, the cluster's own tokens, OIDC, a password), authorised
by the cluster's rules, and to the API server is who they are, by impersonation.
"""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from portway.client.kubeconfig import KubeconfigError
from portway.door.errors import DoorError
from portway.door.settings import GatewayOptions
from portway.gateway.assembly import cluster_config
from portway.gateway.settings import (
    Authentication,
    ClusterSettings,
    Delegation,
    GatewaySettings,
    Limits,
    Record,
)
from portway.gateway.supervisor import Child, Supervisor

_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy",
    "http_proxy", "no_proxy",
)  # fmt: skip


def run(settings: GatewayOptions, environment: Mapping[str, str]) -> int:
    """Serves until SIGTERM; the exit code. Raises DoorError when it cannot start."""
    _check(settings)
    try:
        run_dir = tempfile.TemporaryDirectory(prefix="portway-gateway-")
    except OSError as error:
        raise DoorError(f"there is no directory for the workers' counters: {error}; $TMPDIR names another") from error
    with run_dir as path:
        return _supervised(settings, gateway_settings(settings, path), environment)


def _supervised(settings: GatewayOptions, gateway: GatewaySettings, environment: Mapping[str, str]) -> int:
    inherited = {name: environment[name] for name in _INHERITED if name in environment}
    children = [
        Child(
            name=f"gateway worker {index}",
            argv=(sys.executable, "-m", "portway.door.worker", str(index)),
            env=inherited | {"PORTWAY_PARENT_PID": str(os.getpid())},
            input=gateway.to_json().encode(),
        )
        for index in range(settings.workers)
    ]
    return asyncio.run(Supervisor(children).run())


def _check(settings: GatewayOptions) -> None:
    """Everything that can be found to be wrong before a worker starts."""
    try:
        cluster_config(gateway_settings(settings).clusters[0])
    except KubeconfigError as error:
        raise DoorError(f"{error}; --kubeconfig or $KUBECONFIG names another file") from error
    family = socket.AF_INET6 if ":" in settings.bind_address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.bind_address, settings.secure_port))
        except OSError as error:
            raise DoorError(
                f"cannot listen on {settings.bind_address} port {settings.secure_port}: {error.strerror}; "
                "--secure-port and --bind-address choose another"
            ) from error


def gateway_settings(settings: GatewayOptions, run_dir: str = "") -> GatewaySettings:
    """What the workers are told. `run_dir`: where they leave each other their counters."""
    changed: dict[str, Any] = dict(settings.limit)
    return GatewaySettings(
        clusters=(
            ClusterSettings(
                name=settings.context or "the cluster",
                kubeconfig=str(settings.kubeconfig or ""),
                overrides={"context": settings.context} if settings.context else {},
                identity="impersonate",
                authorization_mode=settings.authorization_mode,
                via=settings.via,
                namespaces=settings.namespaces,
                cluster_cidrs=settings.cluster_cidr,
            ),
        ),
        bind_address=settings.bind_address,
        secure_port=settings.secure_port,
        tls_cert_file=str(settings.tls_cert_file),
        tls_private_key_file=str(settings.tls_private_key_file),
        insecure_port=settings.insecure_port or None,
        workers=settings.workers,
        html_sandbox=settings.html_sandbox,
        host_bases=settings.domain,
        limits=Limits(**changed),
        authentication=_authentication(settings),
        delegation=_delegation(settings),
        record=_record(settings, run_dir),
    )


def _authentication(settings: GatewayOptions) -> Authentication:
    return Authentication(
        anonymous_auth=settings.anonymous_auth,
        token_auth_file=_name(settings.token_auth_file),
        basic_auth_file=_name(settings.basic_auth_file),
        client_ca_file=_name(settings.client_ca_file),
    )


def _delegation(settings: GatewayOptions) -> Delegation:
    return Delegation(
        authentication_config=_name(settings.authentication_config),
        oidc_issuer_url=settings.oidc_issuer_url,
        oidc_client_id=settings.oidc_client_id,
        oidc_ca_file=_name(settings.oidc_ca_file),
        oidc_username_claim=settings.oidc_username_claim,
        oidc_username_prefix=settings.oidc_username_prefix,
        oidc_groups_claim=settings.oidc_groups_claim,
        oidc_groups_prefix=settings.oidc_groups_prefix,
        oidc_signing_algs=settings.oidc_signing_algs,
        oidc_required_claims=settings.oidc_required_claim,
        authentication_token_webhook=settings.authentication_token_webhook,
        token_review_audiences=settings.api_audiences,
        authentication_token_webhook_cache_ttl=settings.authentication_token_webhook_cache_ttl,
        authorization_webhook_cache_authorized_ttl=settings.authorization_webhook_cache_authorized_ttl,
        authorization_webhook_cache_unauthorized_ttl=settings.authorization_webhook_cache_unauthorized_ttl,
        outage_grace=settings.outage_grace,
    )


def _record(settings: GatewayOptions, run_dir: str) -> Record:
    return Record(
        audit_log_path=settings.audit_log_path,
        audit_policy_file=_name(settings.audit_policy_file),
        access_log=settings.access_log,
        access_log_path=settings.access_log_path,
        run_dir=run_dir,
    )


def _name(path: object) -> str:
    return str(path or "")
