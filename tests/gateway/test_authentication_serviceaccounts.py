"""Service account tokens: against a real signer and a view, which may be behind the API."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from portway.client.view import ClusterView, Node, Pod, ServiceAccount
from portway.gateway.authentication import Authenticators, Identity
from portway.gateway.authentication.serviceaccounts import CONFIRMING
from portway.gateway.settings import Authentication
from portway.kube.errors import TooManyRequests, Unauthorized
from portway.kube.objects import Object
from portway.kube.serviceaccount import Reference, Signer

ISSUER = "https://kubernetes.default.svc"


def private_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


KEY = private_key()


class Cluster(ClusterView):
    """A view, and behind it an API that knows more: what `confirm_*` brings in."""

    def __init__(self) -> None:
        super().__init__()
        self.api: dict[tuple[str, str], Object] = {}
        self.secrets: dict[str, str] = {}
        self.asked: list[str] = []
        self.down = False

    def put(self, plural: str, name: str, uid: str, **metadata: str) -> None:
        self.apply(plural, "ADDED", an_object(name, uid, **metadata))

    def drop(self, plural: str, name: str) -> None:
        self.apply(plural, "DELETED", an_object(name, ""))

    async def _ask(self, plural: str, name: str) -> None:
        self.asked.append(f"{plural}/{name}")
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionError("the API is away")
        if (plural, name) in self.api:
            self.apply(plural, "MODIFIED", self.api[plural, name])

    async def confirm_service_account(self, namespace: str, name: str) -> ServiceAccount | None:
        await self._ask("serviceaccounts", name)
        return self.service_account(namespace, name)

    async def confirm_pod(self, namespace: str, name: str) -> Pod | None:
        await self._ask("pods", name)
        return self.pod(namespace, name)

    async def confirm_node(self, name: str) -> Node | None:
        await self._ask("nodes", name)
        return self.node(name)

    async def confirm_secret(self, namespace: str, name: str) -> str | None:
        await self._ask("secrets", name)
        return self.secret_uid(namespace, name)

    def secret_uid(self, namespace: str, name: str) -> str | None:
        return self.secrets.get(name)


def an_object(name: str, uid: str, **metadata: str) -> Object:
    namespace = {} if name.startswith("node") else {"namespace": "ns"}
    return {"metadata": {"name": name, "uid": uid, **namespace, **metadata}, "spec": {}, "status": {}}


class World:
    """A chain on a view, and tokens for it."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "sa.pem").write_bytes(KEY)
        settings = Authentication(service_account_key_files=(str(tmp_path / "sa.pem"),))
        self.view = Cluster()
        self.chain = Authenticators(settings, self.view)
        self.signer = Signer(KEY, ISSUER)

    def header(
        self,
        uid: str = "sa-1",
        seconds: int = 3600,
        audience: str = ISSUER,
        signer: Signer | None = None,
        pod: Reference | None = None,
        secret: Reference | None = None,
        node: Reference | None = None,
    ) -> bytes:
        token = (signer or self.signer).sign(
            namespace="ns",
            name="robot",
            uid=uid,
            audiences=[audience],
            expires_in=seconds,
            pod=pod,
            secret=secret,
            node=node,
        )
        return b"Bearer " + token.token.encode()

    def at_once(self, header: bytes) -> Identity:
        answer = self.chain.identify(header)
        assert isinstance(answer, Identity)
        return answer

    def after_asking(self, header: bytes) -> Identity:
        async def ask() -> Identity:
            answer = self.chain.identify(header)
            assert not isinstance(answer, Identity)
            return await answer

        return asyncio.run(ask())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


POD, NODE, SECRET = Reference("pod-1", "p-1"), Reference("node-1", "n-1"), Reference("secret-1", "s-1")


def test_a_known_account_is_identified_at_once(world: World) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    header = world.header()
    identity = world.at_once(header)
    assert identity.user.name == "system:serviceaccount:ns:robot"
    assert identity.user.uid == "sa-1"
    assert identity.user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
    assert (identity.method, identity.ambient) == ("serviceaccount", False)
    assert 3500 < identity.expires - time() <= 3600
    assert world.chain.identify(header) is identity
    assert world.view.asked == []


def test_an_account_that_the_view_has_not_seen_yet_is_asked_for(world: World) -> None:
    world.view.api["serviceaccounts", "robot"] = an_object("robot", "sa-1")
    header = world.header()
    identity = world.after_asking(header)
    assert identity.user.uid == "sa-1"
    assert world.chain.identify(header) is identity
    assert world.view.asked == ["serviceaccounts/robot"]


