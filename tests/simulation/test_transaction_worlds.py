"""Worlds of transactions hold, meet what they must, and their judge sees what is wrong."""

from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from basestore.protocol.client import HOLDS_NOTHING
from basestore.repair.intents import ABORTED, Intent, commitment
from basestore.repair.version import Digester, Record, Version
from tests.simulation.chains import DECISIONS, NOTHING, Chains, Row
from tests.simulation.kinds import TRANSACTIONS
from tests.simulation.outcome import Outcome, play
from tests.simulation.plan import WHOLE, Reduction
from tests.simulation.register_clients import FOUND, GET, STORED, UNKNOWN, Operation
from tests.simulation.settlements import Settlements
from tests.simulation.transaction_clients import (
    BLIND,
    COMMITTED,
    CONFLICT,
    DELETES,
    READS,
    SETS,
    Part,
    Sweep,
    Transact,
)

SEEDS = {8: WHOLE, 11: WHOLE, 64: Reduction(seconds=5.0)}
MET = (
    "Transact committed", "Transact conflict", "Transact unknown", "Sweep found", "begun anew",
    "transaction_helps", "transaction_aborts", "transactions committed", "transactions ended by others",
    "judged together", "fault: crash of coordinator", "theme: killed",
    "set/4 stored", "set/2 lost", "get/0 found",
)  # fmt: skip
DIGESTER = Digester(bytes(32))


@pytest.fixture(scope="module")
def played() -> list[Outcome]:
    return [play(seed, kept, TRANSACTIONS) for seed, kept in SEEDS.items()]


def test_nothing_is_wrong_with_transactions(played: list[Outcome]) -> None:
    assert [(each.seed, violation) for each in played for violation in each.violations] == []


def test_much_is_met_there(played: list[Outcome]) -> None:
    counts = sum((each.counts for each in played), Counter[str]())
    assert [name for name in MET if not counts[name]] == []


def test_a_seed_is_played_alike(played: list[Outcome]) -> None:
    assert play(next(iter(SEEDS)), kind=TRANSACTIONS).trace == played[0].trace


# --- what became of intents --------------------------------------------------------------------------


def version(stamp: int) -> bytes:
    return Version(stamp, 1, stamp).encode()


def row(key: str) -> bytes:
    return b"\0\0\3cas" + key.encode()


def record(
    key: str, stamp: int, replaced: int = 0, identity: int = 0, value: bytes = b"v", *, gone: bool = False,
    laid: bool = False, proposal: bytes | None = None,
) -> bytes:  # fmt: skip
    descent = version(identity or stamp) + (version(replaced) if replaced else NOTHING)
    proposed = (identity or stamp).to_bytes(8) if proposal is None else proposal
    return Record.seal(
        DIGESTER, row(key), Version(stamp, 1, stamp), value, tombstone=gone, proposal=proposed,
        descent=descent, intent=laid,
    ).blob  # fmt: skip


def intent(
    key: str, stamp: int, was: bytes = b"", replaced: int = 0, value: bytes = b"new", *, of: int = 9,
    gone: bool = False,
) -> bytes:  # fmt: skip
    laid = Intent(of.to_bytes(16), value, gone, 0, was).encode()
    return record(key, stamp, replaced, value=laid, laid=True)


