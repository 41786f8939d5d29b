"""File systems of a few MiB, to be filled: mounted in a namespace of its own, for whoever may make one.

A script that needs them is run by `in_namespace`; inside it, `mount` makes one, and `grow` makes it larger.
All of them go when the script ends.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def _why_not() -> str:
    """Why this machine allows none, or the empty string."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    probe = subprocess.run(
        [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True
    )
    return f"namespaces with mounts are not allowed: {probe.stderr}" if probe.returncode else ""


def in_namespace(module: str, *words: str) -> str:
    """What `python -m module words` prints there; the test is skipped where that is not allowed."""
    if reason := _why_not():
        pytest.skip(reason)
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mount(directory: Path, size: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True)


def grow(directory: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(directory)], check=True)
