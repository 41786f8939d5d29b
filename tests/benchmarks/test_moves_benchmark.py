"""The benchmark of moves says what it should, whatever the figures are, and makes them as it says."""

import json
from pathlib import Path

from basestore.errors import Unreachable
from basestore.results.moves import Move
from benchmarks.moves import log_lines
from benchmarks.moves_course import RECORD_BYTES, Plan
from benchmarks.moves_faults import ended
from benchmarks.moves_report import (
    Disturbance,
    Moved,
    Phase,
    Trace,
    by_second,
    bytes_of,
    came,
    disturbance_rows,
    phase_rows,
)
from tests.benchmarks.running import run_benchmark

S = 1_000_000_000
MS = 1_000_000
QUIET, JOIN = Phase("quiet", 0, 10 * S), Phase("join n4", 10 * S, 30 * S)
KILL = Disturbance("kill", "n4", "comes", "fill", 7, 15 * S, 1.5)


def test_a_dead_node_is_replaced_and_every_record_is_there(tmp_path: Path) -> None:
    options = "--replace --records 300 --seconds 1 --rate 50 -o json"
    result = run_benchmark("moves", *options.split(), "--directory", str(tmp_path))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [row["phase"] for row in found["phases"]] == ["quiet", "replace n3", "replaced"]
    assert all(row["latencies"]["requests"] > 0 for row in found["phases"])
    (moved,) = found["moved"]
    assert (moved["change"], moved["replicas"], moved["records"]) == ("replace n3", 64, 300)
    checked = found["checked"]
    assert [checked[name] for name in ("lost", "altered", "went_back")] == [0, 0, 0]
    assert (checked["records"], checked["copies"], checked["converged"]) == (300, 900, True)
    assert checked["acknowledged"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_phase_is_without_what_was_under_way_in_the_seconds_behind_a_kill() -> None:
    trace = Trace()
    for began_s, took_ms in ((1, 10), (11, 20), (12, 4000), (14, 400), (16, 900), (19.9, 30), (20.1, 50)):
        trace.note(int(began_s * S), int(began_s * S) + took_ms * MS, writes=False)
    trace.note(25 * S, 25 * S + 70 * MS, writes=True)
    trace.fail(13 * S, 14 * S, Unreachable("2 of 3"))
    trace.fail(14 * S, 16 * S, Unreachable("1 of 3 at n4"))
    quiet, join = phase_rows(trace, [QUIET, JOIN], [KILL])
    assert (quiet.latencies.requests, quiet.latencies.get_p99_ms, quiet.get_p99_to_quiet) == (1, 10.0, 1.0)
    # Not what began at 12 and ended at 16, nor at 16 and 19.9: but what began at 14 and had ended by 15.
    assert (join.latencies.requests, join.latencies.get_p99_ms, join.get_p99_to_quiet) == (4, 400.0, 40.0)
    assert (join.latencies.set_p99_ms, join.set_p99_to_quiet) == (70.0, None)
    assert join.latencies.errors == {"Unreachable: N of N": 1}
    (row,) = disturbance_rows(trace, [KILL], 5 * S)
    assert (row.at_s, row.latencies.requests, row.latencies.max_ms) == (10.0, 3, 4000.0)
    assert row.latencies.kinds == {"Unreachable": 1}
    seconds = by_second(trace, 10 * S, 26 * S)
    assert [each.at_s for each in seconds if each.get_p99_ms] == [1, 2, 4, 6, 9, 10]
    assert (seconds[15].set_p99_ms, seconds[3].errors, seconds[4].errors) == (70.0, 1, 1)


def test_what_had_to_move_is_what_came_to_members_that_had_none_of_it() -> None:
    before = [("n1", "n2", "n3"), ("n1", "n2", "n3"), ("n1", "n2", "n3")]
    after = [("n4", "n2", "n1"), ("n3", "n1", "n2"), ("n4", "n5", "n3")]
    assert came(before, after, [10, 200, 3000]) == (3, 6010)
    moved = [Moved("join n4", 2.0, 3, 6010, 1_000_000), Moved("drain n1", 4.0, 1, 3990, 1_000_000)]
    assert [each.records_per_s for each in moved] == [3005, 998]
    found = bytes_of(moved, 100, 12.3)
    assert found is not None
    assert (found.had_to_move, found.sent, found.to_had_to_move) == (1_000_000, 2_000_000, 2.0)
    assert bytes_of([*moved, Moved("drain n2", 1.0, 1, 10, None)], 100, 0.0) is None


def test_a_record_takes_as_many_bytes_as_a_node_holds() -> None:
    assert 2 + 1 + len("default") + len("key-00000000") + 49 + 8 + 100 == RECORD_BYTES
    assert Plan(1, 1.0, 1.0, True, False, None).quiet


def test_a_move_has_ended_when_it_was_in_joint_and_is_no_more() -> None:
    def move(partition: int, stage: str) -> Move:
        return Move(partition, stage, 1.0, ("n1", "n2"), ("n1", "n3"), 10, 0, ())

    before = [move(1, "waits"), move(2, "fill"), move(3, "joint"), move(4, "joint")]
    assert ended(before, [move(2, "joint"), move(3, "joint")]) == before[3]
    assert ended(before, [move(3, "joint"), move(4, "joint")]) is None


def test_what_nodes_say_at_warning_or_worse_is_counted_without_its_numbers() -> None:
    first = "n4 listens on 127.0.0.1:7403\n2026-11-30T03:23:58.101Z WARNING n4: 3 of 5 are seen\n"
    second = "2026-11-30T03:25:00.000Z WARNING n1: 2 of 5 are seen\nTraceback (most recent)\n"
    assert log_lines([first, second]) == {
        "WARNING nN: N of N are seen": 2, "Traceback (most recent)": 1,
    }  # fmt: skip
