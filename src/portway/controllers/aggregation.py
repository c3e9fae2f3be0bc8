"""ClusterRoles that are the union of others: `aggregationRule` selects them by label. Pure."""

from collections.abc import Iterable

import orjson

from portway.kube import objects
from portway.kube.objects import Object
from portway.kube.selectors import from_label_selector_object


def is_aggregated(role: Object) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def aggregated_rules(role: Object, others: Iterable[Object]) -> list[Object]:
    """The rules that an aggregated role should have: those of every role that a selector matches, each once.

    Selectors in their order, roles by name within one, never the role itself: the same input gives the same list.
    """
    rules: dict[bytes, Object] = {}
    candidates = sorted((one for one in others if objects.name(one) != objects.name(role)), key=objects.name)
    for selector in role["aggregationRule"]["clusterRoleSelectors"]:
        wanted = from_label_selector_object(selector)
        for one in candidates:
            if wanted.matches(objects.labels(one)):
                for rule in one.get("rules") or ():
                    rules.setdefault(orjson.dumps(rule, option=orjson.OPT_SORT_KEYS), rule)
    return list(rules.values())