class Scene:
    """What was chosen, each at the second of its stamp; and what was told. A transaction is a number."""

    def __init__(self) -> None:
        self.blamed: list[str] = []
        self.counts = Counter[str]()
        self.buckets: dict[str, Any] = {"cas": SimpleNamespace(serial=True)}
        self.rows: defaultdict[bytes, Row] = defaultdict(Row)
        self.transacts: list[Transact] = []
        self.asked: list[Operation] = []
        self.sweeps: list[Sweep] = []

    def blame(self, check: str, text: str) -> None:
        self.blamed.append(check)

    def row(self, bucket: str, key: str) -> bytes:
        return row(key)

    def choose(self, at: bytes, *records: bytes) -> "Scene":
        for each in records:
            seen, ballot = self.rows[at], each[:16]
            seen.records[ballot] = each
            seen.staged_s[ballot] = seen.chosen[ballot] = float(int.from_bytes(ballot[:8]))
        return self

    def decide(self, transaction: int, stamp: int, *rows_: str, aborted: bool = False) -> "Scene":
        at = b"\0\0\2" + DECISIONS + transaction.to_bytes(16)
        value = ABORTED if aborted else commitment([row(key) for key in rows_])
        blob = Record.seal(
            DIGESTER, at, Version(stamp, 1, stamp), value, descent=version(stamp) + NOTHING
        ).blob  # fmt: skip
        if self.rows[at].records:
            last = max(self.rows[at].records)
            before = Record(self.rows[at].records[last]).known_as
            blob = Record.seal(
                DIGESTER, at, Version(stamp, 1, stamp), value, descent=version(stamp) + before
            ).blob  # fmt: skip
        return self.choose(at, blob)

    def tell(
        self, outcome: str, start: float, end: float, *parts: Part, versions: tuple[int, ...] = ()
    ) -> "Scene":
        transact = Transact(len(self.transacts), 0, start)
        transact.asked_s, transact.end, transact.outcome = start, end, outcome
        transact.parts, transact.versions = list(parts), [version(each) for each in versions]
        self.transacts.append(transact)
        return self

    def judged(self) -> list[str]:
        chains: Any = Chains(self)  # type: ignore[arg-type]
        chains.rows = self.rows
        chains.link()
        Settlements(self, chains).judge(self.transacts, self.sweeps, self.asked)  # type: ignore[arg-type]
        return self.blamed


X1, Y1 = record("x", 1), record("y", 1)
X, Y = intent("x", 10, X1, 1), intent("y", 10, Y1, 1)
SET_X, SET_Y = Part("x", SETS, version(1), b"v", b"new"), Part("y", SETS, version(1), b"v", b"new")


def laid() -> Scene:
    """Transaction 9 has laid its intents on x and y."""
    return Scene().choose(row("x"), X1, X).choose(row("y"), Y1, Y)


def committed() -> Scene:
    scene = laid().decide(9, 20, "x", "y")
    return scene.choose(row("x"), record("x", 30, 1, 10, b"new")).choose(
        row("y"), record("y", 30, 1, 10, b"new")
    )


def undone() -> Scene:
    scene = laid().decide(9, 20, aborted=True)
    return scene.choose(row("x"), record("x", 30, 0, 1)).choose(row("y"), record("y", 30, 0, 1))


def test_what_is_committed_on_all_its_rows_is_right() -> None:
    scene = committed().tell(COMMITTED, 5, 25, SET_X, SET_Y, versions=(10, 10))
    assert scene.judged() == []
    assert scene.counts == Counter()


def test_so_is_what_is_undone_on_all_of_them() -> None:
    for outcome in CONFLICT, UNKNOWN:
        assert undone().tell(outcome, 5, 25, SET_X, SET_Y).judged() == []


def test_what_stood_nowhere_is_undone_by_a_delete() -> None:
    scene = Scene().choose(row("x"), intent("x", 10), record("x", 30, 0, 10, b"", gone=True, proposal=b""))
    assert scene.judged() == []


def test_what_is_accepted_once_more_is_as_it_was() -> None:
    scene = committed()
    again = Record(X)
    same = Record.seal(
        DIGESTER, row("x"), Version(15, 1, 15), again.value, proposal=again.proposal, descent=again.descent,
        intent=True,
    ).blob  # fmt: skip
    assert scene.choose(row("x"), same).judged() == []
    other = Record.seal(
        DIGESTER, row("x"), Version(16, 1, 16), again.value + b"!", proposal=again.proposal,
        descent=again.descent, intent=True,
    ).blob  # fmt: skip
    assert "intents" in scene.choose(row("x"), other).judged()


