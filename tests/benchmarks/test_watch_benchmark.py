"""The benchmark of watches says what it should, whatever the figures are."""

import json
from pathlib import Path

from benchmarks.watch import Row, as_text
from tests.benchmarks.running import run_benchmark


def test_each_number_of_watchers_has_a_row(tmp_path: Path) -> None:
    words = ("--rounds", "1", "--seconds", "0.3", "--watchers", "1,2", "--writers", "2", "-o", "json")
    result = run_benchmark("watch", "--directory", str(tmp_path), *words)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["watchers"], row["writers"]) for row in rows] == [(1, 2), (2, 2)]
    for row in rows:
        assert min(row["writes_per_s"], row["writes_alone_per_s"], row["events_per_s"]) > 0
        assert 0 <= row["lag_p50_ms"] <= row["lag_p99_ms"]


def test_the_table_has_dashes_for_what_was_not_measured() -> None:
    text = as_text([Row(4, 8, 100.0, 120.0, 0.0, None, None, None)], "plan")
    assert text.splitlines()[-1].split() == ["4", "100.0", "120.0", "0.0", "-", "-", "-"]
