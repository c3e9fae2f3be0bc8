"""The same kubeconfig in kubectl's hands and in ours: the server sees the same caller, the user the same reason."""

import asyncio
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from portway.client.api import ApiClient
from portway.client.kubeconfig import KubeconfigError, load
from portway.client.protocol import ApiUnreachable
from portway.testing.authority import Authority
from portway.testing.kubectl import binaries, version
from portway.testing.proxies import FakeProxy, proxying
from portway.testing.scripted import serving

pytestmark = pytest.mark.kubectl

V1 = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


def plugin(name: str, **more: Any) -> dict[str, Any]:
    return {"exec": V1 | {"command": f"./{name}"} | more}


class Caller:
    """What a server can tell of its caller."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        subject = (request.get_extra_info("peercert") or {}).get("subject", ())
        who = [
            (name.lower(), value)
            for name, value in request.headers.items()
            if name.lower().startswith(("authorization", "impersonate-"))
        ]
        self.seen.append({"certificate": subject, "headers": sorted(who), "path": request.path})
        return web.json_response({"gitVersion": "v1"})


@pytest.fixture
def kubectl() -> Path:
    """The newest: its rules are ours."""
    return max(binaries(), key=version)


@dataclass
class Files:
    """A kubeconfig's directory, and who signed what is in it."""

    directory: Path
    authority: Authority


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Certificates ann and bob, token files, and plugins that answer with each kind of credential."""
    authority = Authority()
    (tmp_path / "ca").write_bytes(authority.pem)
    pems = {}
    for name in ("ann", "bob"):
        certificate, key = authority.issue(name)
        (tmp_path / f"{name}.crt").write_bytes(certificate)
        (tmp_path / f"{name}.key").write_bytes(key)
        pems[name] = {"clientCertificateData": certificate.decode(), "clientKeyData": key.decode()}
    (tmp_path / "token").write_text(" from-file \n")
    (tmp_path / "empty").write_text("")
    status = {
        "gives-token": {"token": "plugged"},
        "gives-certificate": pems["ann"],
        "gives-both": pems["ann"] | {"token": "plugged"},
        "gives-nothing": {},
        "gives-half": {"clientKeyData": "x"},
        "gives-old": {"token": "old", "expirationTimestamp": "2020-01-01T00:00:00Z"},
    }
    head: dict[str, Any] = {"apiVersion": V1["apiVersion"], "kind": "ExecCredential"}
    answers = {name: head | {"status": each} for name, each in status.items()}
    answers["gives-beta"] = answers["gives-token"] | {"apiVersion": "client.authentication.k8s.io/v1beta1"}
    answers["gives-no-status"] = head
    for name, answer in answers.items():
        _script(tmp_path / name, f"cat <<'END'\n{json.dumps(answer)}\nEND\n")
    _script(tmp_path / "fails", "exit 3\n")
    _script(tmp_path / "dies", "kill -9 $$\n")
    return Files(tmp_path, authority)


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def write(files: Files, user: dict[str, Any], cluster: dict[str, Any]) -> Path:
    path = files.directory / "config"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


async def theirs(kubectl: Path, config: Path, **environ: str) -> str:
    """What kubectl says of why it couldn't; "" when it could."""
    process = await asyncio.create_subprocess_exec(
        str(kubectl), "--kubeconfig", str(config), "get", "--raw", "/version",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(config.parent), **environ},
    )  # fmt: skip
    _, said = await process.communicate()
    return said.decode() if process.returncode else ""


async def ours(config: Path, **environ: str) -> str:
    try:
        client = ApiClient(load(str(config), environ={**os.environ, **environ}).resolve())
    except KubeconfigError as error:
        return str(error)
    try:
        await client.get("/version")
    except ApiUnreachable as error:
        return str(error)
    finally:
        await client.close()
    return ""


def compared(kubectl: Path, files: Files, user: dict[str, Any], tls: bool = True, **cluster: Any) -> tuple[Any, Any]:
    """(what the server saw or kubectl said, the same of ours)"""

    async def both() -> tuple[Any, Any]:
        caller = Caller()
        context = files.authority.server_context() if tls else None
        async with asyncio.timeout(50), serving(caller, tls=context) as server:
            trust = {"certificate-authority": "ca"} if tls and "insecure-skip-tls-verify" not in cluster else {}
            config = write(files, user, {"server": f"{server}/prefix"} | trust | cluster)
            said = await theirs(kubectl, config)
            first, caller.seen = caller.seen, []
            told = await ours(config)
            return said or first, told or caller.seen

    return asyncio.run(both())


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"token": "t"},
        {"tokenFile": "token"},
        {"tokenFile": "token", "token": "t"},
        {"tokenFile": "none", "token": "t"},
        {"username": "ann", "password": "p:w"},
        {"username": "ann"},
        {"client-certificate": "ann.crt", "client-key": "ann.key"},
        {"client-certificate": "ann.crt", "client-key": "ann.key", "token": "t"},
        {"client-certificate": "ann.crt", "client-key": "ann.key", "username": "u", "password": "p"},
        plugin("gives-token"),
        plugin("gives-certificate"),
        plugin("gives-both"),
        plugin("gives-old"),
        plugin("gives-token") | {"token": "t"},
        plugin("gives-token") | {"tokenFile": "token"},
        plugin("gives-token") | {"username": "u", "password": "p"},
        plugin("gives-both") | {"client-certificate": "bob.crt", "client-key": "bob.key"},
        {"token": "t", "as": "x", "as-uid": "1", "as-groups": ["g", "h"], "as-user-extra": {"A/b_C": ["v w", "é"]}},
        plugin("gives-token") | {"as": "x"},
    ],
    ids=lambda user: "+".join([*user, *([user["exec"]["command"]] if "exec" in user else [])]) or "nobody",
)
@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
def test_the_server_sees_the_same(kubectl: Path, files: Files, user: dict[str, Any], tls: bool) -> None:
    they, we = compared(kubectl, files, user, tls)
    if not user:
        # kubectl asks at the terminal for a name and a password; there is none here, and we never ask.
        assert "EOF" in they or not tls
        return
    assert isinstance(they, list), they
    assert they[:1] == we


