"""Followers written as each library's documentation says, through everything that ends a watch: they end consistent.

The connection is cut, the door's worker killed, the history passes while nobody is connected, the API server is killed;
objects are made, changed and deleted all the while. Afterwards what a follower believes is what a list says.
"""

import asyncio
import gc
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import kr8s.asyncio
import kubernetes
import kubernetes_asyncio as kubernetes_async
import lightkube
import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer
from lightkube.resources.core_v1 import ConfigMap

from portway.testing import clientlab
from portway.testing.cluster import Cluster, started, wait_until
from portway.testing.demo import admin_token, child

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported:UserWarning"),  # kr8s of newer clusters
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HISTORY = 20
SELECTOR = "t=x"
State = dict[str, str]
"""Name of a configmap → its data's `n`."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One that forgets soon: 20 to 40 changes of a kind, and what is older than a second in the store."""
    flags = f"--default-watch-cache-size={HISTORY}", "--etcd-compaction-interval=1s"
    with started(tmp_path_factory.mktemp("forgetful"), *flags, workers=1) as made:
        yield made


class Follower:
    """What a follower believes, and how often it had to begin anew."""

    exec_version = "v1"
    """Of the credential plugins that the library knows."""

    def __init__(self, configuration: Path, namespace: str, way: clientlab.Wire) -> None:
        self.configuration = configuration
        self.namespace = namespace
        self.way = way
        self.state: State = {}
        self.lists = 0
        self.stopping = threading.Event()

    def begin(self, state: State) -> None:
        self.state, self.lists = state, self.lists + 1

    def take(self, event: str, name: str, data: Any) -> None:
        if event == "DELETED":
            self.state.pop(name, None)
        elif event in ("ADDED", "MODIFIED"):
            self.state[name] = data["n"]

    @contextmanager
    def running(self) -> Iterator[None]:
        raise NotImplementedError


class Informer(Follower):
    """kubernetes.informer.SharedInformer, which lists by itself."""

    @contextmanager
    def running(self) -> Iterator[None]:
        with kubernetes.config.new_client_from_config(str(self.configuration)) as api:
            core = kubernetes.client.CoreV1Api(api)
            informer = SharedInformer(core.list_namespaced_config_map, self.namespace, label_selector=SELECTOR)
            for event in ("ADDED", "MODIFIED", "DELETED"):
                informer.add_event_handler(
                    event, lambda obj, event=event: self.take(event, obj.metadata.name, obj.data)
                )
            informer.add_event_handler("ERROR", self._failed)
            informer.start()
            try:
                yield
            finally:
                informer.stop()

    def _failed(self, error: Any) -> None:
        self.lists += getattr(error, "status", None) == 410


class Threaded(Follower):
    """A loop of its own in a thread."""

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            wait_until(lambda: self.way.cut() == 0 and not thread.is_alive(), "the follower goes on")

    def run(self) -> None:
        raise NotImplementedError


class Lightkube(Threaded):
    """List, then watch from the list's revision; a watch that failed goes on where it was, unless that is too old."""

    exec_version = "v1beta1"

    def run(self) -> None:
        config = lightkube.KubeConfig.from_file(str(self.configuration))
        with lightkube.Client(config=config, namespace=self.namespace) as client:
            version = ""
            while not self.stopping.is_set():
                try:
                    if not version:
                        listed = client.list(ConfigMap, labels={"t": "x"})
                        self.begin({each.metadata.name: each.data["n"] for each in listed})
                        version = listed.resourceVersion
                    for event, each in client.watch(ConfigMap, labels={"t": "x"}, resource_version=version):
                        version = each.metadata.resourceVersion
                        self.take(event, each.metadata.name, each.data)
                        if self.stopping.is_set():
                            break
                except lightkube.ApiError as error:
                    version = "" if error.status.code == 410 else version
                except httpx2.HTTPError:
                    continue


class Asynchronous(Threaded):
    """A coroutine in an event loop of the thread's own."""

    def run(self) -> None:
        async def until_stopped() -> None:
            work = asyncio.create_task(self.follow(), name="follower")
            while not self.stopping.is_set() and not work.done():
                await asyncio.wait([work], timeout=0.05)
            work.cancel()
            await asyncio.gather(work, return_exceptions=not work.done())

        asyncio.run(until_stopped())
        gc.collect()  # what kubernetes_asyncio's watches left behind, while that is expected

    def follow(self) -> Coroutine[Any, Any, None]:
        raise NotImplementedError


class KubernetesAsyncio(Asynchronous):
    """List, then its Watch from the list's revision, which resumes by itself until that is too old."""

    async def follow(self) -> None:
        configuration = kubernetes_async.client.Configuration()
        await kubernetes_async.config.load_kube_config(str(self.configuration), client_configuration=configuration)
        async with kubernetes_async.client.ApiClient(configuration) as api:
            listing = kubernetes_async.client.CoreV1Api(api).list_namespaced_config_map
            version = ""
            while True:
                try:
                    if not version:
                        page = await listing(self.namespace, label_selector=SELECTOR)
                        self.begin({each.metadata.name: each.data["n"] for each in page.items})
                        version = page.metadata.resource_version
                    wanted = {"label_selector": SELECTOR, "resource_version": version}
                    async with kubernetes_async.watch.Watch().stream(listing, self.namespace, **wanted) as events:
                        async for event in events:
                            version = event["object"].metadata.resource_version
                            self.take(event["type"], event["object"].metadata.name, event["object"].data)
                except kubernetes_async.client.ApiException as error:
                    version = "" if error.status == 410 else version
                except aiohttp.ClientError:
                    continue


