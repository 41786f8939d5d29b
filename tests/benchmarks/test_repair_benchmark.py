"""The benchmark of repair says what it should, whatever the times are."""

import importlib.util
import json
from pathlib import Path

import pytest

from basestore.protocol.anti_entropy import Entries, Same, Taken
from basestore.protocol.codec import Message, encode
from basestore.protocol.heartbeats import Ping
from benchmarks.pair import Meter
from benchmarks.reconciling import Cell, plan_cells
from benchmarks.repair import aim_bytes, table
from benchmarks.report import ExchangeRow
from benchmarks.rivals import DigestTree, leaf_of
from tests.benchmarks.running import run_benchmark

FIELDS = {
    "keys", "differences", "pattern", "certificate", "exchange", "metadata_bytes", "entry_bytes", "frames",
    "round_trips", "records_sent", "unneeded_rows", "cpu_ms", "certified_s", "tree_8_bytes", "tree_16_bytes",
    "whole_set_bytes", "limit_bytes", "ratio", "aim_bytes",
}  # fmt: skip


def test_differences_are_mended_and_printed_as_json(tmp_path: Path) -> None:
    options = ["--keys", "400", "--differences", "0,100", "-o", "json"]
    result = run_benchmark("repair", *options, "--directory", str(tmp_path))
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert all(set(row) == FIELDS for row in rows)
    cells = [(row["differences"], row["pattern"], row["certificate"], row["exchange"]) for row in rows]
    assert cells == [
        (0, "none", "empty", "same"),
        (0, "none", "recent", "same"),
        (100, "random", "empty", "delta"),
        (100, "outage", "empty", "delta"),
        (100, "outage", "recent", "delta"),
    ]
    for row in rows:
        assert (row["records_sent"], row["unneeded_rows"]) == (row["differences"], 0)
        assert 0 < row["metadata_bytes"] <= row["aim_bytes"]
        assert row["entry_bytes"] > 100 * row["differences"] or not row["differences"]
        assert row["round_trips"] >= 1
        assert min(row["cpu_ms"], row["certified_s"]) > 0
    assert list(tmp_path.iterdir()) == []


def test_opening_a_store_again_is_timed(tmp_path: Path) -> None:
    result = run_benchmark("repair", "--reopen", "--keys", "300", "--directory", str(tmp_path), "-o", "json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["partitions"], row["ended"]) for row in rows] == [
        (1, "stop"),
        (1, "kill"),
        (64, "stop"),
        (64, "kill"),
    ]
    assert all(row["engine_s"] > 0 and row["node_s"] > 0 for row in rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_a_plot_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "repair.svg"
    result = run_benchmark("repair", "--keys", "300", "--differences", "0,1,20", "--plot", str(file))
    assert result.returncode == 0, result.stderr
    assert "records that one replica lacks" in file.read_text()


def test_what_cannot_be_measured_is_refused() -> None:
    for options in (["--keys", "none"], ["--keys", "10", "--differences", "6"], ["--cost", "--reopen"]):
        result = run_benchmark("repair", *options)
        assert result.returncode == 2
        assert "Error" in result.stderr
        assert result.stdout == ""


def test_the_meter_counts_what_exchanges_say_and_nothing_else() -> None:
    meter = Meter()
    ping: Message = Ping(1, 1, True, b"", 1, [], False, 0, 0, 0)
    same = Same(1, 1, 7, 0, 0, True, 0, [])
    assert meter.sent(0, [ping]) == 0
    assert not meter.begun
    meter.heard(1, meter.sent(0, [same, ping]))
    entries = Entries(1, 1, [b"row", b"record", b""], False)
    end = Entries(1, 2, [], True)
    meter.heard(0, meter.sent(1, [Taken(1, 1), entries, end]))
    assert meter.metadata_bytes == len(encode([same])) + len(encode([Taken(1, 1), end]))
    assert (meter.entry_bytes, meter.frames, meter.round_trips) == (len(encode([entries])), 2, 1)


def test_a_digest_tree_costs_a_path_and_a_leaf_for_each_difference() -> None:
    tree = DigestTree()
    rows = [b"row %d" % number for number in range(1000)]
    for row in rows:
        tree.add(row)
    assert tree.metadata_bytes([], 8) == 8
    beside = sum(leaf_of(row) == leaf_of(rows[0]) for row in rows)
    assert tree.metadata_bytes(rows[:1], 8) == 8 + 4 * 16 * 8 + 8 * beside + 8


def test_only_sensible_cells_are_planned_and_those_of_an_outage_lie_side_by_side() -> None:
    assert plan_cells([10], [0, 6], ["random"]) == [
        Cell(10, 0, "none", "empty"),
        Cell(10, 0, "none", "recent"),
    ]
    lacking = Cell(100, 5, "outage", "empty").lacking
    assert len(lacking) == 5
    assert lacking[-1] - lacking[0] == 4
    assert len(set(Cell(100, 50, "random", "empty").lacking)) == 50


def test_tables_stay_within_100_columns_and_say_what_was_missed() -> None:
    cell = Cell(10_000_000, 100_000, "outage", "recent")
    row = ExchangeRow(
        *(cell.keys, cell.differences, cell.pattern, cell.since, "delta", 123_456, 18_700_000, 9, 105.5),
        *(100_000, 0, 123_456.7, 1234.567, 12_345_678, 23_456_789, 80_800_000, 800_000, 0.154),
        aim_bytes(cell),
    )
    text = table([row])
    assert " 200! " in text
    assert all(len(line) <= 100 for line in text.splitlines())
