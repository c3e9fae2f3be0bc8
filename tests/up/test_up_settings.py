"""Flags, file and defaults → settings, and what is said when they cannot be."""

import contextlib
import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.options import values
from portway.options.declared import closest
from portway.options.errors import SettingsError
from portway.up.settings import UP, default_data_dir, load


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "portway.yaml"
    file.write_text(text)
    return file


def test_defaults_are_those_of_kube_apiserver_where_it_has_the_same(tmp_path: Path) -> None:
    settings = load({"data-dir": str(tmp_path)})
    assert (settings.bind_address, settings.secure_port, settings.plain_port) == ("127.0.0.1", 6443, 0)
    assert settings.service_cluster_ip_range == "10.96.0.0/16"
    assert settings.service_node_port_range == (30000, 32767)
    assert settings.anonymous_auth is True
    assert settings.etcd_compaction_interval == 300
    assert settings.audiences == ("https://kubernetes.default.svc.cluster.local",)
    assert settings.workers >= 1
    assert settings.server == "https://127.0.0.1:6443"
    assert settings.plain_server == ""


def test_the_demo_opens_the_plain_listener_unless_told_otherwise() -> None:
    assert load({"demo": "true"}).plain_server == "http://127.0.0.1:8080"
    assert load({"demo": "true", "insecure-port": "0"}).plain_port == 0
    assert load({"demo": "true", "insecure-port": "9090"}).plain_port == 9090


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = write(
        tmp_path, "secure-port: 7443\nworkers: 3\nanonymous-auth: false\ncontrollers: ['*', '-endpoints-controller']\n"
    )
    settings = load({"workers": "5"}, file)
    assert (settings.secure_port, settings.workers, settings.anonymous_auth) == (7443, 5, False)
    assert settings.controllers == ("*", "-endpoints-controller")
    assert settings.insecure_port is None


def test_repeated_flags_and_commas_make_one_list() -> None:
    settings = load({"api-audiences": ("a,b", "c")})
    assert settings.api_audiences == ("a", "b", "c")


def test_an_empty_file_is_no_settings(tmp_path: Path) -> None:
    assert UP.read_config(write(tmp_path, "# nothing yet\n")) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("secure_port: 1\n", 'unknown key "secure_port"; did you mean "secure-port"?'),
        ("sekure-port: 1\n", 'did you mean "secure-port"?'),
        ("zzz: 1\n", 'unknown key "zzz"; `portway up --help` lists the names'),
        ("- a\n", "must hold keys and values"),
        ("a: [\n", "not YAML"),
        ("secure-port: [1, 2]\n", "secure-port: must be a single value"),
        ("secure-port:\n", "secure-port: has no value"),
        ("secure-port: 1.5\n", 'secure-port: "1.5" is not a port number'),
        ("secure-port: 2001-12-14\n", 'secure-port: "2001-12-14" is not a port number'),
        ("secure-port: 2001-13-14\n", "not YAML: month must be in 1..12"),
        ("[" * 5000, "nested too deeply"),
        ("controllers: [nope]\n", 'controllers: "nope" is not in the list of known controllers: '),
        ("secure-port: ninety\n", 'secure-port: "ninety" is not a port number'),
        ("config: x\n", 'unknown key "config"'),
    ],
)
def test_a_file_that_cannot_be_is_named_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load({}, file)
    message = str(caught.value)
    assert says in message
    assert message.startswith(str(file))
    assert "\n" not in message
    assert not caught.value.usage


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read") as caught:
        load({}, tmp_path / "absent.yaml")
    assert caught.value.usage


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"secure-port": "0"}, "--secure-port: 0 is not a port to listen on"),
        ({"secure-port": "65536"}, "--secure-port"),
        ({"insecure-port": "-1"}, "--insecure-port"),
        ({"bind-address": "localhost"}, '"localhost" is not an IP address'),
        ({"advertise-address": "door.example"}, '--advertise-address: "door.example" is not an IP address'),
        ({"advertise-address": "0.0.0.0"}, "0.0.0.0 is not the address of one machine that others can reach"),
        ({"advertise-address": "::"}, ":: is not the address of one machine"),
        ({"advertise-address": "224.0.0.1"}, "is not the address of one machine"),
        ({"advertise-address": "169.254.1.1"}, "is not the address of one machine"),
        ({"advertise-address": "fe80::1%eth0"}, "is not an address as others write it"),
        ({"advertise-address": "::ffff:192.0.2.7"}, "is not an address as others write it"),
        (
            {"advertise-address": "2001:db8::7"},
            "--advertise-address 2001:db8::7 and --service-cluster-ip-range 10.96.0.0/16 are of different families",
        ),
        ({"anonymous-auth": "maybe"}, '"maybe" is neither true nor false'),
        ({"service-cluster-ip-range": "10.96.0.0"}, "too small"),
        ({"service-cluster-ip-range": "10.96.0.1/16"}, "not a CIDR"),
        ({"load-balancer-addresses": ["192.0.2.9-192.0.2.1"]}, "not a range of one family in ascending order"),
        ({"load-balancer-addresses": ["10.96.3.0/24"]}, "--service-cluster-ip-range 10.96.0.0/16 overlap"),
        ({"load-balancer-addresses": ["127.63.0.1-127.65.0.1"]}, "--cluster-cidr 127.64.0.0/10 overlap"),
        ({"ingress-domains": ["*.example.com"]}, '--ingress-domains: "*.example.com" is no domain'),
        ({"ingress-domains": ["127.0.0.1/8"]}, "is no domain"),
        ({"service-cluster-ip-range": "10.96.0.0/16,10.97.0.0/16"}, "more than one range of each family"),
        ({"service-cluster-ip-range": "10.96.0.0/16,fd00::/112,fd01::/112"}, "more than one range of each family"),
        ({"service-node-port-range": "32767-30000"}, "ascending order"),
        ({"service-node-port-range": "many"}, "not a range such as 30000-32767"),
        ({"access-log": "xml"}, "not one of off, json, combined"),
        ({"store": "etcd"}, "not one of sqlite, memory"),
        ({"controllers": ("*", "-nope")}, '--controllers: "-nope" is not in the list of known controllers'),
        ({"workers": "0"}, "not between 1 and 256"),
        ({"default-watch-cache-size": "0"}, "0 is too few"),
        ({"etcd-compaction-interval": "soon"}, "not a duration such as 10s"),
        ({"data-dir": ""}, "must not be empty"),
        ({"tls-cert-file": "a"}, "belong together"),
        ({"tls-private-key-file": "a"}, "belong together"),
        ({"secure-port": "9000", "insecure-port": "9000"}, "are both 9000"),
        ({"cluster-cidr": "10.96.4.0/24"}, "overlap"),
    ],
)
def test_a_flag_that_cannot_be_is_a_usage_error_in_one_line(flags: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(flags)
    assert says in str(caught.value)
    assert str(caught.value).startswith("--")
    assert "\n" not in str(caught.value)
    assert caught.value.usage


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/var/state"}, Path("/var/state/portway")),
        ({"XDG_STATE_HOME": "relative"}, Path.home() / ".portway"),
        ({}, Path.home() / ".portway"),
    ],
)
def test_the_data_directory_follows_xdg(environment: dict[str, str], expected: Path) -> None:
    assert default_data_dir(environment) == expected


