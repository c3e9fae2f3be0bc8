"""What every namespace is given: its default account, and the certificate that verifies the API."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from portway.client.api import ApiClient
from portway.controllers.settings import ControllerSettings
from portway.kube import objects
from portway.testing.managed import find, managed_api, until, until_object

Object = dict[str, Any]
PEM = "-----BEGIN CERTIFICATE-----\n"
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", "made")
DESCRIPTION = "kubernetes.io/description"


def on(directory: Path, test: Callable[[ApiClient], Awaitable[None]], root_ca: str = PEM) -> None:
    async def run() -> None:
        async with managed_api(directory, settings=ControllerSettings(root_ca=root_ca)) as client:
            await client.create("/api/v1/namespaces", {"metadata": {"name": "made"}})
            await test(client)

    asyncio.run(run())


def root_ca(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"


def published(found: Object) -> bool:
    return bool(found.get("data") == {"ca.crt": PEM} and objects.annotations(found).get(DESCRIPTION))


def test_every_namespace_has_an_account_and_the_certificate(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        for namespace in NAMESPACES:
            account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
            await until_object(client, account, lambda _: True, "the account")
            found = await until_object(client, root_ca(namespace), published, "the certificate")
            words = objects.annotations(found)[DESCRIPTION]
            assert words.startswith("Contains a CA bundle that can be used to verify the kube-apiserver when using")

    on(tmp_path, test)


def test_what_is_deleted_comes_back_as_another_object(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        for path in ("/api/v1/namespaces/made/serviceaccounts/default", root_ca("made")):
            first = await until_object(client, path, lambda _: True, "the first")
            await client.delete(path)

            def another(found: Object, uid: str = objects.uid(first)) -> bool:
                return objects.uid(found) != uid

            await until_object(client, path, another, "the next")

    on(tmp_path, test)


def test_a_changed_certificate_is_repaired_and_the_rest_is_kept(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        await until_object(client, root_ca("made"), published, "the certificate")
        for change in (
            {"data": {"ca.crt": "forged", "more": "x"}, "metadata": {"labels": {"mine": "yes"}}},
            {"metadata": {"annotations": {DESCRIPTION: None}}},
        ):
            await client.patch(root_ca("made"), change, "application/merge-patch+json")
            found = await until_object(client, root_ca("made"), published, "the repair")
            assert objects.labels(found) == {"mine": "yes"}

    on(tmp_path, test)


def test_a_namespace_that_ends_is_given_nothing(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        await until_object(client, root_ca("made"), published, "the certificate")
        held = {"metadata": {"name": "held", "finalizers": ["example.com/x"]}}
        await client.create("/api/v1/namespaces/made/secrets", held)
        await client.delete("/api/v1/namespaces/made")
        account = "/api/v1/namespaces/made/serviceaccounts/default"

        async def emptied() -> bool:
            return await find(client, root_ca("made")) is None and await find(client, account) is None

        await until(emptied, "the end of what the namespace had")
        # The next namespace is served after what the end of those two has set off.
        await client.create("/api/v1/namespaces", {"metadata": {"name": "next"}})
        await until_object(client, root_ca("next"), published, "the next one's certificate")
        assert await emptied()

    on(tmp_path, test)


def test_without_a_certificate_nothing_is_published(tmp_path: Path) -> None:
    async def test(client: ApiClient) -> None:
        account = "/api/v1/namespaces/made/serviceaccounts/default"
        await until_object(client, account, lambda _: True, "the account")
        assert await find(client, root_ca("made")) is None

    on(tmp_path, test, root_ca="")
