"""`portway gateway` before it serves: what is wrong is one line with a way out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("acts", [{"as": "admin"}, {"as": "admin", "as-groups": ["system:masters"]}])
def test_a_door_that_acts_as_somebody_cannot_act_for_others(tmp_path: Path, acts: dict[str, object]) -> None:
    """The API server takes one user for a request: it would be the kubeconfig's for every caller."""
    kubeconfig = tmp_path / "config"
    content = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t", **acts}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    kubeconfig.write_text(json.dumps(content))
    files = [tmp_path / "tls.crt", tmp_path / "tls.key"]
    for file in files:
        file.write_text("")
    flags = [f"--kubeconfig={kubeconfig}", f"--tls-cert-file={files[0]}", f"--tls-private-key-file={files[1]}"]
    command = [sys.executable, "-m", "portway", "gateway", *flags]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.stderr.startswith("portway: the kubeconfig's user acts as another one (as)")
    assert (found.returncode, found.stderr.count("\n"), found.stdout) == (1, 1, "")
