"""What the pages show as configuration is taken: values by the chart, settings by the door, issuers by its reader."""

import re
import shlex

import pytest
import yaml

from portway.door.settings import GATEWAY
from portway.gateway.authentication.oidcconfig import parse
from portway.testing.chart import CHART, ROOT, render

pytestmark = pytest.mark.deploy

PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def shown(start: str) -> list[str]:
    return [block for block in BLOCKS if block.startswith(start)]


@pytest.mark.parametrize("block", shown("# values.yaml"))
def test_values_are_ones_of_the_chart(block: str) -> None:
    assert render(yaml.safe_load(block))


def test_settings_are_ones_of_the_door() -> None:
    (block,) = shown("# gateway.yaml")
    for name, value in yaml.safe_load(block).items():
        GATEWAY.by_name[name].value(value)


def test_the_authentication_configuration_is_one() -> None:
    (block,) = shown("apiVersion: apiserver")
    assert parse(block).jwt[0].issuer.url == "https://login.example.com"


def test_every_block_of_yaml_was_looked_at() -> None:
    kinds = ("# values.yaml", "# gateway.yaml", "apiVersion: apiserver", "# kustomization.yaml")
    assert sum(len(shown(kind)) for kind in kinds) == len(BLOCKS)
    assert (len(shown("# values.yaml")), len(shown("# kustomization.yaml"))) == (3, 1)


def test_files_that_commands_name_are_there() -> None:
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    words = shlex.split(commands)
    for word in (w for w in words if w.startswith("deploy/")):
        assert (ROOT / word).exists(), word
    for word in (w for w in words if w.startswith("templates/")):
        assert (CHART / word).exists(), word
    assert "requirements.lock" in words
