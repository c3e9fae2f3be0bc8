"""The Helm chart as Helm's own engine renders it, and the plain manifests that are made of it.

    python -m portway.testing.chart > deploy/manifests/portway.yaml

Helm comes as a shared library in a package of the dependency group `deploy`; nothing asks a cluster or the network.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "portway"
MANIFESTS = ROOT / "deploy" / "manifests" / "portway.yaml"
RELEASE = NAMESPACE = "portway"
HEADER = """\
# Portway for a cluster without Helm: two replicas that serve every namespace by path. Made of deploy/helm/portway with
# its default values by `make manifests`: change the chart instead. docs/deploy.md says what to do before and after
#
#     kubectl apply -f portway.yaml
---
apiVersion: v1
kind: Namespace
metadata:
  name: portway
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
HELMS_OWN = ("app.kubernetes.io/managed-by: ", "helm.sh/chart: ")
HOOKS = "tests/"

Object = dict[str, Any]


def render(values: Mapping[str, Any] | None = None, *, hooks: bool = False) -> dict[str, str]:
    """Template's name (below templates/) → text, those that rendered to nothing left out, in Helm's order by name.

    Raises helm_python.HelmError for values that the schema refuses or a template fails on.
    """
    import helm_python  # here: it is 80 MB that only these tests need

    given = dict(values or {})
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(given)
        rendered = chart.render(given, name=RELEASE, namespace=NAMESPACE, is_install=True, revision=1)
    short = {name.partition("/templates/")[2]: text for name, text in rendered.items()}
    return {
        name: text
        for name, text in sorted(short.items())
        if text.strip() and (hooks or not name.startswith(HOOKS)) and not name.startswith("_")
    }


def objects(values: Mapping[str, Any] | None = None, *, hooks: bool = False) -> list[Object]:
    """What would be applied."""
    texts = (text for name, text in render(values, hooks=hooks).items() if name != "NOTES.txt")
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def of_kind(found: list[Object], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [one for one in found if one["kind"] == kind]


def plain() -> str:
    """deploy/manifests/portway.yaml."""
    return HEADER + "".join(_documents())


def _documents() -> Iterator[str]:
    for name, text in render().items():
        if name != "NOTES.txt":
            kept = [line for line in text.strip().splitlines() if not line.strip().startswith(HELMS_OWN)]
            yield "---\n" + "\n".join(line.rstrip() for line in kept) + "\n"


if __name__ == "__main__":
    sys.stdout.write(plain())
