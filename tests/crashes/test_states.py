"""Power cuts: whatever they leave opens, with all that was acknowledged and nothing that was not asked for;
and a checker that can fail."""

import random
from pathlib import Path

from basestore.replica.group_commit import PROGRESS
from basestore.storage.keyspace import LOG, LOG_RECORD
from basestore.storage.rocks import RocksEngine
from tests.crashes.campaign import Workplace, judge, try_states
from tests.crashes.filesystem import Fate, FileSystem, lay_out
from tests.crashes.history import History
from tests.crashes.opener import look
from tests.crashes.recording import Kind, Operation, paths_of
from tests.crashes.states import HONEST, LYING, State, draw, kind_of
from tests.crashes.verdicts import GAP, REFUSED, WHOLE, judge_honest

STATES = 220
SEED = 1


def test_two_hundred_power_cuts_lose_nothing_that_was_acknowledged(
    operations: list[Operation], workplace: Workplace
) -> None:
    report = try_states(operations, draw(operations, STATES, SEED), workplace)
    assert report.complaints == []
    assert report.total == STATES
    honest = report.outcomes(HONEST)
    assert honest[WHOLE] > honest.total() * 0.8
    assert honest[REFUSED] == honest[GAP] == 0
    assert report.outcomes(LYING)[GAP] <= 3  # known, and rare: see `verdicts`


def test_an_acknowledgement_before_the_sync_is_caught(
    operations: list[Operation], workplace: Workplace
) -> None:
    """An engine that acknowledges without syncing its log leaves a recording without these syncs."""
    syncs = {
        id(operation)
        for name, operation in paths_of(operations)
        if operation.kind in (Kind.SYNC_BEGIN, Kind.SYNC_END) and kind_of(name) == "log"
    }
    mutant = [operation for operation in operations if id(operation) not in syncs]
    history = History(mutant)
    cut = next(i for i in range(len(mutant)) if history.promises(i).acknowledged >= 5)
    disk = FileSystem()
    disk.play(mutant[:cut])
    files = disk.cut(Fate.DROPPED, random.Random(1))
    state = State(HONEST, "after an acknowledgement", cut, Fate.DROPPED, cut, files)
    verdict = judge(state, workplace.look(files), history, history.promises(cut))
    assert any("was acknowledged" in complaint for complaint in verdict.complaints)


def test_a_batch_that_was_never_handed_over_is_caught(
    operations: list[Operation], workplace: Workplace
) -> None:
    history = History(operations)
    disk = FileSystem()
    disk.play(operations)
    cut = len(operations) // 2
    files = disk.files()
    state = State(HONEST, "anywhere", cut, Fate.KEPT, cut, files)
    verdict = judge(state, workplace.look(files), history, history.promises(cut))
    assert any("were ever handed over" in complaint for complaint in verdict.complaints)


def test_a_log_that_lacks_a_line_is_caught(operations: list[Operation], tmp_path: Path) -> None:
    disk = FileSystem()
    disk.play(operations)
    lay_out(disk.files(), tmp_path / "store")
    engine = RocksEngine(tmp_path / "store")
    lines = [key for key, _ in engine.scan(LOG, bytes((LOG[0] + 1,)))]
    commits = engine.get(PROGRESS)
    packs = list(engine.scan(LOG_RECORD, bytes((LOG_RECORD[0] + 1,))))
    assert lines
    assert commits is not None
    assert 0 < len(packs) < int.from_bytes(commits) / 2  # it was flushed on the way
    engine.apply({lines[-1]: None})
    engine.sync()
    engine.close()
    found = look(tmp_path / "store")
    assert any("the log of partition" in text for text in found.unfit)
    history = History(operations)
    verdict = judge_honest(found, history, history.promises(len(operations)))
    assert set(found.unfit) <= set(verdict.complaints)


def test_the_model_keeps_what_was_synced_and_drops_what_was_not(operations: list[Operation]) -> None:
    chance = random.Random(2)
    disk = FileSystem()
    disk.play(operations)
    kept, dropped = disk.cut(Fate.KEPT, chance), disk.cut(Fate.DROPPED, chance)
    assert {name for name in kept if name.endswith(".log")} <= dropped.keys()
    liar = FileSystem()
    liar.play(operations, syncs=False)
    assert liar.cut(Fate.DROPPED, chance) == {}
    assert liar.files() == disk.files()
