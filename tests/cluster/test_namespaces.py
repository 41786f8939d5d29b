"""The soak where the kernel loses packets, by its command, as a person would run it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.relayed import ROOT

PROBE = ["unshare", "--net", "ip", "link", "add", "bridge", "type", "bridge"]


def why_not() -> str:
    """Why this machine cannot give nodes namespaces of their own, or the empty string."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    probe = subprocess.run(PROBE, capture_output=True, text=True)
    return f"network namespaces are not allowed: {probe.stderr}" if probe.returncode else ""


def test_nodes_whose_packets_the_kernel_loses_keep_every_promise(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    command = [sys.executable, "-m", "tests.cluster", "--namespaces", "--seconds", "6", "--seed", "3"]
    done = subprocess.run(
        [*command, "-o", "json", "--keep", str(tmp_path / "kept")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1 also if the machine was too slow
    report = json.loads(done.stdout)
    assert report["violations"] == []
    assert report["counts"]["ways cut"] > 0
