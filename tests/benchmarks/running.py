"""Benchmarks as a user runs them: as processes of their own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_S_MAX = 300  # only a hung one takes so long


def run_benchmark(*words: str) -> subprocess.CompletedProcess[str]:
    """`python -m benchmarks` with these words."""
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX)
