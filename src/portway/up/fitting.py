"""Settings of `portway up` that must fit one another. Each by itself is its parser's; files are `given.py`'s."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from portway.options.errors import SettingsError

if TYPE_CHECKING:
    from portway.up.settings import UpSettings


def check(settings: UpSettings) -> None:
    """Raises SettingsError for the first that don't."""
    _check_etcd(settings)
    if (settings.tls_cert_file is None) != (settings.tls_private_key_file is None):
        raise SettingsError(
            "--tls-cert-file and --tls-private-key-file belong together: give both or neither", usage=True
        )
    if settings.plain_port == settings.secure_port:
        raise SettingsError(
            f"--insecure-port and --secure-port are both {settings.secure_port}: change one", usage=True
        )
    _check_load_balancer_addresses(settings)
    _check_advertised(settings)
    pods = ipaddress.ip_network(settings.cluster_cidr)
    for services in map(ipaddress.ip_network, settings.service_cluster_ip_range.split(",")):
        if services.version == pods.version and services.overlaps(pods):
            raise SettingsError(
                f"--service-cluster-ip-range {services} and --cluster-cidr {pods} overlap: change one", usage=True
            )


def _check_advertised(settings: UpSettings) -> None:
    """As kube-apiserver: default/kubernetes has an address of one family, and endpoints of another are none of its."""
    services = settings.service_cluster_ip_range.partition(",")[0]
    advertised = settings.advertise_address
    if advertised and ipaddress.ip_address(advertised).version != ipaddress.ip_network(services).version:
        raise SettingsError(
            f"--advertise-address {advertised} and --service-cluster-ip-range {services} are of different families: "
            "change one",
            usage=True,
        )


def _check_load_balancer_addresses(settings: UpSettings) -> None:
    """What is a service's or a pod's can't be a load balancer's."""
    if not settings.load_balancer_addresses:
        return
    from portway.controllers.addresspool import parse  # here, because few starts give any

    ranges = [("--cluster-cidr", settings.cluster_cidr)]
    ranges += [("--service-cluster-ip-range", one) for one in settings.service_cluster_ip_range.split(",")]
    for text in settings.load_balancer_addresses:
        for flag, cidr in ranges:
            if parse(text).overlaps(cidr):
                raise SettingsError(
                    f"--load-balancer-addresses {text} and {flag} {cidr} overlap: change one", usage=True
                )


def _check_etcd(settings: UpSettings) -> None:
    if settings.etcd is not None:
        return
    given = [name for name in _ETCD_FLAGS if getattr(settings, name)]
    if given:
        raise SettingsError(
            f"--{given[0].replace('_', '-')} is for --store etcd://…, the store is {settings.store}: drop one",
            usage=True,
        )


_ETCD_FLAGS = ("etcd_cafile", "etcd_certfile", "etcd_keyfile", "etcd_username", "etcd_password_file")
