"""What `portway gateway` was asked to do: one frozen, validated object. `gateway.py` takes it from here."""
# ruff: noqa: RUF009 - `option` makes a dataclass field, it is no default value

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.options import values
from portway.options.declared import Options, option
from portway.options.errors import SettingsError


def _limit(value: str) -> tuple[str, float]:
    from portway.gateway.settings import limit  # here, because few starts change one

    return limit(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Everything that `portway gateway` can be told. Flag names are kube-apiserver's where it has the same thing."""

    kubeconfig: Path | None = option(
        values.path,
        "FILE",
        "the cluster, and who the door is there",
        shown_default="$KUBECONFIG, ~/.kube/config, or the pod's service account",
    )
    context: str = option(values.text, "NAME", "context of the kubeconfig", default="", shown_default="the current one")
    bind_address: str = option(values.address, "IP", "address of the TLS listener", default="0.0.0.0")  # noqa: S104
    secure_port: int = option(values.listening_port, "PORT", "port of the TLS listener", default=8443)
    tls_cert_file: Path | None = option(values.path, "FILE", "serving certificate and its chain, PEM (needed)")
    tls_private_key_file: Path | None = option(values.path, "FILE", "key of --tls-cert-file, PEM (needed)")
    insecure_port: int = option(
        values.port, "PORT", "plain HTTP on 127.0.0.1, for probes and sidecars; 0 = off", default=0
    )
    domain: tuple[str, ...] = option(
        values.text,
        "NAME",
        "domain with a wildcard record: services are at NAME.NAMESPACE.DOMAIN, each an origin of its own",
        many=True,
        default=(),
        shown_default="services by path only",
    )
    client_ca_file: Path | None = option(values.path, "FILE", "authorities of client certificates")
    token_auth_file: Path | None = option(values.path, "FILE", 'static tokens: CSV of token,user,uid,"group1,group2"')
    basic_auth_file: Path | None = option(values.path, "FILE", "users and password hashes (htpasswd: bcrypt, argon2)")
    anonymous_auth: bool = option(
        values.boolean, "BOOL", "let requests without a credential be system:anonymous", default=True
    )
    authentication_token_webhook: bool = option(
        values.boolean, "BOOL", "ask the cluster about bearer tokens (TokenReview)", default=True
    )
    authentication_token_webhook_cache_ttl: float = option(
        values.seconds, "SECONDS", "how long the cluster's yes to a token is believed", default=10.0
    )
    api_audiences: tuple[str, ...] = option(
        values.text, "LIST", "audiences of such tokens", many=True, default=(), shown_default="the API server's"
    )
    authentication_config: Path | None = option(
        values.path, "FILE", "AuthenticationConfiguration: issuers of JWTs that the door verifies itself"
    )
    oidc_issuer_url: str = option(values.text, "URL", "one issuer by flags instead", default="")
    oidc_client_id: str = option(values.text, "ID", "audience of its tokens", default="")
    oidc_ca_file: Path | None = option(values.path, "FILE", "authority of the issuer's certificate")
    oidc_username_claim: str = option(values.text, "CLAIM", "claim with the user's name", default="sub")
    oidc_username_prefix: str = option(
        values.text, "TEXT", "in front of user names; - = nothing", default="", shown_default="the issuer and #"
    )
    oidc_groups_claim: str = option(values.text, "CLAIM", "claim with the user's groups", default="")
    oidc_groups_prefix: str = option(values.text, "TEXT", "in front of group names", default="")
    oidc_signing_algs: tuple[str, ...] = option(
        values.text, "LIST", "accepted signatures", many=True, default=("RS256",), shown_default="RS256"
    )
    oidc_required_claim: tuple[str, ...] = option(
        values.text, "CLAIM=VALUE", "what a token must say besides", many=True, default=()
    )
    authorization_mode: str = option(
        values.choice("Webhook", "RBAC"),
        "MODE",
        "Webhook = ask the cluster (SubjectAccessReview); RBAC = decide by its roles, which the door must then list",
        default="Webhook",
    )
    authorization_webhook_cache_authorized_ttl: float = option(
        values.seconds, "SECONDS", "how long the cluster's yes is believed", default=10.0
    )
    authorization_webhook_cache_unauthorized_ttl: float = option(
        values.seconds, "SECONDS", "how long its no is believed", default=10.0
    )
    outage_grace: float = option(
        values.seconds,
        "SECONDS",
        "how long both are believed beyond that while the cluster's API does not answer",
        default=60.0,
    )
    namespaces: tuple[str, ...] = option(
        values.text, "LIST", "namespaces to serve", many=True, default=(), shown_default="all"
    )
    via: str = option(
        values.choice("auto", "direct", "tunnel", "through"),
        "WAY",
        "how services are reached: pod addresses, port-forwarding, the API server's proxy verb, or what works best",
        default="auto",
    )
    cluster_cidr: tuple[str, ...] = option(
        values.network, "CIDR", "pod addresses that are special otherwise (loopback)", many=True, default=()
    )
    html_sandbox: bool = option(
        values.boolean,
        "BOOL",
        "give services' pages an origin of their own in browsers that send a password or certificate by themselves",
        default=True,
    )
    audit_log_path: str = option(values.output_path, "FILE", "where audit events go; - = standard output", default="")
    audit_policy_file: Path | None = option(
        values.path, "FILE", "audit.k8s.io/v1 Policy", shown_default="metadata of all"
    )
    access_log: str = option(values.choice("off", "json", "combined"), "FORMAT", "off, json or combined", default="off")
    access_log_path: str = option(
        values.output_path, "FILE", "where the access log goes; - = standard output", default="-"
    )
    limit: tuple[tuple[str, float], ...] = option(
        _limit,
        "NAME=VALUE",
        "a bound on what clients and backends may take, such as header-bytes=32768; docs/limits.md lists them",
        many=True,
        default=(),
        shown_default="none changed",
    )
    workers: int = option(values.workers, "N", "gateway processes", shown_default="one per core")


GATEWAY: Options[GatewayOptions] = Options(GatewayOptions, "portway gateway")


def load(flags: Mapping[str, object], config_file: Path | None = None) -> GatewayOptions:
    """Settings from flags, a YAML file and the defaults. Raises SettingsError with one line."""
    chosen = GATEWAY.given(flags, config_file)
    chosen.setdefault("workers", len(os.sched_getaffinity(0)))
    settings = GatewayOptions(**chosen)
    if settings.tls_cert_file is None or settings.tls_private_key_file is None:
        raise SettingsError(
            "--tls-cert-file and --tls-private-key-file are needed: a door has a certificate", usage=True
        )
    if settings.insecure_port == settings.secure_port:
        raise SettingsError(
            f"--insecure-port and --secure-port are both {settings.secure_port}: change one", usage=True
        )
    return settings
