"""The benchmark of an idle cluster says what it should, whatever the times are."""

import json
from pathlib import Path

from benchmarks.idle import Idle, text
from tests.benchmarks.running import run_benchmark


def test_an_idle_cluster_and_a_session_are_measured_and_printed_as_json(tmp_path: Path) -> None:
    options = ["--rest", "1", "--seconds", "3", "-o", "json", "--directory", str(tmp_path)]
    result = run_benchmark("idle", *options)
    assert result.returncode == 0, result.stderr
    idle = Idle(**json.loads(result.stdout))
    assert len(idle.nodes_ms) == 3
    assert min(idle.nodes_ms) > 0
    assert abs(idle.sum_ms - sum(idle.nodes_ms)) < 0.1
    assert idle.seconds >= 3
    assert min(idle.sessions_per_s, idle.session_us) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_text_names_what_was_measured() -> None:
    shown = text(Idle(30.0, [4.0, 5.0, 5.5], 14.5, 60.1, 100.5, "CPython 3.11.7", 0.5))
    assert "14.50 ms of CPU a second (4.00, 5.00, 5.50)" in shown
    assert "100.5 µs of CPU on both sides" in shown