def test_without_a_home_directory_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user id that the image of a container does not know."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(SettingsError, match="--data-dir"):
        default_data_dir({})


@pytest.mark.parametrize(
    ("bind", "server"),
    [("0.0.0.0", "https://127.0.0.1:6443"), ("::", "https://[::1]:6443"), ("::1", "https://[::1]:6443")],
)
def test_the_server_url_is_one_that_can_be_dialled(bind: str, server: str) -> None:
    assert load({"bind-address": bind}).server == server


@pytest.mark.parametrize(
    ("flags", "advertised"),
    [
        ({}, "127.0.0.1:6443"),
        ({"bind-address": "127.0.0.9", "secure-port": "7443"}, "127.0.0.9:7443"),
        ({"bind-address": "::1"}, "[::1]:6443"),
        ({"bind-address": "0.0.0.0", "advertise-address": "192.0.2.7"}, "192.0.2.7:6443"),
        ({"advertise-address": "127.0.0.1"}, "127.0.0.1:6443"),
        ({"advertise-address": "2001:0db8::7", "service-cluster-ip-range": "fd00::/112"}, "[2001:db8::7]:6443"),
    ],
)
def test_what_is_advertised_is_what_was_said_or_where_the_door_is_bound(flags: dict[str, str], advertised: str) -> None:
    assert load(flags).advertised == advertised


def test_the_administrator_on_this_machine_still_dials_where_the_door_is_bound() -> None:
    assert load({"bind-address": "0.0.0.0", "advertise-address": "192.0.2.7"}).server == "https://127.0.0.1:6443"


def test_every_default_survives_its_own_parser() -> None:
    spelt = {"service-node-port-range": "30000-32767", "anonymous-auth": "true", "demo": "false"}
    for name, default in UP.defaults.items():
        if default not in (None, (), ""):
            assert UP.by_name[name].value(spelt.get(name, default)) == default, name


@given(st.one_of(st.text(), st.text().map(lambda name: f"~{name}")))
def test_parsers_raise_value_error_and_nothing_else(text: str) -> None:
    for option in UP.by_name.values():
        with contextlib.suppress(ValueError):
            option.value(text)


@given(st.integers(1, 65535), st.integers(1, 65535))
def test_port_ranges_round_trip(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert values.port_range(f"{low}-{high}") == (low, high)


@given(st.sampled_from(sorted(UP.by_name)), st.data())
def test_a_misspelt_name_finds_its_neighbour(name: str, data: st.DataObject) -> None:
    if len(name) < 8:
        return
    at = data.draw(st.integers(0, len(name) - 1))
    typo = name[:at] + data.draw(st.sampled_from(string.ascii_lowercase)) + name[at + 1 :]
    assert "did you mean" in closest(typo, UP.by_name)
