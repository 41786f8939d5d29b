"""Benchmarks as a user runs them: as processes of their own, and what they start as processes that begin with
nothing."""

import os
import subprocess
import sys
from pathlib import Path

from tests.worlds import forks

ROOT = Path(__file__).parents[2]
RUN_S_MAX = 300  # only a hung one takes so long


def run_benchmark(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m benchmarks` with these words."""
    command = [sys.executable, "-m", "benchmarks", *words]
    code, stdout, stderr = forks.run(command, os.environ, b"", RUN_S_MAX, imported=forks.BENCHMARK)
    return subprocess.CompletedProcess(command, code, stdout.decode(), stderr.decode())


def run_cold(*words: str) -> subprocess.CompletedProcess[str]:
    """The same, of a process that begins with nothing imported."""
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX)
