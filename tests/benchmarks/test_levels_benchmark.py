"""The benchmark of the levels says what it should, whatever the figures are."""

import json
import subprocess
from pathlib import Path

from benchmarks.levels import MANY, Cell, plan_cells
from benchmarks.load import Measured, Run
from benchmarks.machine import interpreter
from benchmarks.report import make_row, table
from tests.benchmarks.running import run_cold

FIELDS = [
    "operation", "level", "clients", "connections", "durability", "ops_per_s", "p50_ms", "p99_ms", "p999_ms",
    "server_cpu_us", "client_cpu_us", "errors", "superseded", "limit_ms", "keys_a_call", "load",
    "interpreter",
]  # fmt: skip


def run_levels(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_cold("levels", "--directory", str(directory), *options)


def an_order(operation: str, level: str, clients: int, connections: int = 1, batch: int = 1) -> Run:
    return Run([], [], operation, level, clients, connections, batch, 100, 1, 0.5, 2.0)


def test_a_cell_is_measured_and_printed_as_json(tmp_path: Path) -> None:
    options = "--operations write --levels quorum --clients 1 --durability sync --seconds 0.3 --keys 200"
    result = run_levels(tmp_path, *options.split(), "-o", "json")
    assert result.returncode == 0, result.stderr
    [row] = json.loads(result.stdout)
    assert list(row) == FIELDS
    named = ("operation", "level", "clients", "connections", "durability", "errors", "keys_a_call")
    assert [row[name] for name in named] == ["write", "quorum", 1, 1, "sync", 0, 1]
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["p999_ms"]
    assert min(row["ops_per_s"], row["server_cpu_us"], row["client_cpu_us"], row["limit_ms"]) > 0
    assert row["load"] >= 0
    assert row["interpreter"] == interpreter()
    assert "limits of this machine" in result.stderr
    assert "200 keys written in" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_each_cell_is_measured_over_one_connection_and_over_one_a_caller(tmp_path: Path) -> None:
    options = "--levels one --clients 1,3 --durability memory --seconds 0.2 --keys 200 -o json"
    result = run_levels(tmp_path, *options.split())
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    operations = ("write", "read", "set_many", "get_many")
    assert [(row["operation"], row["clients"], row["connections"]) for row in rows] == [
        (operation, *callers) for operation in operations for callers in ((1, 1), (3, 1), (3, 3))
    ]
    for row in rows:
        many = row["operation"] in ("set_many", "get_many")
        assert row["keys_a_call"] == (MANY if many else 1)
        assert row["ops_per_s"] > 0
        assert row["errors"] == 0


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    for options in (
        ["--operations", "read", "--levels", "any"],
        ["--operations", "delete"],
        ["--levels", "most"],
        ["--clients", "0"],
        ["--connections", "0"],
        ["--durability", "never"],
    ):
        result = run_levels(tmp_path, *options)
        assert result.returncode == 2
        assert "Error" in result.stderr
        assert result.stdout == ""


def test_there_is_no_read_at_level_any() -> None:
    assert plan_cells(["write", "read"], ["any", "one"], [1], None) == [
        Cell("write", "any", 1, 1),
        Cell("write", "one", 1, 1),
        Cell("read", "one", 1, 1),
    ]


def test_a_number_of_connections_is_shared_by_all_callers_of_whom_none_has_two() -> None:
    assert plan_cells(["get_many"], ["all"], [2, 64], 16) == [
        Cell("get_many", "all", 2, 2),
        Cell("get_many", "all", 64, 16),
    ]


def test_percentiles_are_exact_and_costs_are_per_operation() -> None:
    latencies_ns = [milliseconds * 1_000_000 for milliseconds in range(1000, 0, -1)]
    measured = Measured(2_000_000_000, 1000, 3, latencies_ns, 50_000_000, 20_000_000, {"lost": 2})
    row = make_row(an_order("write", "one", 16), "memory", measured, 1.5, None)
    assert (row.p50_ms, row.p99_ms, row.p999_ms) == (500, 990, 999)
    assert (row.ops_per_s, row.server_cpu_us, row.client_cpu_us) == (500, 50, 20)
    assert (row.errors, row.superseded, row.load) == (2, 3, 1.5)


def test_a_row_of_nothing_but_errors_is_printed_within_100_columns() -> None:
    measured = Measured(2_000_000_000, 0, 0, [], 50_000_000, 20_000_000, {"Unavailable": 1234})
    row = make_row(an_order("set_many", "quorum", 2000, 2000, 64), "interval", measured, 12.0, None)
    assert (row.ops_per_s, row.p50_ms, row.server_cpu_us) == (0, None, None)
    assert all(len(line) <= 100 for line in table([row]).splitlines())


def test_the_largest_figures_are_printed_within_100_columns() -> None:
    latencies_ns = [9_999_000_000]
    measured = Measured(2_000_000_000, 1_999_998, 99_999, latencies_ns, 10**14, 10**14, {"Failed": 99_999})
    row = make_row(an_order("get_many", "quorum", 2000, 2000, 64), "interval", measured, 12.0, None)
    assert all(len(line) <= 100 for line in table([row]).splitlines())
    assert len(set(map(len, table([row, row]).splitlines()[1:]))) == 1, "columns stand below their headings"
