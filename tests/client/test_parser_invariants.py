"""Whatever stands in a kubeconfig or comes out of a credential plugin: it is understood, or refused in our words."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.client.cluster import ClusterConfig
from portway.client.credentials import CredentialError
from portway.client.entries import CLUSTER, CONTEXT, EXEC, USER
from portway.client.execplugin import ExecPlugin, ExecStatus, decoded
from portway.client.kubeconfig import KubeconfigError, Overrides, load

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=6)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
PLAUSIBLE = st.sampled_from(
    [
        "https://h:6443",
        "http://h",
        "//h",
        "https://h:99999",
        "socks5://p:1",
        "c",
        "/nonexistent",
        "QUFB",
        "-----BEGIN",
        True,
    ]
)


def some_of(*names: str) -> st.SearchStrategy[dict[str, object]]:
    """An entry with some of the fields, each of any shape."""
    return st.dictionaries(st.sampled_from([*names, "unknown"]), ANYTHING | PLAUSIBLE, max_size=6)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_of(*CLUSTER), some_of(*USER), some_of(*CONTEXT), some_of(*EXEC), ANYTHING)
def test_any_value_of_any_field_is_taken_or_refused(
    tmp_path: Path, cluster: object, user: dict[str, object], context: dict[str, object], plugin: object, other: object
) -> None:
    if "exec" in user:
        user = user | {"exec": plugin}
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"} | context}],
        "clusters": [{"name": "c", "cluster": cluster}, {"name": "d", "cluster": other}],
        "users": [{"name": "u", "user": user}],
        "extensions": other,
    }
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8")
    config: ClusterConfig | None = None
    refusal = ""
    try:
        config = load(str(file), environ={}, home=tmp_path).resolve(Overrides())
    except KubeconfigError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert refusal or (config is not None and config.server.startswith(("http://", "https://")))


@pytest.mark.parametrize(
    "text", ["[" * 5000, "a: 2001-13-01", "\x00", "- a", "kind: Pod", "{", "a: !!python/object:os.system x", "\ud800"]
)
def test_what_is_no_kubeconfig_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(KubeconfigError) as caught:
        load(str(file), environ={}, home=tmp_path).resolve(Overrides())
    assert "\n" not in str(caught.value)


VERSION = "client.authentication.k8s.io/v1"
STATUS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("token", "clientCertificateData", "clientKeyData", "expirationTimestamp"), ANYTHING)
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.just(VERSION) | ANYTHING,
        "kind": st.just("ExecCredential") | ANYTHING,
        "status": STATUS,
    },
)


@given(st.binary() | st.text().map(str.encode) | ANSWERS.map(lambda a: yaml.safe_dump(a, allow_unicode=True).encode()))
def test_any_output_of_a_plugin_is_taken_or_refused(output: bytes) -> None:
    plugin = ExecPlugin(command="p", api_version=VERSION)
    status: ExecStatus | None = None
    refusal = ""
    try:
        status = decoded(plugin, output)
    except CredentialError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert refusal or (status is not None and (status.token or status.certificate))
