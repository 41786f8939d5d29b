"""The benchmark of overload says what it should, whatever the figures are."""

import importlib.util
import json
from array import array
from dataclasses import fields
from pathlib import Path

import pytest

from basestore.consistency import Level
from basestore.protocol.codec import Decoder
from basestore.protocol.groups import WriteMany
from basestore.transport.frames import FrameReader
from benchmarks.open_loop import ID_FIRST, POOL_FRAMES, WRITES, Counted, Driven, Frames
from benchmarks.overload_report import Phase, Row, costs_us, make_rows, table
from tests.benchmarks.running import run_benchmark

FIELDS = [each.name for each in fields(Row)]
MIB = 1 << 20


@pytest.mark.parametrize("cluster", ["one", "three"])
def test_loads_are_offered_and_each_write_is_counted_once(tmp_path: Path, cluster: str) -> None:
    words = ["--quick", "--cluster", cluster, "--directory", str(tmp_path), "-o", "json"]
    picture = tmp_path / "curves.svg"
    if importlib.util.find_spec("matplotlib") is not None:
        words += ["--plot", str(picture)]
    result = run_benchmark("overload", *words)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["cluster"], row["clients"], row["factor"], row["tenants"]) for row in rows] == [
        (cluster, "own", 0.5, 1),
        (cluster, "hostile", 0.5, 1),
        (cluster, "own", 5.0, 1),
        (cluster, "hostile", 5.0, 1),
        (cluster, "hostile", 5.0, 2),
    ]
    for row in rows:
        assert list(row) == FIELDS
        others = [row[name] for name in ("late", "shed", "failed", "unsent", "lost")]
        assert row["in_time"] + sum(others) == row["due"]
        assert min(row["due"], row["peak_per_s"], row["nodes_cpu_s"], row["generator_cpu_s"]) > 0
        assert min(others) >= 0
        assert (row["polite_lost"] is None) == (row["tenants"] == 1)
    least, most = rows[1], rows[3]
    assert most["offered_per_s"] > 5 * least["offered_per_s"]
    if "--plot" in words:
        assert "peak" in picture.read_text()
        picture.unlink()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_refused() -> None:
    for options in (["--cluster", "two"], ["--seconds", "0"], ["--output", "rows"]):
        result = run_benchmark("overload", *options)
        assert (result.returncode, result.stdout) == (2, "")
        assert "Error" in result.stderr


def test_a_frame_of_the_pool_is_what_a_node_takes_whatever_its_ids() -> None:
    frames, reader = Frames(Level.QUORUM, 1), FrameReader()
    reader.keep_sealed()
    proposals = set()
    for number in range(POOL_FRAMES + 1):
        at = ID_FIRST + WRITES * number
        (sealed,) = reader.feed(frames.frame(at))
        (request,) = sealed.open(Decoder())
        assert isinstance(request, WriteMany)
        assert request.ids == list(range(at, at + WRITES))
        assert (request.level, sealed.timeout_ms) == (Level.QUORUM, 500)
        proposals.update(request.identities)
    assert len(proposals) == (POOL_FRAMES + 1) * WRITES


def counted(good: int, late: int = 0, shed: int = 0, due: int = 0) -> Counted:
    return Counted(due or good + late + shed, array("d", [0.1] * good), late, shed)


def test_what_a_request_costs_is_told_from_runs_that_shed_more_or_less() -> None:
    runs = [Driven([counted(1000, 0, shed)], 1.0, 0.1 + shed * 5e-6, 0.0) for shed in (0, 1000, 10_000)]
    assert costs_us(runs) == (100.0, 5.0)
    assert costs_us(runs[:1]) == (100.0, None)
    saved = [Driven([counted(1000, 0, shed)], 1.0, 0.1 - shed * 1e-6, 0.0) for shed in (0, 10_000)]
    assert costs_us(saved) == (95.0, 0.0)
    assert costs_us([Driven([counted(0)], 1.0, 0.5, 0.0)]) == (None, None)


def test_goodput_is_held_against_all_peaks_of_the_run_by_cpu_second() -> None:
    beside = Driven([counted(400, 20), counted(97, due=100)], 1.0, 0.5, 0.1)
    phases = [
        Phase("own", 0.0, False, Driven([counted(900)], 1.0, 0.5, 0.1), 0, False),
        Phase("hostile", 5.0, True, beside, MIB, True),
        Phase("own", 0.0, False, Driven([counted(1100)], 1.0, 0.5, 0.1), 0, False),
    ]  # fmt: skip
    (row,) = make_rows("three", phases, 1.5)
    assert (row.peak_per_s, row.peak_per_cpu_s, row.goodput_ratio) == (1000, 2000, 0.497)
    assert (row.late, row.lost, row.polite_lost, row.polite_p99_ms) == (20, 3, 0.03, 100)
    assert (row.tenants, row.rss_growth_mib, row.peers_dead) == (2, 1.0, True)
    heading, line = table([row]).splitlines()[1:3]
    assert len(heading) == len(line) <= 124
