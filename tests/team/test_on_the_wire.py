"""What a gateway sends to the API server, field by field: whose request it is, and no credential but the door's own."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from aiohttp import web

from portway.testing.cluster import Cluster
from portway.testing.scripted import OVER
from portway.testing.teamdoor import ask, gateway, served, upgrade_lines, write_kubeconfig
from portway.testing.tls import Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]
FORGED = (
    "X-Remote-User: root",
    "X-Remote-Extra-Scopes: all",
    "impersonate_user: root",
    "Proxy-Authorization: Basic cm9vdDpyb290",
    "X-Forwarded-User: root",
)


class Asked(NamedTuple):
    method: str
    target: str
    fields: list[tuple[str, str]]
    body: str

    def values(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field.lower() == name]


class Recording:
    """Knows the token "callers-token" as ann's, allows everything, and has nothing."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        fields = [(name.decode(), value.decode()) for name, value in request.raw_headers]
        self.asked.append(Asked(request.method, request.raw_path, fields, await request.text()))
        if request.path.endswith("reviews"):
            review = json.loads(self.asked[-1].body)
            user = {"username": "ann", "uid": "7", "groups": ["devs", "a b"], "extra": {"example.com/key": ["x", "y"]}}
            known = review["spec"].get("token") == "callers-token"
            status = {"authenticated": known, "user": user if known else {}, "allowed": True}
            return web.json_response({**review, "status": status}, status=201)
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await request.app[OVER].wait()
            return response
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})


@pytest.fixture(scope="module", params=["direct", "through"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Recording, Cluster]]:
    directory, api, authority = tmp_path_factory.mktemp("wire"), Recording(), Authority()
    (directory / "ca.crt").write_text(authority.pem)
    with served(api, authority.server()) as url:
        kubeconfig = write_kubeconfig(directory / "kubeconfig", url + "/below", "doors-token", directory / "ca.crt")
        with gateway(directory / "door", kubeconfig, f"--via={request.param}") as door:
            yield api, door


TARGETS = [
    ("GET", "/api/v1/namespaces/x/configmaps?limit=1", (), ""),
    ("POST", "/api/v1/namespaces/x/configmaps", ("Content-Type: application/json",), '{"a":1}'),
    ("GET", "/api/v1/namespaces/x/pods/p/exec?command=id", upgrade_lines("v5.channel.k8s.io"), ""),
    ("POST", "/api/v1/namespaces/x/pods/p/portforward", upgrade_lines("portforward.k8s.io", "SPDY/3.1"), ""),
    ("GET", "/api/v1/nodes/n/proxy/metrics", (), ""),
    ("GET", "/api/v1/namespaces/x/services/web/proxy/page", (), ""),
]


@pytest.mark.parametrize("what", TARGETS, ids=lambda what: f"{what[0]} {what[1]}")
def test_a_request_is_its_callers_and_shows_the_doors_credential(
    pair: tuple[Recording, Cluster], what: tuple[str, str, tuple[str, ...], str]
) -> None:
    (api, door), (method, target, lines, body) = pair, what
    before = len(api.asked)
    ask(door, method, target, "callers-token", lines=(*lines, *FORGED), body=body.encode())
    after = api.asked[before:]
    passed_on = [one for one in after if one.target == f"/below{target}" and one.values("impersonate-user")]
    for one in passed_on:
        assert one.values("authorization") == ["Bearer doors-token"]
        assert one.values("impersonate-user") == ["ann"]
        assert one.values("impersonate-group") == ["devs", "a b", "system:authenticated"]
        assert one.values("impersonate-uid") == ["7"]
        assert one.values("impersonate-extra-example.com%2fkey") == ["x", "y"]
        assert one.body == body
        assert "root" not in str(one)
    for one in after:
        assert one.target.startswith("/below/")
        assert "callers-token" not in str(one._replace(body="")), "a caller's token in a header"
        assert ("callers-token" in one.body) == (one.target.endswith("/tokenreviews") and one.method == "POST")
        if one not in passed_on:  # the door's own questions: as itself, and as nobody else
            assert not [name for name, _ in one.fields if name.lower().startswith("impersonate")]
            assert one.values("authorization") == ["Bearer doors-token"]
    found_by_the_door = "/proxy/" in target and door.process.args[-1] == "--via=direct"  # type: ignore[index]
    assert len(passed_on) == (0 if found_by_the_door else 1)


@pytest.mark.parametrize("bearer", ["wrong", "doors-token"])
def test_a_wrong_token_goes_no_further_than_its_review(pair: tuple[Recording, Cluster], bearer: str) -> None:
    api, door = pair
    before = len(api.asked)
    fields, _ = ask(door, "GET", "/api/v1/namespaces/x/secrets", bearer)
    assert fields[":status"] == "401"
    assert {one.target for one in api.asked[before:]} == {"/below/apis/authentication.k8s.io/v1/tokenreviews"}