@pytest.mark.parametrize("cluster", [{"insecure-skip-tls-verify": True}, {"tls-server-name": "api.example"}])
def test_it_is_reached_in_the_same_ways(kubectl: Path, files: Files, cluster: dict[str, Any]) -> None:
    they, we = compared(kubectl, files, {"token": "t"}, **cluster)
    assert isinstance(they, list), they
    assert they == we


@pytest.mark.parametrize("way", ["proxy-url", "HTTPS_PROXY", "NO_PROXY"])
@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_it_is_reached_through_the_same_proxy(kubectl: Path, files: Files, way: str, kind: str) -> None:
    async def both() -> None:
        caller, nobody = Caller(), Caller()
        async with (
            asyncio.timeout(50),
            serving(caller, tls=files.authority.server_context()) as server,
            serving(nobody),
        ):
            proxy = FakeProxy(int(server.rpartition(":")[2]), socks=kind == "socks5")
            async with proxying(proxy) as port:
                url = f"{kind}://127.0.0.1:{port}"
                cluster = {"server": "https://api.example:1234", "certificate-authority": "ca"}
                environ = {"HTTPS_PROXY": url} if way != "proxy-url" else {}
                if way == "proxy-url":
                    cluster["proxy-url"] = url
                if way == "NO_PROXY":
                    environ["NO_PROXY"] = "x.example,.example:1234"
                config = write(files, {"token": "t"}, cluster)
                said, told = await theirs(kubectl, config, **environ), await ours(config, **environ)
            if way == "NO_PROXY":
                assert said
                assert told
                assert proxy.targets == []
                return
            assert (said, told) == ("", "")
            assert proxy.targets == ["api.example:1234"] * 2
            assert caller.seen[0] == caller.seen[1]

    asyncio.run(both())


@pytest.mark.parametrize(
    "user",
    [
        plugin("fails"),
        plugin("dies"),
        plugin("missing"),
        plugin("gives-nothing"),
        plugin("gives-half"),
        plugin("gives-beta"),
        plugin("gives-no-status"),
        plugin("gives-token", interactiveMode="Always"),
        plugin("gives-token", interactiveMode="Sometimes"),
        plugin("gives-token", apiVersion="client.authentication.k8s.io/v1alpha1"),
        plugin("gives-token", env=[{"value": "x"}]),
        plugin("gives-token") | {"auth-provider": {"name": "gcp"}},
        {"exec": {"command": "x"}},
        {"auth-provider": {"name": "gcp"}},
        {"auth-provider": {"name": "foo"}},
        {"token": "a", "username": "b", "password": "c"},
        {"tokenFile": "token", "username": "b"},
        {"as-groups": ["x"]},
        {"client-certificate": "none", "client-key": "none"},
        {"client-certificate-data": "eA=="},
        {"tokenFile": "none"},
    ],
    ids=lambda user: "+".join([*user, *(str(v) for v in user.get("exec", {}).values())]),
)
def test_the_user_is_told_the_same(kubectl: Path, files: Files, user: dict[str, Any]) -> None:
    """kubectl's reasons are in ours, each; what it says around them isn't."""
    they, we = compared(kubectl, files, user)
    assert isinstance(they, str)
    assert isinstance(we, str)
    for line in they.splitlines():
        reason = line.removeprefix("Unable to connect to the server: ").removeprefix("error: ").removeprefix("* ")
        if reason != "Error in configuration: " and not reason.startswith("See https://"):
            assert reason in we


@pytest.mark.parametrize(
    "cluster",
    [
        {"proxy-url": "ftp://x"},
        {"proxy-url": "127.0.0.1:3"},
        {"certificate-authority": "none"},
        {"certificate-authority-data": "eA=="},
    ],
    ids=lambda cluster: "+".join(f"{key}={value}" for key, value in cluster.items()),
)
def test_the_user_is_told_the_same_of_clusters(kubectl: Path, files: Files, cluster: dict[str, Any]) -> None:
    they, we = compared(kubectl, files, {"token": "t"}, **cluster)
    assert they.strip().removeprefix("error: ") in we
