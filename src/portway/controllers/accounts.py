"""The two small ones: rules of aggregated ClusterRoles, and the `default` ServiceAccount of every namespace."""

from portway.client.protocol import Client
from portway.controllers.aggregation import aggregated_rules, is_aggregated
from portway.controllers.base import Controller
from portway.controllers.collections import Caches, Writer
from portway.controllers.queue import Key
from portway.kube import objects
from portway.kube.objects import Object

DEFAULT = "default"


class ClusterRoleAggregationController(Controller):
    """Writes into each aggregated ClusterRole the rules of those that it selects."""

    name = "clusterrole-aggregation-controller"
    needs = ("clusterroles",)

    def __init__(self, client: Client, caches: Caches) -> None:
        super().__init__(client, caches)
        self._writer = Writer(client, caches, "clusterroles")
        caches.clusterroles.listen(lambda *_: self._changed())

    async def sync(self, key: Key) -> None:
        role = self.caches.clusterroles.get(key)
        if role is None or not is_aggregated(role):
            return
        rules = aggregated_rules(role, self.caches.clusterroles.values())
        if rules != (role.get("rules") or []):
            await self._writer.update(
                {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"} | role | {"rules": rules}
            )

    def _changed(self) -> None:
        for role in self.caches.clusterroles.values():
            if is_aggregated(role):
                self.queue.add(objects.key(role))


class ServiceAccountController(Controller):
    """Makes the ServiceAccount that pods of a namespace run as when they name none."""

    name = "serviceaccount-controller"
    needs = ("namespaces", "serviceaccounts")

    def __init__(self, client: Client, caches: Caches) -> None:
        super().__init__(client, caches)
        self._writer = Writer(client, caches, "serviceaccounts")
        caches.namespaces.listen(lambda key, *_: self.queue.add((key[1], DEFAULT)))
        caches.serviceaccounts.listen(self._account_changed)

    async def sync(self, key: Key) -> None:
        namespace = self.caches.namespaces.get(("", key[0]))
        if namespace is None or objects.deleting(namespace) or self.caches.serviceaccounts.get(key) is not None:
            return
        metadata = {"namespace": key[0], "name": DEFAULT}
        await self._writer.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})

    def _account_changed(self, key: Key, _: Object | None, after: Object | None) -> None:
        if after is None and key[1] == DEFAULT:
            self.queue.add(key)
