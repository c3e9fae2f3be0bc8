"""ControllerManager: the controllers that are wanted, on one set of informers and caches."""

import asyncio
from collections.abc import Iterable

from portway.client.backoff import Backoff
from portway.client.informer import Informer
from portway.client.protocol import Client
from portway.controllers.accounts import ClusterRoleAggregationController, ServiceAccountController
from portway.controllers.base import Controller
from portway.controllers.certificates import ApprovingController, CleaningController, SigningController
from portway.controllers.collections import GROUPS, Caches
from portway.controllers.endpoints import EndpointsController
from portway.controllers.endpointslices import EndpointSliceController, EndpointSliceMirroringController
from portway.controllers.garbage import GarbageCollector
from portway.controllers.ingresses import IngressController
from portway.controllers.loadbalancers import ServiceLoadBalancerController
from portway.controllers.rootca import RootCAPublisher
from portway.controllers.servicecidrs import ServiceCidrController
from portway.controllers.settings import ControllerSettings

CONTROLLERS: tuple[type[Controller], ...] = (
    EndpointSliceController,
    EndpointsController,
    EndpointSliceMirroringController,
    ClusterRoleAggregationController,
    ServiceAccountController,
    RootCAPublisher,
    ApprovingController,
    SigningController,
    CleaningController,
    GarbageCollector,
    ServiceLoadBalancerController,
    ServiceCidrController,
    IngressController,
)


def enabled_names(selection: str) -> list[str]:
    """Which controllers a --controllers value means: names, `-name` to leave one out, `*` for all others.

    As in kube-controller-manager, the first word about a controller counts. Raises ValueError for an unknown name.
    """
    words = [word.strip() for word in selection.split(",") if word.strip()]
    known = [controller.name for controller in CONTROLLERS]
    for word in words:
        if word != "*" and word.removeprefix("-") not in known:
            raise ValueError(f'"{word}" is not in the list of known controllers: {", ".join(sorted(known))}')
    return [name for name in known if _is_enabled(name, words)]


def _is_enabled(name: str, words: Iterable[str]) -> bool:
    for word in words:
        if word in (name, f"-{name}"):
            return word == name
    return "*" in words


class ControllerManager:
    """Runs controllers against an API. The client stays the caller's to close."""

    def __init__(
        self,
        client: Client,
        enabled: str = "*",
        *,
        settings: ControllerSettings = ControllerSettings(),  # noqa: B008 (frozen)
        retry_cap: float = 2.0,
    ) -> None:
        """`enabled`: as --controllers; `retry_cap`: longest wait between attempts to reach the API, in seconds."""
        names = enabled_names(enabled)
        self.caches = Caches()
        made = [kind.made(client, self.caches, settings) for kind in CONTROLLERS if kind.name in names]
        self.controllers = [controller for controller in made if controller is not None]
        needed = {plural for controller in self.controllers for plural in controller.needs}
        self.informers = {plural: self._informer(client, plural, retry_cap) for plural in GROUPS if plural in needed}

    async def run(self) -> None:
        """Follow the cluster and do the work, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for plural, informer in self.informers.items():
                group.create_task(informer.run(), name=f"controllers' informer {plural}")
            for controller in self.controllers:
                group.create_task(self._run(controller), name=controller.name)

    def idle(self) -> bool:
        """Whether every kind has been listed and no controller has anything to do."""
        listed = all(informer.synced.is_set() for informer in self.informers.values())
        return listed and all(controller.queue.idle() for controller in self.controllers)

    async def _run(self, controller: Controller) -> None:
        # Nothing is written from half a picture.
        for plural in controller.needs:
            await self.informers[plural].synced.wait()
        await controller.run()

    def _informer(self, client: Client, plural: str, retry_cap: float) -> Informer:
        cache = getattr(self.caches, plural)
        return Informer(
            client, f"{GROUPS[plural]}/{plural}", cache.on_event, cache.keys, backoff=Backoff(cap=retry_cap)
        )
