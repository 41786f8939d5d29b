"""Campaigns: many states, or many flipped bits, opened and judged, and counted by what came of them."""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.crashes.filesystem import Fate, FileSystem, lay_out
from tests.crashes.flips import draw_flips
from tests.crashes.history import History, Promises
from tests.crashes.opener import Found, Opener
from tests.crashes.recording import Operation
from tests.crashes.states import HONEST, State
from tests.crashes.verdicts import Verdict, judge_flipped, judge_honest, judge_lying


@dataclass
class Report:
    """What came of it: by row (family and fate, or kind of file) and outcome; `complaints` with the
    name of the state; `behind` the states that hold less than was acknowledged."""

    table: dict[str, Counter[str]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    behind: int = 0

    def add(self, row: str, name: object, verdict: Verdict) -> None:
        self.table.setdefault(row, Counter())[verdict.outcome] += 1
        self.behind += verdict.behind > 0
        self.complaints += [f"{name}: {verdict.outcome}: {text}" for text in verdict.complaints]

    @property
    def total(self) -> int:
        return sum(sum(counts.values()) for counts in self.table.values())

    def outcomes(self, prefix: str = "") -> Counter[str]:
        """All rows that begin so, together."""
        rows = [counts for row, counts in self.table.items() if row.startswith(prefix)]
        return sum(rows, Counter())


def quick_directory() -> tempfile.TemporaryDirectory[str]:
    """A place for many small stores: in memory where there is such a place, for nothing here is asked of
    the disk itself."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


class Workplace:
    """Where stores are laid out, one after the other, opened, and taken away again."""

    def __init__(self, directory: Path, opener: Opener) -> None:
        self._directory = directory
        self._opener = opener
        self._numbers = count()

    def look(self, files: dict[str, bytes]) -> Found:
        """What a node finds in a store of these files."""
        place = self._directory / f"state{next(self._numbers)}"
        lay_out({name: data for name, data in files.items() if not name.startswith("LOG")}, place)
        found = self._opener.look(place)
        shutil.rmtree(place)
        return found


def judge(state: State, found: Found, history: History, promises: Promises) -> Verdict:
    """By the measure of the state's family."""
    if state.family == HONEST:
        torn = state.fate in (Fate.TORN, Fate.MIXED)
        return judge_honest(found, history, promises, torn=torn)
    return judge_lying(found, history, promises)


def try_states(operations: Sequence[Operation], states: Iterable[State], workplace: Workplace) -> Report:
    """Open each and judge it."""
    history = History(operations)
    report = Report()
    for state in states:
        verdict = judge(state, workplace.look(state.files), history, history.promises(state.cut))
        report.add(f"{state.family} {state.fate.value}", state, verdict)
    return report


def flippable(operations: Sequence[Operation], seed: int) -> tuple[dict[str, bytes], int]:
    """The files at the end of the recording, all of them synced, and the last batch in them."""
    disk = FileSystem()
    disk.play(operations)
    return disk.cut(Fate.KEPT, random.Random(seed)), len(History(operations).after) - 1


def try_flips(operations: Sequence[Operation], per_kind: int, seed: int, workplace: Workplace) -> Report:
    """Flip bits of every kind of file in the store that the load left, one at a time."""
    history = History(operations)
    files, sequence = flippable(operations, seed)
    report = Report()
    for flip in draw_flips(files, per_kind, seed):
        verdict = judge_flipped(workplace.look(flip.done_to(files)), history, sequence, flip.name)
        report.add(flip.kind, flip, verdict)
    return report