def test_a_recreated_account_is_asked_for_too(world: World) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    world.view.api["serviceaccounts", "robot"] = an_object("robot", "sa-2")
    assert world.after_asking(world.header(uid="sa-2")).user.uid == "sa-2"
    with pytest.raises(Unauthorized):
        world.after_asking(world.header(uid="sa-1"))


def test_an_account_that_nobody_knows_is_refused_every_time(world: World) -> None:
    header = world.header()
    for _ in range(2):
        with pytest.raises(Unauthorized):
            world.after_asking(header)


def test_what_cannot_be_confirmed_is_not_believed(world: World) -> None:
    world.view.down = True
    with pytest.raises(Unauthorized):
        world.after_asking(world.header())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda world: world.header(signer=Signer(private_key(), ISSUER)),
        lambda world: world.header(signer=Signer(KEY, "https://elsewhere")),
        lambda world: world.header(audience="vault"),
        lambda world: world.header(seconds=-1),
        lambda world: world.header()[:-4] + b"AAAA",
        lambda _: b"Bearer e30.e30.e30",
        lambda _: b"Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.",
        lambda _: b"Bearer ..",
    ],
    ids=["key", "issuer", "audience", "expired", "signature", "empty", "none", "dots"],
)
def test_bad_tokens_are_401(world: World, spoil: Callable[[World], bytes]) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    with pytest.raises(Unauthorized):
        world.chain.identify(spoil(world))


def test_an_identity_ends_when_its_token_does(world: World) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    header = world.header()
    identity = world.at_once(header)
    identity.expires = time() - 1
    # Seen from the cache it is over; the token itself is looked at again, and is still good.
    assert world.at_once(header) is not identity


@pytest.mark.parametrize(
    ("plural", "bound"),
    [("serviceaccounts", None), ("pods", POD), ("nodes", NODE)],
)
def test_deleting_what_a_token_hangs_on_ends_it_at_once(world: World, plural: str, bound: Reference | None) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    world.view.put("pods", "pod-1", "p-1")
    world.view.put("nodes", "node-1", "n-1")
    header = world.header(pod=POD if plural == "pods" else None, node=NODE if plural == "nodes" else None)
    identity = world.at_once(header)
    world.view.drop("pods", "unrelated")
    assert identity.alive()
    world.view.drop(plural, bound.name if bound else "robot")
    assert not identity.valid
    with pytest.raises(Unauthorized):
        world.after_asking(header)


def test_a_pod_that_was_replaced_ends_its_tokens(world: World) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    world.view.put("pods", "pod-1", "p-1")
    identity = world.at_once(world.header(pod=POD))
    world.view.put("pods", "pod-1", "p-2")
    assert not identity.valid


def test_a_pod_token_does_not_hang_on_the_node_it_names(world: World) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    world.view.put("pods", "pod-1", "p-1")
    assert world.at_once(world.header(pod=POD, node=NODE)).alive()


def test_a_token_outlives_the_due_deletion_by_a_minute(world: World) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    world.view.put("pods", "pod-1", "p-1")
    identity = world.at_once(world.header(pod=POD))
    world.view.put("pods", "pod-1", "p-1", deletionTimestamp="2020-01-01T00:00:00Z")
    assert not identity.alive()
    world.view.put("pods", "pod-2", "p-2", deletionTimestamp="2099-01-01T00:00:00Z")
    assert world.at_once(world.header(pod=Reference("pod-2", "p-2"))).alive()


def test_a_token_bound_to_a_secret_is_believed_for_seconds(world: World) -> None:
    world.view.put("serviceaccounts", "robot", "sa-1")
    header = world.header(secret=SECRET)
    with pytest.raises(Unauthorized):
        world.after_asking(header)
    world.view.secrets["secret-1"] = "s-1"
    identity = world.at_once(header)
    assert 0 < identity.expires - time() <= 10
    world.view.secrets["secret-1"] = "s-2"
    identity.expires = 0
    with pytest.raises(Unauthorized):
        world.after_asking(header)


def test_asking_is_bounded(world: World) -> None:
    async def flood() -> None:
        header = world.header()
        answers = [world.chain.identify(header) for _ in range(CONFIRMING)]
        with pytest.raises(TooManyRequests):
            world.chain.identify(header)
        await asyncio.gather(*(a for a in answers if not isinstance(a, Identity)), return_exceptions=True)
        answer = world.chain.identify(header)
        assert not isinstance(answer, Identity)
        with pytest.raises(Unauthorized):
            await answer

    asyncio.run(flood())


def test_a_client_that_left_leaves_no_complaint(world: World) -> None:
    async def leave() -> list[str]:
        complaints: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(str(context["message"])))
        world.chain.identify(world.header())
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        return complaints

    assert asyncio.run(leave()) == []
