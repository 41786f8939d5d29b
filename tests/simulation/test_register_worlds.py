"""Worlds of registers hold, meet what they must, and their judges see what is wrong."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import cbor2
import pytest

from basestore.protocol.client import ADD, IF_ABSENT, IF_VALUE, IF_VERSION, NO_CONDITION
from basestore.repair.version import Digester, Record, Version
from basestore.storage import keyspace
from tests.simulation import stored
from tests.simulation.chains import NOTHING, Chains, Row
from tests.simulation.kinds import REGISTERS
from tests.simulation.outcome import Outcome, play
from tests.simulation.promised import Judge
from tests.simulation.register_clients import (
    AGREED,
    CAS,
    FOUND,
    GET,
    LOST,
    REFUSED,
    SET,
    STORED,
    UNKNOWN,
    Operation,
)
from tests.worlds.disk import Disk

SEEDS = (3, 6, 12, 19, 22, 28)
MET = (
    "chosen", "register_skips", "register_helps", "register_conflicts", "register_ballots", "set/0 stored",
    "set/1 stored", "set/2 stored", "set/2 lost", "set/3 stored", "set/4 stored", "delete/0 stored",
    "set/4 unknown", "get/0 found", "repeated by its proposal", "repeated much later",
)  # fmt: skip
DIGESTER = Digester(bytes(32))
ROW = b"\x00\x00\x03cask"


@pytest.fixture(scope="module")
def played() -> list[Outcome]:
    return [play(seed, kind=REGISTERS) for seed in SEEDS]


def test_nothing_is_wrong_with_registers(played: list[Outcome]) -> None:
    assert [(each.seed, violation) for each in played for violation in each.violations] == []


def test_much_is_met_there(played: list[Outcome]) -> None:
    counts = sum((each.counts for each in played), Counter[str]())
    assert [name for name in MET if not counts[name]] == []


def test_a_seed_is_played_alike(played: list[Outcome]) -> None:
    assert play(SEEDS[0], kind=REGISTERS).trace == played[0].trace


# --- chains ----------------------------------------------------------------------------------------


def version(stamp: int) -> bytes:
    return Version(stamp, 1, stamp).encode()


def record(
    stamp: int, replaced: int = 0, identity: int = 0, value: bytes = b"v", *, gone: bool = False,
    expires_ms: int = 0,
) -> bytes:  # fmt: skip
    descent = version(identity or stamp) + (version(replaced) if replaced else NOTHING)
    return Record.seal(
        DIGESTER, ROW, Version(stamp, 1, stamp), value, tombstone=gone, expires_ms=expires_ms,
        proposal=(identity or stamp).to_bytes(8), descent=descent,
    ).blob  # fmt: skip


class Blamed:
    """A world in which nothing happens: what is blamed is kept."""

    def __init__(self) -> None:
        self.blamed: list[str] = []
        self.buckets: dict[str, Any] = {CAS: SimpleNamespace(serial=True)}
        self.expiry_slack_ms = self.clocks_apart_ms = 10.0
        self.counts = Counter[str]()

    def blame(self, check: str, text: str) -> None:
        self.blamed.append(check)


def linked(
    *chosen: bytes, few: tuple[bytes, ...] = (), purged: tuple[bytes, ...] = ()
) -> tuple[Row, list[str]]:
    """The chain of these, of which each is chosen at the second of its stamp."""
    world: Any = Blamed()
    chains, row = Chains(world), Row()
    row.records = {each[:16]: each for each in (*chosen, *few)}
    row.chosen = {each[:16]: float(int.from_bytes(each[:8])) for each in chosen}
    row.purged = {each[:16] for each in purged}
    chains.rows[ROW] = row
    chains.link()
    return row, world.blamed


@pytest.mark.parametrize(
    ("chosen", "few", "purged"),
    [
        ((record(1), record(2, 1), record(3, 2)), (), ()),
        ((record(1), record(2, 0, 1), record(3, 1)), (), ()),  # accepted again
        ((record(1), record(3, 2)), (record(2, 1),), ()),  # accepted by few, and named
        ((record(1, gone=True), record(3)), (), (record(1, gone=True),)),
    ],
)
def test_what_is_one_chain(
    chosen: tuple[bytes, ...], few: tuple[bytes, ...], purged: tuple[bytes, ...]
) -> None:
    assert linked(*chosen, few=few, purged=purged)[1] == []


@pytest.mark.parametrize(
    ("chosen", "few", "purged", "check"),
    [
        ((record(1), record(2)), (), (), "one chain"),  # each began with nothing
        ((record(1), record(2, 1), record(3, 1)), (), (), "one chain"),  # two took one place
        ((record(1), record(3, 2)), (), (), "one chain"),  # what it names is nowhere
        ((record(1), record(3, 2)), (record(2),), (), "one chain"),
        ((record(1), record(2, 0, 1, b"w")), (), (), "one chain"),  # accepted again, changed
        ((record(1, gone=True), record(3)), (), (), "one chain"),  # that is not purged
        ((record(1), record(3)), (), (record(1),), "one chain"),  # and that never could be
        ((record(1), record(2, 1), record(3, 2, 1)), (), (), "twice"),
    ],
)
def test_what_is_not(
    chosen: tuple[bytes, ...], few: tuple[bytes, ...], purged: tuple[bytes, ...], check: str
) -> None:
    assert check in linked(*chosen, few=few, purged=purged)[1]


@pytest.mark.parametrize(
    ("behind", "held", "loss", "wrong"),
    [
        ((), b"", None, ["losses"]),
        ((), b"", (1, 5), []),  # of two that were needed one was left: it is known
        ((), b"", (2, 5), ["losses"]),  # enough were: that costs no quorum anything
        ((), b"", (1, 0), ["losses"]),  # known of an earlier one
        ((), record(1), None, []),
        ((record(3),), b"", None, ["losses"]),  # begun anew
        ((record(3, 1),), b"", None, []),
        ((record(3, 0, 1),), b"", None, []),  # accepted anew
    ],
)
def test_what_was_chosen_and_is_nowhere_is_known_to_be_lost(
    behind: tuple[bytes, ...], held: bytes, loss: tuple[int, int] | None, wrong: list[str]
) -> None:
    world: Any = Blamed()
    machine = SimpleNamespace(index=0, disk=Disk())
    world.machines, world.seating = [machine], SimpleNamespace(holders=lambda partition: [machine])
    world.log_watch = SimpleNamespace(majority_lost=False)
    if held:
        machine.disk.apply({stored.DATA + ROW: held})
    if loss is not None:
        sources, upto = loss
        key = keyspace.loss(stored.partition_of(ROW), 1, sources)
        machine.disk.apply({key: cbor2.dumps([2, upto, 0])})
    chains, row = Chains(world), Row()
    row.ruined_s = 2.0
    row.records = {each[:16]: each for each in (record(1), *behind)}
    row.chosen = {each[:16]: float(int.from_bytes(each[:8])) for each in (record(1), *behind)}
    chains.rows[ROW] = row
    chains.link()
    assert world.blamed == wrong


def test_of_what_is_accepted_a_quorum_chooses() -> None:
    world: Any = Blamed()
    quorum = SimpleNamespace(met=lambda level, votes: len(votes) >= 2)
    epochs: list[int] = []

    def at(since: int, partition: int) -> Any:
        epochs.append(since)
        return quorum

    world.seating = SimpleNamespace(at=at)
    world.clockwork = SimpleNamespace(now=1.0)
    chains = Chains(world)
    one, two = (SimpleNamespace(index=index) for index in range(2))
    chains.vote(one, ROW, 4, record(1))  # type: ignore[arg-type]
    chains.vote(one, ROW, 4, record(1))  # type: ignore[arg-type]
    assert not chains.rows[ROW].chosen
    chains.vote(two, ROW, 5, record(1))  # type: ignore[arg-type]
    assert epochs == [4, 5]  # of each once
    assert chains.rows[ROW].chosen == {record(1)[:16]: 1.0}
    chains.vote(two, ROW, 4, record(1, value=b"w"))  # type: ignore[arg-type]
    assert world.blamed == ["ballots"]


def test_what_all_that_are_left_have_was_chosen_when_the_last_of_them_had_it() -> None:
    seats = SimpleNamespace(old=(0, 1, 2), new=(0, 1, 2), stage=0, met=lambda level, votes: False)
    for away, wrong in ({2}, []), (set(), ["learned"]):
        world: Any = Blamed()
        world.seating = SimpleNamespace(at=lambda *_: seats, away=lambda *_, gone=away: {1, *gone}, last=4)
        world.clockwork = SimpleNamespace(now=1.0)
        chains, one = Chains(world), SimpleNamespace(index=0, node=None)
        chains.vote(one, ROW, 4, record(1))  # type: ignore[arg-type]
        world.clockwork.now = 5.0
        key = stored.DATA + ROW
        chains.replaced(one, {key: None}, {key: record(1)})  # type: ignore[arg-type]
        assert world.blamed == wrong
        assert chains.rows[ROW].chosen == ({} if wrong else {record(1)[:16]: 1.0})


# --- what clients were told ------------------------------------------------------------------------


def told(
    kind: str, outcome: str, stamp: int, start: float, end: float, *, condition: int = NO_CONDITION,
    expected: bytes = b"", value: bytes = b"v", shown: bytes | None = None, bucket: str = CAS, mine: int = 0,
) -> Operation:  # fmt: skip
    operation = Operation(0, 0, kind, (bucket, "k"), start)
    operation.end, operation.outcome, operation.condition = end, outcome, condition
    operation.expected, operation.value = expected, value
    operation.version = version(stamp) if stamp else b""
    operation.found, operation.shown = shown is not None, shown or b""
    if kind == SET:
        operation.proposal = (mine or stamp).to_bytes(8)
    return operation


def judged(row: Row, *operations: Operation) -> list[str]:
    world: Any = Blamed()
    Judge(world, row, list(operations)).judge()
    return world.blamed  # type: ignore[no-any-return]


CHAIN = linked(record(1), record(2, 1, value=b"5"), record(3, 2, value=b"8"))[0]
DELETED = linked(record(1), record(2, 1, value=b"", gone=True))[0]


@pytest.mark.parametrize(
    "operation",
    [
        told(SET, STORED, 2, 1.5, 2.5, value=b"5"),
        told(SET, STORED, 2, 1.5, 2.5, value=b"5", condition=IF_VERSION, expected=version(1)),
        told(SET, STORED, 3, 1.5, 3.5, value=b"3", condition=ADD, shown=b"8"),
        told(SET, UNKNOWN, 0, 1.5, 2.5, value=b"5", mine=2),
        told(SET, UNKNOWN, 0, 1.5, 2.5, value=b"5", mine=7),
        told(SET, LOST, 3, 3.1, 3.5, condition=IF_VERSION, expected=version(1), shown=b"8", mine=7),
        told(GET, FOUND, 2, 2.1, 2.2, shown=b"5"),
        told(SET, REFUSED, 0, 1.0, 2.0, mine=7),
    ],
)
def test_what_is_true_of_a_chain(operation: Operation) -> None:
    assert judged(CHAIN, operation) == []


@pytest.mark.parametrize(
    ("operation", "check"),
    [
        (told(SET, STORED, 7, 1.5, 2.5), "stored"),
        (told(SET, STORED, 2, 1.5, 1.9, value=b"5"), "chosen"),  # it was not yet
        (told(SET, STORED, 2, 1.5, 2.5, value=b"6"), "conditions"),
        (told(SET, STORED, 3, 1.5, 3.5, value=b"8", condition=IF_VERSION, expected=version(1)), "conditions"),
        (told(SET, STORED, 3, 1.5, 3.5, value=b"8", condition=IF_VALUE, expected=b"v"), "conditions"),
        (told(SET, STORED, 3, 1.5, 3.5, value=b"8", condition=IF_ABSENT), "conditions"),
        (told(SET, STORED, 3, 1.5, 3.5, value=b"8", bucket=AGREED), "conditions"),
        (told(SET, STORED, 3, 1.5, 3.5, value=b"4", condition=ADD), "numbers"),
        (
            told(SET, LOST, 3, 3.1, 3.5, condition=IF_VALUE, expected=b"v", shown=b"8", mine=2, value=b"5"),
            "lost",
        ),
        (told(SET, LOST, 3, 3.1, 3.5, condition=IF_VALUE, expected=b"8", shown=b"8", mine=7), "lost"),
        (told(SET, REFUSED, 0, 1.0, 2.0, mine=2, value=b"5"), "refused"),
        (told(GET, FOUND, 7, 2.1, 2.2, shown=b"5"), "reads"),
        (told(GET, FOUND, 2, 2.1, 2.2, shown=b"6"), "reads"),
        (told(GET, FOUND, 2, 2.1, 2.2), "reads"),  # nothing, of a value
        (told(GET, FOUND, 0, 2.1, 2.2), "time"),  # nothing, and nothing was deleted
    ],
)
def test_what_is_not_true_of_it(operation: Operation, check: str) -> None:
    others = [told(GET, FOUND, 1, 1.1, 1.2, shown=b"v"), told(GET, FOUND, 3, 3.1, 3.2, shown=b"8")]
    assert judged(CHAIN, *others, operation) == [check]


def test_nobody_is_told_of_what_stood_before_what_was_told_already() -> None:
    new, old = told(GET, FOUND, 3, 3.1, 3.2, shown=b"8"), told(GET, FOUND, 2, 3.3, 3.4, shown=b"5")
    assert judged(CHAIN, new, old) == ["time"]
    old.start = 3.0  # at the same time
    assert judged(CHAIN, new, old) == []
    late = told(SET, STORED, 2, 3.3, 3.4, value=b"5")
    assert judged(CHAIN, new, late) == ["time"]


def test_nothing_is_found_where_it_was_deleted() -> None:
    before, nothing = told(GET, FOUND, 1, 1.1, 1.2, shown=b"v"), told(GET, FOUND, 0, 2.1, 2.2)
    assert judged(DELETED, before, nothing) == []
    nothing.start, nothing.end = 1.3, 1.4
    assert judged(DELETED, before, nothing, told(GET, FOUND, 1, 1.5, 1.6, shown=b"v")) == ["time"]
