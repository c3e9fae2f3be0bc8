"""Credential plugins: what they are told, what they answer, when they are run. The programs are real."""

import asyncio
import json
import os
import pty
import ssl
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop
import yaml
from aiohttp import web

from portway.client.api import ApiClient, ClusterConfig
from portway.client.credentials import Credential, CredentialError
from portway.client.execcredentials import ExecCredentials, PluginProcess
from portway.client.execplugin import ExecPlugin, ExecStatus, decoded, exec_info, is_interactive
from portway.client.kubeconfig import load
from portway.client.protocol import ApiUnreachable
from portway.client.tls import TlsSettings
from portway.kube.errors import Unauthorized
from portway.testing.authority import Authority
from portway.testing.scripted import ScriptedApi, listing, serving

V1, BETA = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
PLUGIN = ExecPlugin(V1, "plugin", interactive_mode="Never")
MINUTE = "1970-01-01T00:01:00Z"
INSECURE = TlsSettings(verify=False)


def answer(version: str = V1, kind: str = "ExecCredential", **status: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "status": status}


def run(task: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(30):
            return await task

    return asyncio.run(bounded())


# What they answer


@pytest.mark.parametrize(
    ("stdout", "status"),
    [
        (answer(token="t"), ExecStatus("t")),
        (answer(clientCertificateData="c", clientKeyData="k"), ExecStatus("", "c", "k")),
        (answer(token="t", clientCertificateData="c", clientKeyData="k"), ExecStatus("t", "c", "k")),
        (answer(token="t", expirationTimestamp="1970-01-01T00:01:00Z"), ExecStatus("t", expires=60)),
        (answer(token="t", expirationTimestamp="1970-01-01T01:01:00.5+01:00"), ExecStatus("t", expires=60.5)),
        (answer(token="t", expirationTimestamp=None, other=1), ExecStatus("t")),
        (answer(token="t", expirationTimestamp="0001-01-01T00:00:00Z"), ExecStatus("t")),
        (
            f"apiVersion: {V1}\nkind: ExecCredential\nstatus: {{token: 12e4, expirationTimestamp: {MINUTE}}}",
            ExecStatus("12e4", expires=60),
        ),
    ],
)
def test_answers(stdout: Any, status: ExecStatus) -> None:
    text = stdout if isinstance(stdout, str) else json.dumps(stdout)
    assert decoded(PLUGIN, text.encode()) == status


@pytest.mark.parametrize(
    ("stdout", "message"),
    [
        ("hello s3cret", "decoding stdout: couldn't get version/kind; json parse error: not an object"),
        ("", "decoding stdout: couldn't get version/kind; json parse error: not an object"),
        ('{"s3cret": "', "decoding stdout: couldn't get version/kind; json parse error: neither JSON nor YAML"),
        ("\xff", "decoding stdout: couldn't get version/kind; json parse error: neither JSON nor YAML"),
        ("[" * 100_000, "decoding stdout: couldn't get version/kind; json parse error: neither JSON nor YAML"),
        (answer(kind="Foo"), f'decoding stdout: no kind "Foo" is registered for version "{V1}"'),
        ({"kind": 1}, "decoding stdout: couldn't get version/kind; json parse error: they are not strings"),
        (
            answer(version=BETA),
            f"exec plugin is configured to use API version {V1}, plugin returned version {BETA}",
        ),
        ({"apiVersion": V1, "kind": "ExecCredential"}, "exec plugin didn't return a status field"),
        (answer() | {"status": "s3cret"}, "decoding stdout: status is not an object"),
        (answer(), "exec plugin didn't return a token or cert/key pair"),
        (answer(token="s3cret", clientKeyData="k"), "exec plugin returned only certificate or key, not both"),
        (answer(token=5), "decoding stdout: status.token is not of type string"),
        (answer(token="t", expirationTimestamp="soon"), 'decoding stdout: parsing time "soon" as RFC 3339'),
        (answer(token="t", expirationTimestamp="2026-01-01"), 'decoding stdout: parsing time "2026-01-01" as RFC 3339'),
    ],
)
def test_answers_that_are_none(stdout: Any, message: str) -> None:
    """kubectl 1.37's words, but for what it says of Go's types."""
    text = stdout if isinstance(stdout, str) else json.dumps(stdout)
    with pytest.raises(CredentialError) as caught:
        decoded(PLUGIN, text.encode("latin-1"))
    assert str(caught.value) == message


# What they are told


def test_what_a_plugin_is_told() -> None:
    """Byte for byte what kubectl 1.37 wrote, but for its last newline."""
    assert exec_info(PLUGIN, False) == (
        '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}'
    )


@pytest.mark.parametrize(
    ("mode", "terminal", "interactive"),
    [
        ("Never", True, False),
        ("IfAvailable", True, True),
        ("IfAvailable", False, False),
        ("Always", True, True),
    ],
)
def test_interactive_modes(mode: str, terminal: bool, interactive: bool) -> None:
    assert is_interactive(replace(PLUGIN, interactive_mode=mode), terminal) == interactive


def test_one_that_must_be_interactive_and_cannot() -> None:
    with pytest.raises(CredentialError, match=r"^exec plugin cannot support interactive mode: standard input is not a"):
        is_interactive(replace(PLUGIN, interactive_mode="Always"), False)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n" + textwrap.dedent(body))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def kubeconfig(tmp_path: Path, plugin: dict[str, Any], **cluster: Any) -> Path:
    described = {"apiVersion": V1, "interactiveMode": "Never", "command": "./plugin"} | plugin
    path = tmp_path / "config"
    content = {
        "current-context": "c",
        "contexts": [
            {"name": name, "context": {"cluster": "c", "user": "u", "namespace": name}} for name in ("c", "d")
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example/p/"} | cluster}],
        "users": [{"name": "u", "user": {"exec": described}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


TELLS = """
    out = {"info": json.loads(os.environ["KUBERNETES_EXEC_INFO"]), "args": sys.argv[1:], "A": os.environ.get("A")}
    out["stdin"] = sys.stdin.read()
    open(os.environ["SEEN"], "w").write(json.dumps(out))
    print(json.dumps({"apiVersion": out["info"]["apiVersion"], "kind": "ExecCredential", "status": {"token": "t"}}))
"""


@pytest.mark.parametrize("version", [V1, BETA])
def test_a_plugin_beside_the_kubeconfig(tmp_path: Path, version: str) -> None:
    script(tmp_path / "plugin", TELLS)
    (tmp_path / "ca").write_bytes(Authority().pem)
    plugin = {
        "apiVersion": version,
        "args": ["a", "b c"],
        "env": [{"name": "A", "value": "z"}, {"name": "SEEN", "value": str(tmp_path / "seen")}],
        "provideClusterInfo": True,
    }
    extensions = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "foo"}}, {"name": "x"}]
    more = {"tls-server-name": "n", "disable-compression": True, "proxy-url": "http://127.0.0.1:9"}
    config = load(str(kubeconfig(tmp_path, plugin, **{"certificate-authority": "ca"}, extensions=extensions, **more)))
    resolved = config.resolve()
    assert not (tmp_path / "seen").exists()
    assert resolved.credentials.cached() is None
    credential = run(resolved.credentials.current())
    assert credential.headers == (("Authorization", "Bearer t"),)
    assert isinstance(credential.tls, ssl.SSLContext)
    assert resolved.credentials.cached() == credential
    seen = json.loads((tmp_path / "seen").read_text())
    told = seen["info"]["spec"].pop("cluster")
    assert seen == {
        "info": {"kind": "ExecCredential", "apiVersion": version, "spec": {"interactive": False}},
        "args": ["a", "b c"],
        "A": "z",
        "stdin": "",
    }
    data = told.pop("certificate-authority-data")
    assert data.startswith("LS0tLS1CRUdJTi")
    assert list(told.items()) == [
        ("server", "https://api.example/p/"),
        ("tls-server-name", "n"),
        ("proxy-url", "http://127.0.0.1:9"),
        ("disable-compression", True),
        ("config", {"audience": "foo"}),
    ]


def test_contexts_with_one_login_share_it(tmp_path: Path) -> None:
    config = load(str(kubeconfig(tmp_path, {})))
    found = [each for _, each in config.resolve_each() if isinstance(each, ClusterConfig)]
    assert [each.namespace for each in found] == ["c", "d"]
    assert found[0].credentials is found[1].credentials


# How they are run


Running = Callable[..., bytes]


@pytest.fixture(params=["asyncio", "uvloop"])
def running(request: pytest.FixtureRequest) -> Running:
    def running(plugin: ExecPlugin, environ: dict[str, str] | None = None, seconds: float = 20.0) -> bytes:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if request.param == "uvloop" else None) as runner:
            return runner.run(PluginProcess(environ, seconds)(plugin))

    return running


def plugin_of(tmp_path: Path, body: str, **changes: Any) -> ExecPlugin:
    return replace(PLUGIN, command=str(script(tmp_path / "plugin", body)), **changes)


def test_a_name_is_looked_up_in_our_path(running: Running, tmp_path: Path) -> None:
    script(tmp_path / "plugin", "print('found')")
    elsewhere = (("PATH", "/nowhere"),)
    assert running(replace(PLUGIN, env=elsewhere), {"PATH": str(tmp_path)}) == b"found\n"


def test_a_program_of_the_working_directory_is_none(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "plugin", "print('found')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CredentialError, match=r"^exec: executable plugin not found$"):
        running(PLUGIN, {"PATH": ".:"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit(3)", "exec: executable {command} failed with exit code 3"),
        ("os.kill(os.getpid(), 9)", "exec: executable {command} failed with exit code -1"),
        ("print('s3cret' * 1_000_000)", "exec: executable {command} printed more than a credential"),
        ("time.sleep(60)", "exec: executable {command} did not end within 1 s"),
    ],
)
def test_runs_that_fail(running: Running, tmp_path: Path, body: str, message: str) -> None:
    plugin = plugin_of(tmp_path, body)
    with pytest.raises(CredentialError) as caught:
        running(plugin, seconds=1.0)
    assert str(caught.value) == message.format(command=plugin.command)


def test_programs_that_cannot_be_started(running: Running, tmp_path: Path) -> None:
    missing = replace(PLUGIN, command="/no/plugin")
    with pytest.raises(CredentialError, match=r"^exec: fork/exec /no/plugin: no such file or directory$"):
        running(missing)
    (tmp_path / "plain").write_text("x")
    plain = replace(PLUGIN, command=str(tmp_path / "plain"))
    with pytest.raises(CredentialError, match=r"^exec: fork/exec \S+/plain: permission denied$"):
        running(plain)
    (tmp_path / "plain").chmod(0o755)
    # uvloop's execvp gives what has no #! to a shell, as POSIX says; asyncio and Go don't.
    with pytest.raises(CredentialError, match=r"/plain(: exec format error| failed with exit code 127)$"):
        running(plain)
    hinted = replace(PLUGIN, command="no-such-plugin", install_hint="get it\n  from there\n")
    with pytest.raises(CredentialError, match=r"^exec: executable no-such-plugin not found \(get it from there\)$"):
        running(hinted)


def test_what_it_says_on_standard_error_goes_to_ours(
    running: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    running(plugin_of(tmp_path, "print('open http://login', file=sys.stderr)"))
    assert capfd.readouterr().err == "open http://login\n"


def test_a_child_that_keeps_its_output_open_is_not_waited_for(running: Running, tmp_path: Path) -> None:
    body = """
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        print("done", flush=True)
        os._exit(0)
    """
    assert running(plugin_of(tmp_path, body)) == b"done\n"


ASKS = """
import asyncio, sys
from portway.client.kubeconfig import load
print(asyncio.run(load(sys.argv[1]).resolve().credentials.current()).headers)
"""


@pytest.mark.parametrize("mode", ["IfAvailable", "Always"])
def test_a_plugin_may_ask_at_the_terminal(tmp_path: Path, mode: str) -> None:
    body = """
        assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["spec"]["interactive"] is True
        status = {"token": input()}
        print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
    """
    script(tmp_path / "plugin", body)
    config = kubeconfig(tmp_path, {"interactiveMode": mode})
    ours, theirs = pty.openpty()
    os.write(ours, b"typed\n")
    argv = [sys.executable, "-c", ASKS, str(config)]
    asked = subprocess.run(argv, stdin=theirs, capture_output=True, timeout=30, check=False)
    os.close(ours)
    os.close(theirs)
    assert asked.stdout == b"(('Authorization', 'Bearer typed'),)\n", asked.stderr


def test_who_cancels_leaves_no_process_behind(tmp_path: Path) -> None:
    plugin = plugin_of(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")

    async def cancelled() -> None:
        task = asyncio.create_task(PluginProcess()(plugin), name="run")
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# When they are run


class Plugin:
    """Answers with what the test sets, counts, and has clocks that the test turns."""

    def __init__(self) -> None:
        self.runs = 0
        self.now = 1_000_000.0
        self.status: dict[str, Any] | CredentialError = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, plugin: ExecPlugin) -> bytes:
        self.runs += 1
        count = self.runs
        await self.gate.wait()
        if isinstance(self.status, CredentialError):
            raise self.status
        return json.dumps(answer(**({"token": f"t{count}"} | self.status))).encode()

    def credentials(self, settings: TlsSettings = INSECURE) -> ExecCredentials:
        return ExecCredentials(PLUGIN, settings, self, clock=lambda: self.now, monotonic=lambda: self.now)

    def expires_in(self, seconds: float) -> None:
        moment = datetime.fromtimestamp(self.now + seconds, UTC)
        self.status = {"expirationTimestamp": moment.isoformat().replace("+00:00", "Z")}


def token(credential: Credential | None) -> str | None:
    return None if credential is None else credential.headers[0][1].removeprefix("Bearer ")


def with_plugin(test: Callable[[Plugin], Coroutine[Any, Any, None]]) -> None:
    async def made() -> None:
        await test(Plugin())

    run(made())


def test_a_credential_is_used_until_it_expires() -> None:
    async def test(plugin: Plugin) -> None:
        credentials = plugin.credentials()
        plugin.expires_in(60)
        assert token(await credentials.current()) == "t1"
        plugin.now += 60
        assert token(credentials.cached()) == "t1"
        assert token(await credentials.current()) == "t1"
        plugin.now += 1
        assert credentials.cached() is None
        assert token(await credentials.current()) == "t2"

    with_plugin(test)


def test_who_asks_at_once_shares_one_run_and_may_give_up() -> None:
    async def test(plugin: Plugin) -> None:
        credentials = plugin.credentials()
        plugin.gate.clear()
        asking = [asyncio.create_task(credentials.current(), name="asking") for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        plugin.gate.set()
        found = await asyncio.gather(*asking[1:])
        assert {token(each) for each in found} == {"t1"}
        assert plugin.runs == 1

    with_plugin(test)


def test_a_refused_credential_is_renewed_once() -> None:
    async def test(plugin: Plugin) -> None:
        credentials = plugin.credentials()
        first = await credentials.current()
        credentials.refused(first)
        assert credentials.cached() is None
        assert token(await credentials.current()) == "t2"
        credentials.refused(first)  # somebody else's answer, late
        assert token(credentials.cached()) == "t2"

    with_plugin(test)


def test_a_server_that_refuses_everything_does_not_open_a_browser_each_time() -> None:
    async def test(plugin: Plugin) -> None:
        credentials = plugin.credentials()
        for _ in range(50):
            credentials.refused(await credentials.current())
        assert plugin.runs == 4
        plugin.now += 31
        credentials.refused(await credentials.current())
        await credentials.current()
        assert plugin.runs == 5

    with_plugin(test)


def test_an_answer_that_is_past_by_our_clock_is_used_for_a_second() -> None:
    async def test(plugin: Plugin) -> None:
        credentials = plugin.credentials()
        plugin.expires_in(-3600)
        assert token(await credentials.current()) == "t1"
        assert token(await credentials.current()) == "t1"
        plugin.now += 1
        assert token(await credentials.current()) == "t2"

    with_plugin(test)


def test_a_failure_is_the_answer_for_a_second() -> None:
    async def test(plugin: Plugin) -> None:
        credentials = plugin.credentials()
        plugin.status = CredentialError("exec: no")
        for _ in range(5):
            with pytest.raises(CredentialError, match=r"^exec: no$"):
                await credentials.current()
        assert plugin.runs == 1
        plugin.now += 1
        plugin.status = {}
        assert token(await credentials.current()) == "t2"

    with_plugin(test)


def test_a_certificate_that_stays_the_same_keeps_its_context() -> None:
    async def test(plugin: Plugin) -> None:
        authority = Authority()
        ann, bob = authority.issue("ann"), authority.issue("bob")
        credentials = plugin.credentials()
        plugin.status = {"token": "t", "clientCertificateData": ann[0].decode(), "clientKeyData": ann[1].decode()}
        first = await credentials.current()
        credentials.refused(first)
        second = await credentials.current()
        assert second == first
        assert second.tls is first.tls
        plugin.status |= {"clientCertificateData": bob[0].decode(), "clientKeyData": bob[1].decode()}
        credentials.refused(second)
        third = await credentials.current()
        assert third != second
        plugin.status |= {"clientKeyData": ann[1].decode()}
        credentials.refused(third)
        with pytest.raises(CredentialError, match=r"^failed parsing client key/certificate: "):
            await credentials.current()

    with_plugin(test)


def test_a_token_that_no_header_can_carry() -> None:
    async def test(plugin: Plugin) -> None:
        plugin.status = {"token": "s3cret\r\nX-Remote-User: admin"}
        with pytest.raises(CredentialError, match=r'^net/http: invalid header field value for "Authorization"$'):
            await plugin.credentials().current()

    with_plugin(test)


def test_a_changed_authority_is_taken_up_between_runs(tmp_path: Path) -> None:
    async def test(plugin: Plugin) -> None:
        (tmp_path / "ca").write_bytes(Authority().pem)
        credentials = plugin.credentials(TlsSettings(authority_file=str(tmp_path / "ca")))
        first = await credentials.current()
        (tmp_path / "ca").write_bytes(Authority().pem)
        credentials._tls.look_again()
        second = credentials.cached()
        assert second is not None
        assert second.tls is not first.tls
        assert plugin.runs == 1

    with_plugin(test)


# Against a server

COUNTS = """
    at = os.environ["COUNT"]
    count = int(open(at).read()) + 1 if os.path.exists(at) else 1
    open(at, "w").write(str(count))
    status = {"token": f"t{count}"}
    print(json.dumps({"apiVersion": os.environ["V"], "kind": "ExecCredential", "status": status}))
"""


def against(tmp_path: Path, accepted: set[str], test: Callable[[ApiClient, ScriptedApi], Any], body: str) -> int:
    """A client with a plugin, at a server that accepts some tokens; how often the plugin was run."""
    authority, count = Authority(), tmp_path / "count"
    script(tmp_path / "plugin", body)
    (tmp_path / "ca").write_bytes(authority.pem)
    env = [{"name": "COUNT", "value": str(count)}, {"name": "V", "value": V1}]

    def accepts(request: web.Request) -> bool:
        return request.headers.get("Authorization", "").removeprefix("Bearer ") in accepted

    async def tested() -> None:
        api = ScriptedApi(*(listing() for _ in range(50)), accepts=accepts)
        async with serving(api, tls=authority.server_context()) as server:
            path = kubeconfig(tmp_path, {"env": env}, server=server, **{"certificate-authority": "ca"})
            client = ApiClient(load(str(path)).resolve())
            try:
                await test(client, api)
            finally:
                await client.close()

    run(tested())
    return int(count.read_text()) if count.exists() else 0


def test_a_401_is_answered_with_another_token(tmp_path: Path) -> None:
    async def test(client: ApiClient, api: ScriptedApi) -> None:
        await asyncio.gather(*(client.create("/x", {"n": n}) for n in range(10)))
        assert {each["Authorization"] for each in api.headers} == {"Bearer t2"}
        assert sorted(api.bodies) == [b'{"n":%d}' % n for n in range(10)]

    assert against(tmp_path, {"t2"}, test, COUNTS) == 2


def test_a_401_that_nothing_helps_against_is_the_answer(tmp_path: Path) -> None:
    async def test(client: ApiClient, api: ScriptedApi) -> None:
        with pytest.raises(Unauthorized):
            await client.get("/x")
        assert api.refusals == 2

    assert against(tmp_path, set(), test, COUNTS) == 2


def test_a_plugin_that_always_says_the_same_is_not_tried_twice(tmp_path: Path) -> None:
    async def test(client: ApiClient, api: ScriptedApi) -> None:
        with pytest.raises(Unauthorized):
            await client.get("/x")
        assert api.refusals == 1

    against(tmp_path, set(), test, COUNTS.replace('f"t{count}"', '"same"'))


def test_a_failing_plugin_is_told_in_one_line(tmp_path: Path) -> None:
    async def test(client: ApiClient, api: ScriptedApi) -> None:
        with pytest.raises(ApiUnreachable) as caught:
            await client.get("/x")
        reason = f"getting credentials: exec: executable {tmp_path}/plugin failed with exit code 4"
        assert str(caught.value) == f"{client.config.server}: {reason}"
        assert api.requests == []

    against(tmp_path, set(), test, "sys.exit(4)")
