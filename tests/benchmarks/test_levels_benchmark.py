"""The benchmark of the levels says what it should, whatever the figures are."""

import json
import subprocess
from pathlib import Path

from benchmarks.levels import Cell, plan_cells
from benchmarks.load import Measured
from benchmarks.report import make_row, table
from tests.benchmarks.running import run_benchmark


def run_levels(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_benchmark("levels", "--directory", str(directory), *options)


def test_a_cell_is_measured_and_printed_as_json(tmp_path: Path) -> None:
    options = "--operations write --levels quorum --clients 1 --durability sync --seconds 0.3 --keys 200"
    result = run_levels(tmp_path, *options.split(), "-o", "json")
    assert result.returncode == 0, result.stderr
    [row] = json.loads(result.stdout)
    assert set(row) == {
        "operation", "level", "clients", "connections", "durability", "ops_per_s", "p50_ms", "p99_ms",
        "p999_ms", "server_cpu_us", "client_cpu_us", "errors", "superseded", "limit_ms",
    }  # fmt: skip
    named = ("operation", "level", "clients", "connections", "durability", "errors")
    assert [row[name] for name in named] == ["write", "quorum", 1, 1, "sync", 0]
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["p999_ms"]
    assert min(row["ops_per_s"], row["server_cpu_us"], row["client_cpu_us"], row["limit_ms"]) > 0
    assert "limits of this machine" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    for options in (
        ["--operations", "read", "--levels", "any"],
        ["--levels", "most"],
        ["--clients", "0"],
        ["--durability", "never"],
    ):
        result = run_levels(tmp_path, *options)
        assert result.returncode == 2
        assert "Error" in result.stderr
        assert result.stdout == ""


def test_there_is_no_read_at_level_any() -> None:
    assert plan_cells(["write", "read"], ["any", "one"], [1]) == [
        Cell("write", "any", 1),
        Cell("write", "one", 1),
        Cell("read", "one", 1),
    ]


def test_percentiles_are_exact_and_costs_are_per_operation() -> None:
    latencies_ns = [milliseconds * 1_000_000 for milliseconds in range(1000, 0, -1)]
    measured = Measured(2_000_000_000, 1000, 3, latencies_ns, 50_000_000, 20_000_000, {"lost": 2})
    row = make_row("write", "one", 16, 1, "memory", measured, None)
    assert (row.p50_ms, row.p99_ms, row.p999_ms) == (500, 990, 999)
    assert (row.ops_per_s, row.server_cpu_us, row.client_cpu_us) == (500, 50, 20)
    assert (row.errors, row.superseded) == (2, 3)


def test_a_row_of_nothing_but_errors_is_printed_within_100_columns() -> None:
    measured = Measured(2_000_000_000, 0, 0, [], 50_000_000, 20_000_000, {"Unavailable": 1234})
    row = make_row("write", "quorum", 256, 1, "interval", measured, None)
    assert (row.ops_per_s, row.p50_ms, row.server_cpu_us) == (0, None, None)
    assert all(len(line) <= 100 for line in table([row]).splitlines())
