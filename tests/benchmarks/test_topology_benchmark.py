"""The benchmark of a disturbed metadata group says what it should, whatever the figures are."""

import json
from pathlib import Path

from tests.benchmarks.running import run_benchmark

CASES = ["quiet", "changes", "leader", "follower"]


def test_every_case_of_three_nodes_is_measured_and_printed_as_json(tmp_path: Path) -> None:
    options = "--nodes 3 --seconds 0.5 --rounds 1 --keys 100 --rate 100 -o json"
    result = run_benchmark("topology", *options.split(), "--directory", str(tmp_path))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [(row["case"], row["operation"]) for row in found] == [
        (case, operation) for case in CASES for operation in ("get", "set")
    ]
    for row in found:
        assert row["nodes"] == 3
        assert row["requests"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["p999_ms"] + 0.001  # rounded, each
        assert (row["done"] > 0) == (row["case"] != "quiet")
        assert row["errors"] == 0
        if row["case"] == "quiet":
            assert row["p50_to_quiet"] == row["p99_to_quiet"] == row["p999_to_quiet"] == 1
    assert list(tmp_path.iterdir()) == []
