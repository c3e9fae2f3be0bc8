"""The README's commands work, in both languages, and what it shows is what is printed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from portway.testing.cluster import Cluster

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def commands(name: str) -> list[str]:
    """The lines after a prompt."""
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_both_languages_give_the_same_commands() -> None:
    assert commands("README.md") == commands("README.ko.md")
    assert len(commands("README.md")) >= 11


SERVING = ("portway proxy", "portway forward")
"""Commands that go on until they are told to end."""


@pytest.mark.kubectl
@pytest.mark.parametrize("command", [line for line in commands("README.md") if line.startswith(SERVING)])
def test_a_command_of_the_readme_serves(cluster: Cluster, command: str) -> None:
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    argv = [sys.executable, "-m", *command.split()]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(("Starting to serve on ", "Forwarding from "))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.kubectl
@pytest.mark.parametrize("command", [line for line in commands("README.md") if not line.startswith(SERVING)])
def test_a_command_of_the_readme_works(cluster: Cluster, command: str) -> None:
    password = (cluster.data_dir / "demo-password").read_text().strip()
    localised = command.replace("PASSWORD", password).replace("~/.portway", str(cluster.data_dir))
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}"}
    script = (
        f'portway() {{ "{sys.executable}" -m portway "$@"; }}; curl() {{ command curl -sS --fail "$@"; }}; {localised}'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_what_the_readme_shows_is_what_is_printed(shown: tuple[Cluster, str]) -> None:
    cluster, text = shown
    volatile = [
        (re.escape(cluster.server), "https://127.0.0.1:6443"),
        (r"http://127.0.0.1:\d+", "http://127.0.0.1:8080"),
        (r"ready in [\d.]+ s", "ready in N s"),
        (r"password  \S+", "password  P"),
        (r"KUBECONFIG=\S+", "KUBECONFIG=K"),
    ]

    def still(shown_text: str) -> str:
        for pattern, constant in volatile:
            shown_text = re.sub(pattern, constant, shown_text)
        return shown_text.strip()

    for name in ("README.md", "README.ko.md"):
        block = re.search(r"^```\n(Portway .*?)^```", (ROOT / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
        assert block is not None
        assert still(block[1]) == still(text)


def test_every_link_of_the_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document}: {target}"


def test_the_index_lists_every_design_note() -> None:
    design = ROOT / "docs" / "design"
    listed = set(re.findall(r"\]\((\w[\w-]*\.md)\)", (design / "README.md").read_text("utf-8")))
    assert listed == {page.name for page in design.glob("*.md")} - {"README.md"}