class Kr8s(Asynchronous):
    """Watches from nothing, and lists when the watch has begun: its watch has no way to go on from a list."""

    async def follow(self) -> None:
        api = await kr8s.asyncio.api(kubeconfig=str(self.configuration), namespace=self.namespace)
        try:
            await self._watch(api)
        finally:
            await api._session.aclose()  # it has no public way to close its connections

    async def _watch(self, api: Any) -> None:
        while True:
            begun = False
            try:
                async for event, each in api.watch("configmaps", label_selector=SELECTOR):
                    self.take(event, each.name, each.raw.data)
                    if not begun:
                        there = [one.name async for one in api.get("configmaps", label_selector=SELECTOR)]
                        self.begin({name: n for name, n in self.state.items() if name in there})
                        begun = True
            except (httpx.HTTPError, kr8s.ServerError, kr8s.APITimeoutError):
                continue


FOLLOWERS: list[type[Follower]] = [Informer, Lightkube, KubernetesAsyncio, Kr8s]


class Writer:
    """Makes, changes and deletes configmaps, by a way of its own."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._token = cluster, admin_token(cluster)
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._numbers = itertools.count()

    def churn(self, rounds: int) -> None:
        """Each round is one make, one change and, of two rounds in three, one deletion."""
        for _ in range(rounds):
            n = next(self._numbers)
            meta = {"name": f"m{n}", "labels": {"t": "x"}}
            self._send("POST", "", {"metadata": meta, "data": {"n": "new"}})
            self._send("PATCH", f"/m{n}", {"data": {"n": str(n)}}, **{"Content-Type": "application/merge-patch+json"})
            if n % 3:
                self._send("DELETE", f"/m{n}", None)

    def _send(self, method: str, path: str, body: Any, **headers: str) -> None:
        status, answer = self._cluster.request(method, self._path + path, self._token, body, **headers)
        assert status in (200, 201), answer

    def truth(self) -> State:
        """What is there, by a list."""
        status, answer = self._cluster.request("GET", f"{self._path}?labelSelector=t%3Dx", self._token)
        assert status == 200
        return {each["metadata"]["name"]: each["data"]["n"] for each in json.loads(answer)["items"]}


def killed(cluster: Cluster, module: str) -> None:
    """Kills a child of `up`, and waits until another one serves."""
    pid = child(cluster, module)
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        try:
            answers = cluster.request("GET", "/api/v1/namespaces/default", admin_token(cluster))[0] == 200
            return child(cluster, module) != pid and answers
        except (OSError, LookupError):
            return False

    wait_until(replaced, f"{module} was not started again", 90)


@pytest.mark.parametrize("kind", FOLLOWERS, ids=lambda kind: kind.__name__)
def test_a_follower_ends_consistent(cluster: Cluster, namespace: str, tmp_path: Path, kind: type[Follower]) -> None:
    writer = Writer(cluster, namespace)
    writer.churn(4)
    with clientlab.wire(cluster) as way:
        login = clientlab.exec_kubeconfig(
            cluster, tmp_path, server=way.server, namespace=namespace, version=kind.exec_version
        )
        follower = kind(login.path, namespace, way)

        def follows(after: str) -> None:
            truth = writer.truth()
            wait_until(
                lambda: follower.state == truth, f"not consistent after {after}: {follower.state} for {truth}", 60
            )

        with follower.running():
            follows("the first list")
            opened = way.opened
            writer.churn(2)
            assert way.cut() >= 1
            writer.churn(2)
            follows("a cut")
            assert way.opened > opened
            killed(cluster, "gateway.worker")
            writer.churn(2)
            follows("the worker's end")
            lists = follower.lists
            with way.held():
                writer.churn(HISTORY)
            writer.churn(1)
            follows("the history's passing")
            assert follower.lists > lists
            writer.churn(1)
            killed(cluster, "up.control")
            writer.churn(3)
            follows("the API server's end")
        assert login.runs >= 1


def test_a_list_in_pages_outlives_its_revision(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    writer = Writer(cluster, namespace)
    writer.churn(9)
    login = clientlab.exec_kubeconfig(cluster, tmp_path, namespace=namespace)
    with kubernetes.config.new_client_from_config(str(login.path)) as api:
        page = kubernetes.client.CoreV1Api(api).list_namespaced_config_map
        first = page(namespace, label_selector=SELECTOR, limit=1)

        def second() -> None:
            writer.churn(1)
            page(namespace, label_selector=SELECTOR, _continue=first.metadata._continue)

        rest = expired(second)
        assert (rest["code"], rest["reason"]) == (410, "Expired")
        inconsistent = page(namespace, label_selector=SELECTOR, _continue=rest["metadata"]["continue"])
        names = {each.metadata.name for each in [*first.items, *inconsistent.items]}
        assert names == set(writer.truth())


def expired(ask: Callable[[], Any]) -> Any:
    """Returns the Status of the 410 that the call ends in, once the revision is compacted away."""
    found: list[Any] = []

    def gone() -> bool:
        try:
            ask()
        except ApiException as error:
            found.append(json.loads(error.body))
        return bool(found)

    wait_until(gone, "the revision was never compacted")
    return found[0]
