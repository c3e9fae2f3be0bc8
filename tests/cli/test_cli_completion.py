"""The completion scripts, evaluated by the shells that they are for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = """
compopt() { echo "compopt $2"; }  # the builtin only works while a person types
eval "$(portway completion bash)"
set -- $(complete -p portway) "$@"
while [ "$1" != -F ]; do shift; done
handler=$2; shift 3
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
$handler portway
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { handler=$1 }  # these only work while a person types, too
compadd() { print -l -- ${(P)@[-1]} }
_describe() { print -l -- ${${(P)@[-2]}%%:*} }
_path_files() { print "_path_files $@" }
eval "$(portway completion zsh)"
words=("$@") CURRENT=$#
$handler
"""
FISH = """
portway completion fish | source
complete -C "$argv" | string split -f 1 \\t
"""


@pytest.fixture
def complete(tmp_path: Path) -> "Complete":
    """Completes a command line in a shell."""
    return Complete(tmp_path)


class Complete:
    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._bin.mkdir()
        script = self._bin / "portway"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m portway "$@"\n')
        script.chmod(0o755)

    def __call__(self, shell: str, line: str) -> list[str]:
        if shutil.which(shell) is None:
            pytest.skip(f"there is no {shell}")
        words = ["portway", *line.split(" ")]
        argv = {
            "bash": ["bash", "--norc", "-c", BASH, "bash", *words],
            "zsh": ["zsh", "-fc", ZSH, "zsh", *words],
            "fish": ["fish", "--no-config", "-c", FISH, " ".join(words)],
        }[shell]
        env = os.environ | {"PATH": f"{self._bin}:{os.environ['PATH']}"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=50, check=False)
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("clu", ["cluster-info"]),
        ("user ", ["add", "list", "passwd", "remove"]),
        ("up --access-log-", ["--access-log-path"]),
        ("up --access-log ", ["combined", "json", "off"]),
        ("up --store m", ["memory"]),
        ("up --anonymous-auth ", ["false", "true"]),
        ("version -o ", ["json", "yaml"]),
    ],
)
def test_words_are_completed(complete: Complete, shell: str, line: str, expected: list[str]) -> None:
    assert sorted(complete(shell, line)) == expected


@pytest.mark.parametrize(
    "line", ["up --config ", "up --audit-log-path ", "user list --basic-auth-file ", "url --kubeconfig "]
)
def test_files_are_left_to_the_shell(complete: Complete, line: str) -> None:
    assert "compopt default" in complete("bash", line)


@pytest.mark.parametrize("line", ["up --data-dir ", "user list --data-dir "])
def test_directories_are_left_to_the_shell(complete: Complete, line: str) -> None:
    assert "compopt dirnames" in complete("bash", line)