def test_what_comes_late_is_laid_and_undone_once_more() -> None:
    """By then the record before it was accepted under another ballot."""
    undone_ = record("x", 30, 0, 1)
    old = Record(X)
    late = Intent((9).to_bytes(16), b"new", False, 0, undone_).encode()
    again = Record.seal(
        DIGESTER, row("x"), Version(40, 1, 40), late, proposal=old.proposal, descent=old.descent, intent=True
    ).blob  # fmt: skip
    assert undone().choose(row("x"), again).judged() == []
    unsettled = undone().choose(row("x"), again, record("x", 50, 1))
    assert unsettled.judged() == ["intents"]
    scene = undone().choose(row("x"), again, record("x", 50, 1, 10, b"new"))
    assert {*scene.judged()} == {"atomic"}


@pytest.mark.parametrize(
    ("scene", "checks"),
    [
        # It holds another record than that whose place it took; or one that was never there.
        (Scene().choose(row("x"), X1, intent("x", 10, b"", 1)), {"intents"}),
        (Scene().choose(row("x"), X1, intent("x", 10, record("x", 1, value=b"w"), 1)), {"intents"}),
        # Something else took its place; and it was settled as what it does not come to.
        (laid().choose(row("x"), record("x", 30, 1)), {"intents"}),
        (laid().choose(row("x"), record("x", 30, 1, 10, b"newer")), {"intents"}),
        (laid().decide(9, 20, aborted=True).decide(9, 30, "x", "y"), {"decisions"}),
        (committed().decide(9, 30, aborted=True), {"decisions"}),
        # One of two is done, or done though nothing was decided, or decided before all were laid.
        (laid().decide(9, 20, "x", "y").choose(row("x"), record("x", 30, 1, 10, b"new")),
         {"atomic", "lost"}),
        (laid().choose(row("x"), record("x", 30, 1, 10, b"new")), {"atomic"}),
        (undone().choose(row("x"), record("x", 40, 1, 10, b"new")), {"atomic"}),
        (committed().choose(row("z"), intent("z", 22)), {"atomic", "lost"}),
        # What was told.
        (committed().tell(CONFLICT, 5, 25, Part("x", SETS, version(1), b"v", b"1000000000")), set()),
        (undone().tell(COMMITTED, 5, 25, SET_X, SET_Y, versions=(10, 10)), {"answers"}),
        (committed().tell(COMMITTED, 5, 19, SET_X, SET_Y, versions=(10, 10)), {"answers"}),
        *(
            (committed().tell(COMMITTED, 5, 25, other, SET_Y, versions=(10, 10)), {"answers"})
            for other in (
                SET_X._replace(value=b"else"), SET_X._replace(what=DELETES), SET_X._replace(ttl_ms=9),
            )
        ),
        # And what it has read.
        (
            committed().tell(
                COMMITTED, 5, 25, SET_X._replace(expected=HOLDS_NOTHING), SET_Y, versions=(10, 10)
            ),
            {"absent"},
        ),
        (
            committed().choose(row("z"), record("z", 2), record("z", 6, 2)).tell(
                COMMITTED, 7, 25, SET_X, SET_Y, Part("z", READS, version(2)), versions=(10, 10)
            ),
            set(),  # nobody is known to have written z
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_intents_decisions_and_answers(scene: Scene, checks: set[str]) -> None:
    assert {*scene.judged()} == checks


def test_a_definite_conflict_leaves_nothing() -> None:
    value = b"1000000000"  # of the first transaction
    scene = Scene().choose(row("x"), X1, intent("x", 10, X1, 1, value)).decide(9, 20, "x")
    scene.choose(row("x"), record("x", 30, 1, 10, value))
    told = scene.tell(CONFLICT, 5, 25, Part("x", BLIND, b"", None, value), Part("y", READS, HOLDS_NOTHING))
    assert told.judged() == ["answers"]


@pytest.mark.parametrize(
    ("outcome", "part", "versions", "end", "checks"),
    [
        (COMMITTED, Part("x", SETS, version(1), b"v", b"new"), (2,), 3, set()),
        (COMMITTED, Part("x", SETS, version(1), b"v", b"new"), (2,), 1.5, {"answers"}),
        (COMMITTED, Part("x", SETS, version(1), b"v", b"new"), (3,), 3, {"answers"}),
        (COMMITTED, Part("x", SETS, version(1), b"v", b"old"), (2,), 3, {"answers"}),
        (COMMITTED, Part("x", DELETES, version(1), b"v"), (2,), 3, {"answers"}),
        (COMMITTED, Part("x", SETS, version(1), b"v", b"new", 9), (2,), 3, {"answers"}),
        (COMMITTED, Part("x", SETS, HOLDS_NOTHING, None, b"new"), (2,), 3, {"absent"}),
        (CONFLICT, Part("x", SETS, version(1), b"v", b"new"), (), 3, {"answers"}),
        (CONFLICT, Part("x", SETS, version(1), b"v", b"other"), (), 3, set()),
        (UNKNOWN, Part("x", SETS, version(1), b"v", b"new"), (), 3, set()),
        (UNKNOWN, Part("x", SETS, version(1), b"v", b"other"), (), 3, set()),
    ],
)
def test_one_write_alone_is_told_by_its_row(
    outcome: str, part: Part, versions: tuple[int, ...], end: float, checks: set[str]
) -> None:
    scene = Scene().choose(row("x"), X1, record("x", 2, 1, value=b"new"))
    assert {*scene.tell(outcome, 1.2, end, part, versions=versions).judged()} == checks


def operation(kind: str, outcome: str, key: str, stamp: int, start: float, end: float) -> Operation:
    made = Operation(0, 0, kind, ("cas", key), start)
    made.end, made.outcome, made.version = end, outcome, version(stamp)
    made.found = made.shown == b""
    made.shown = b"v"
    return made


def test_single_reads_and_writes_are_judged_with_transactions() -> None:
    """One has read y as it was, and x as it came to be; or x as the committed transaction made it, and then a
    later read finds y as it was."""
    scene = committed().tell(COMMITTED, 5, 25, SET_X, SET_Y, versions=(10, 10))
    later = operation(GET, FOUND, "y", 1, 26, 27)
    scene.asked.append(later)
    assert scene.judged() == ["G-single-realtime"]
    scene = committed().tell(UNKNOWN, 5, 25, SET_X, SET_Y)
    scene.asked.append(operation("set", STORED, "x", 1, 0.5, 0.9))
    scene.asked.append(later)
    assert scene.judged() == []  # nobody knows when it was committed


@pytest.mark.parametrize(
    ("rows_", "checks"),
    [
        ([(b"x", b"new", 10), (b"y", b"new", 10)], set()),
        ([(b"y", b"new", 10), (b"x", b"new", 10)], {"scans"}),
        ([(b"x", b"old", 10), (b"y", b"new", 10)], {"scans", "G1b"}),
        ([(b"x", b"new", 7), (b"y", b"new", 10)], {"scans", "phantom"}),
        ([(b"x", b"new", 10)], {"absent"}),
        ([(b"x", b"v", 1), (b"y", b"new", 10)], {"G-single-realtime"}),
    ],
)
def test_pages_show_what_was_there(rows_: list[tuple[bytes, bytes, int]], checks: set[str]) -> None:
    scene = committed().tell(COMMITTED, 5, 25, SET_X, SET_Y, versions=(10, 10))
    sweep = Sweep(0, 0, 26.0)
    sweep.end, sweep.outcome = 27.0, FOUND
    sweep.rows = [(key, value, version(stamp)) for key, value, stamp in rows_]
    scene.sweeps.append(sweep)
    assert {*scene.judged()} == checks
