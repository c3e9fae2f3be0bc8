"""The OpenAPI documents: valid by their specifications, and good enough to generate clients from.

openapi-python-client makes a whole client, datamodel-code-generator makes models; both are used on the running cluster.
"""

import importlib
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator

from portway.testing.cluster import Cluster
from portway.testing.demo import admin_token, get

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


def document(cluster: Cluster, path: str) -> Any:
    status, body = get(cluster, path)
    assert status == 200, body
    return json.loads(body)


def generated(directory: Path, *argv: str) -> None:
    done = subprocess.run([sys.executable, "-m", *argv], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(directory))


@pytest.fixture(scope="module")
def source(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the core document, on Python's path while the module's tests run."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "core.json").write_text(json.dumps(document(cluster, "/openapi/v3/api/v1")))
    before = list(sys.path)
    yield directory
    sys.path[:] = before


@pytest.fixture(scope="module")
def made(source: Path) -> Any:
    """The package that openapi-python-client made."""
    generated(
        source, "openapi_python_client", "generate", "--path=core.json", "--output-path=madeclient", "--meta=none"
    )
    return importlib.import_module("madeclient")


@pytest.fixture(scope="module")
def models(source: Path) -> Any:
    """The pydantic models of core/v1 that datamodel-code-generator made."""
    kind = "pydantic_v2.BaseModel"
    flags = "--input=core.json", "--input-file-type=openapi", "--output=mademodels", f"--output-model-type={kind}"
    generated(source, "datamodel_code_generator", *flags, "--formatters=builtin")
    return importlib.import_module("mademodels.io.k8s.api.core.v1")


def test_every_document_is_valid(cluster: Cluster) -> None:
    index = document(cluster, "/openapi/v3")["paths"]
    assert {"api/v1", "apis/discovery.k8s.io/v1", "apis/authorization.k8s.io/v1"} <= set(index)
    for entry in index.values():
        found = document(cluster, entry["serverRelativeURL"])
        assert list(OpenAPIV30SpecValidator(found).iter_errors()) == []
        names = operations(found)
        assert len(set(names)) == len(names)
    older = document(cluster, "/openapi/v2")
    assert list(OpenAPIV2SpecValidator(older).iter_errors()) == []
    assert {"readCoreV1NamespacedService", "listDiscoveryV1EndpointSliceForAllNamespaces"} <= set(operations(older))
    assert older["definitions"]["io.k8s.api.core.v1.ServicePort"]["required"] == ["port"]


def operations(found: Any) -> list[str]:
    return [
        operation["operationId"]
        for item in found["paths"].values()
        for name, operation in item.items()
        if name != "parameters"
    ]


@pytest.fixture
def client(made: Any, cluster: Cluster) -> Iterator[Any]:
    context = ssl.create_default_context(cafile=str(cluster.data_dir / "pki" / "ca.crt"))
    token = admin_token(cluster)
    with made.AuthenticatedClient(base_url=cluster.server, token=token, verify_ssl=context) as connected:
        yield connected


def call(function: str, /, **arguments: Any) -> Any:
    """Calls a generated function; the whole answer."""
    return importlib.import_module(f"madeclient.api.core_v1.{function}").sync_detailed(**arguments)


def test_a_generated_client_works(made: Any, client: Any, namespace: str) -> None:
    kinds = importlib.import_module("madeclient.models")
    service = kinds.IoK8SApiCoreV1Service.from_dict({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
    created = call("create_core_v1_namespaced_service", client=client, namespace=namespace, body=service)
    assert (created.status_code, created.parsed.spec.ports[0].protocol) == (201, "TCP")
    read = call("read_core_v1_namespaced_service", client=client, namespace=namespace, name="web")
    assert read.parsed.spec.cluster_ip == created.parsed.spec.cluster_ip
    read.parsed.spec.selector = kinds.IoK8SApiCoreV1ServiceSpecSelector.from_dict({"app": "web"})
    replaced = call(
        "replace_core_v1_namespaced_service", client=client, namespace=namespace, name="web", body=read.parsed
    )
    assert replaced.parsed.spec.selector.to_dict() == {"app": "web"}
    listed = call("list_core_v1_namespaced_service", client=client, namespace=namespace, limit=1)
    assert [each.metadata.name for each in listed.parsed.items] == ["web"]
    nodes = call("list_core_v1_node", client=client)
    assert [each.metadata.name for each in nodes.parsed.items] == ["portway"]
    call("delete_core_v1_namespaced_service", client=client, namespace=namespace, name="web")
    missing = call("read_core_v1_namespaced_service", client=client, namespace=namespace, name="web")
    assert (missing.status_code, missing.parsed) == (404, None)


@pytest.mark.parametrize(
    "plural", ["Service", "Namespace", "Node", "ConfigMap", "ServiceAccount", "Endpoints", "Secret"]
)
def test_generated_models_take_what_is_served(cluster: Cluster, models: Any, plural: str) -> None:
    path = plural.lower() if plural.endswith("s") else f"{plural.lower()}s"
    served = document(cluster, f"/api/v1/{path}")
    model = getattr(models, f"{plural}List")
    taken = model.model_validate(served)
    assert taken.kind == f"{plural}List"
    assert json.loads(taken.model_dump_json(exclude_unset=True)).keys() == served.keys()
    for ours, theirs in zip(served["items"], taken.items, strict=True):
        assert theirs.metadata.name == ours["metadata"]["name"]
        assert leaves(theirs.model_dump(mode="json", exclude_unset=True, by_alias=True)) == leaves(ours)


def leaves(value: Any, path: str = "") -> set[str]:
    """The paths of all that is in an object."""
    if isinstance(value, dict):
        return {found for key, inner in value.items() for found in leaves(inner, f"{path}.{key}")}
    if isinstance(value, list):
        return {found for number, inner in enumerate(value) for found in leaves(inner, f"{path}[{number}]")}
    return {path}
