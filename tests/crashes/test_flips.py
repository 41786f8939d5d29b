"""Flipped bits: detected, named, never served; and the three that RocksDB itself does not survive."""

import random
from pathlib import Path

import pytest

from tests.crashes.campaign import Workplace, flippable, try_flips
from tests.crashes.flips import Flip, draw_flips
from tests.crashes.history import History
from tests.crashes.load import Clock, Opening
from tests.crashes.opener import Found
from tests.crashes.recording import Operation
from tests.crashes.verdicts import FORGETFUL, REFUSED, WHOLE, judge_flipped, outcome, unnamed

PER_KIND = 30
BURSTS = 5
KIND_BYTE = 6  # of a record's header: checksum 4, length 2, kind 1
RECYCLED_BIT = 2  # makes a whole record (1) one of a recycled log (5)
UNREAD = ("config", "identity", "options", "text")  # a store opens, and is whole, whatever stands there


def test_no_flipped_bit_is_served_or_kept_quiet_about(
    operations: list[Operation], workplace: Workplace
) -> None:
    report = try_flips(operations, PER_KIND, 1, workplace)
    assert report.complaints == []
    assert {"log", "table", "manifest", "current", *UNREAD} <= report.table.keys()
    assert report.outcomes("table")[REFUSED] >= PER_KIND // 2
    assert report.outcomes("log").total() >= PER_KIND
    assert report.outcomes("log").keys() <= {FORGETFUL, WHOLE}
    for kind in UNREAD:
        assert report.outcomes(kind)[WHOLE] == report.outcomes(kind).total()


@pytest.fixture(scope="module")
def steady(crash_root: Path) -> dict[str, bytes]:
    """The files of a small store in use, opened for the second time. Nothing is written behind its
    requests, so its log and its manifest begin alike in every run; where those of the recording roll
    depends on when RocksDB's threads run, and its newest log may have a single record."""
    directory, clock = crash_root / "steady", Clock()
    for number in range(2):
        opening = Opening(directory, number, random.Random(number), clock)
        for _ in range(BURSTS):
            opening.burst()
            opening.settle()
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        opening.close(clean=True)
    return files


def _look_with(files: dict[str, bytes], workplace: Workplace, kind: str, record: int) -> Found:
    """The store with that bit flipped in the so manyth record of its newest file of a kind."""
    name = max(name for name in files if Flip(name, 0, 0).kind == kind)
    content, at = files[name], 0
    for _ in range(record):
        at += KIND_BYTE + 1 + int.from_bytes(content[at + 4 : at + 6], "little")
    assert content[at + KIND_BYTE] == 1
    return workplace.look(Flip(name, at + KIND_BYTE, RECYCLED_BIT).done_to(files))


def test_a_flipped_bit_of_what_only_the_log_holds_is_a_loss(
    steady: dict[str, bytes], workplace: Workplace
) -> None:
    """Of the recording nobody can say how much of a log is in tables already: there it is whole."""
    log = max(name for name in steady if Flip(name, 0, 0).kind == "log")
    flips = list(draw_flips({log: steady[log]}, PER_KIND, 1))
    assert len(flips) >= PER_KIND
    assert {outcome(workplace.look(flip.done_to(steady))) for flip in flips} == {FORGETFUL}


@pytest.mark.parametrize("record", [0, 1])
def test_a_log_with_a_record_of_a_recycled_log_is_cut_there_and_says_so(
    steady: dict[str, bytes], workplace: Workplace, record: int
) -> None:
    """RocksDB drops the whole log in silence (the first record), or never returns (a later one)."""
    found = _look_with(steady, workplace, "log", record)
    assert found.ended == ""
    assert "is damaged and was cut before the damage" in found.loss
    assert found.state == "forgetful"


@pytest.mark.parametrize("record", [0, 1, 4])
def test_a_manifest_with_such_a_record_is_refused_by_name(
    steady: dict[str, bytes], workplace: Workplace, record: int
) -> None:
    found = _look_with(steady, workplace, "manifest", record)
    assert found.ended == ""
    assert "/MANIFEST-" in found.refused


def test_a_manifest_that_ends_inside_a_record_is_a_loss(
    operations: list[Operation], workplace: Workplace
) -> None:
    """RocksDB opens it at an older table of contents, and removes the files that are not in that."""
    files, _ = flippable(operations, 1)
    name = max(name for name in files if name.startswith("MANIFEST"))
    found = workplace.look({**files, name: files[name][:-3]})
    assert "it ends inside a record" in (found.loss or found.refused) or name in found.refused


def test_an_engine_that_serves_a_flipped_bit_is_caught(operations: list[Operation]) -> None:
    history = History(operations)
    last = len(history.after) - 1
    key = next(key for key, asked in history.requests.items() if asked[-1].value is not None)
    served = {key.decode(): "0123456789abcdef"}
    wrong = Found(number=str(history.after[last]), sequence=last, state="up", served=served, listed=served)
    assert any("is served as" in text for text in judge_flipped(wrong, history, last, "").complaints)
    silent = Found(number="0", sequence=last - 5, state="up")
    assert any("says nothing" in text for text in judge_flipped(silent, history, last, "").complaints)


def test_a_refusal_names_the_store_and_what_is_damaged() -> None:
    damaged = "the store /data/a is damaged: Corruption: "
    assert unnamed(Found(refused=f"{damaged}checksum mismatch in /data/a/000213.sst"), "000213.sst") == []
    assert unnamed(Found(refused=f"{damaged}checksum mismatch in /data/a/000213.sst"), "000214.sst")
    assert unnamed(Found(refused=f"{damaged}properties unsorted"), "000213.sst") == []
    assert unnamed(Found(refused=f"{damaged}properties unsorted"), "MANIFEST-000004")
    assert unnamed(Found(refused="Corruption: properties unsorted"), "000213.sst")


def test_a_process_that_ends_over_a_store_is_told(tmp_path: Path) -> None:
    found = Found(ended="it hung for 10.0 s")
    assert judge_flipped(found, History([]), 0, "").complaints == ["it hung for 10.0 s"]
