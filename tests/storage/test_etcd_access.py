"""Being let in: TLS with certificates of both sides, etcd's own users, tokens that run out; refusals in one line."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from portway.storage import StoreUnavailable
from portway.storage.etcd import EtcdStore
from portway.storage.etcdsettings import EtcdSettings, parse_endpoints
from portway.testing.authority import Authority
from portway.testing.etcd import Member, running


def write_files(directory: Path, authority: Authority, name: str) -> tuple[str, str, str]:
    """(authority, certificate, key)"""
    certificate, key = authority.issue(name)
    files = [directory / f"{name}.{kind}" for kind in ("ca", "crt", "key")]
    for file, content in zip(files, (authority.pem, certificate, key), strict=True):
        file.write_bytes(content)
    return str(files[0]), str(files[1]), str(files[2])


async def is_refused(settings: EtcdSettings, says: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await EtcdStore.open(settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def writes_and_reads(settings: EtcdSettings) -> None:
    store = await EtcdStore.open(settings)
    revision = await store.create("/a", b"1")
    assert (await store.delete("/a", revision)).value == b"1"
    await store.close()


def test_tls_with_certificates_of_both_sides(etcd_binary: Path, tmp_path: Path) -> None:
    authority = Authority()
    ca, certificate, key = write_files(tmp_path, authority, "server")
    _, client_certificate, client_key = write_files(tmp_path, authority, "client")
    other, *_ = write_files(tmp_path, Authority(), "other")
    flags = ("--cert-file", certificate, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth")
    with running(etcd_binary, tmp_path / "etcd", *flags, scheme="https") as member:
        good = replace(member.settings(), ca_file=ca, cert_file=client_certificate, key_file=client_key)

        async def script() -> None:
            await writes_and_reads(good)
            await is_refused(replace(good, ca_file=other), "is its certificate signed by --etcd-cafile")
            await is_refused(replace(good, tls=False, ca_file="", cert_file="", key_file=""), "does it want TLS")
            await is_refused(replace(good, ca_file="/absent"), "--etcd-cafile /absent: No such file")

        asyncio.run(script())


def with_users(etcd: Member) -> None:
    """root, and a user `portway` who may do everything below /portway."""
    etcd.ctl("user", "add", "root:secret")
    etcd.ctl("role", "add", "root")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("role", "add", "portway")
    etcd.ctl("role", "grant-permission", "portway", "--prefix=true", "readwrite", "/portway/")
    etcd.ctl("user", "add", "portway:word")
    etcd.ctl("user", "grant-role", "portway", "portway")
    etcd.ctl("auth", "enable")


def test_etcd_s_own_users_and_a_token_that_is_no_longer_good(etcd: Member, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("word\n")
    wrong = tmp_path / "wrong"
    wrong.write_text("nonsense")
    with_users(etcd)
    good = replace(etcd.settings(), username="portway", password_file=str(password))

    async def script() -> None:
        await writes_and_reads(good)
        await is_refused(etcd.settings(), "give --etcd-username")
        await is_refused(replace(good, password_file=str(wrong)), "user or password is wrong")
        await is_refused(replace(good, prefix="/elsewhere"), "may not read and write all keys below --etcd-prefix")
        store = await EtcdStore.open(good)
        await store.create("/a", b"")
        watch = store.watch("/", store.current_revision())
        await asyncio.to_thread(etcd.kill)
        await asyncio.to_thread(etcd.start)  # it knows of no tokens now
        assert await store.get("/a") is not None
        revision = await store.create("/b", b"")
        assert (await anext(watch)).revision == revision
        await store.close()

    asyncio.run(script())


def test_a_user_is_no_harm_where_none_is_asked_for(etcd: Member, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("word\n")
    asyncio.run(writes_and_reads(replace(etcd.settings(), username="portway", password_file=str(password))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("etcd://a", (("a:2379",), False)),
        ("etcds://a:1,b:2", (("a:1", "b:2"), True)),
        ("https://a:1,https://b:2/", (("a:1", "b:2"), True)),
        ("http://[::1]:2379", (("[::1]:2379",), False)),
        ("etcd://[fd00::1]", (("[fd00::1]:2379",), False)),
    ],
)
def test_addresses(text: str, expected: tuple[tuple[str, ...], bool]) -> None:
    assert parse_endpoints(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "etcd://", "etcd://a:0", "etcd://a:65536", "etcd://a,,b", "etcd://::1", "etcd://u@h", "etcd://a/b", "x"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no host:port|names no etcd"):
        parse_endpoints(text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cert_file": "a"}, "belong together"),
        ({"ca_file": "a"}, "without TLS"),
        ({"username": "a"}, "belong together"),
        ({"prefix": "a"}, "--etcd-prefix"),
        ({"prefix": "/a/"}, "--etcd-prefix"),
        ({"prefix": "/"}, "--etcd-prefix"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        EtcdSettings(endpoints=("a:1",), **changes)  # type: ignore[arg-type]
