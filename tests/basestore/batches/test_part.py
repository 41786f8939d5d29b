"""What a partition keeps of a batch, and what follows from what replicas say. Covers `batches/part.py` and
`batches/verdicts.py`."""

from typing import Any

import pytest

from basestore.batches.part import (
    APPLIED,
    GIVEN_UP,
    OVER,
    Content,
    Ended,
    Known,
    Malformed,
    Part,
    check_of,
    part_row,
    versions_of,
)
from basestore.batches.round import Answers, Told
from basestore.batches.verdicts import (
    facts_of,
    is_applied,
    is_committed,
    is_dead,
    is_sealed,
    may_commit,
    nothing_was_purged,
)
from basestore.consistency import Level, Quorum
from basestore.protocol.groups import COMMITTED, DONE, HELD, NEVER, NONE
from basestore.repair.version import Digester, Record, Version

DIGESTER = Digester(bytes(32))
PROPOSAL = b"proposal"
KNOWN = Known(PROPOSAL, 101, 7, (3, 9))
ROW = KNOWN.row(9)


def row(partition: int, key: bytes) -> bytes:
    return partition.to_bytes(2) + b"\7default" + key


def record(of: bytes, stamp: int, number: int = 1) -> bytes:
    return Record.seal(DIGESTER, of, Version(stamp, 7, number), b"value").blob


def part(**changes: Any) -> Part:
    rows = row(9, b"a"), row(9, b"b")
    made = Part(b"checksum", (3, 9), rows, (record(rows[0], 102), record(rows[1], 103)))
    return made._replace(**changes)


def held(of: Part, stamp: int = 101, at: bytes = ROW, *, intent: bool = True) -> Record:
    return Record.seal(DIGESTER, at, Version(stamp, 7, 5), of.encode(), intent=intent)


class TestPart:
    def test_what_is_encoded_is_what_is_there(self) -> None:
        assert Part.of(ROW, held(part())) == part()
        assert part().known(ROW, held(part())) == KNOWN
        assert held(part()).blob.startswith(KNOWN.ballot)

    @pytest.mark.parametrize(
        "made",
        [
            held(part(partitions=(3, 8))),
            held(part(partitions=(9, 3))),
            held(part(partitions=(3, 3, 9))),
            held(part(), stamp=102),  # as the first of its rows
            held(part(), intent=False),
            held(part(rows=(row(3, b"a"), row(9, b"b")))),
            held(part(records=(b"r" * 48, b"r" * 60))),
            held(part(records=(record(row(9, b"a"), 101), record(row(9, b"b"), 103)))),
            Record.seal(DIGESTER, ROW, Version(101, 7, 5), part().encode()[:-1], intent=True),
            Record.seal(DIGESTER, ROW, Version(101, 7, 5), b"", intent=True),
        ],
    )
    def test_what_makes_no_sense_is_no_part(self, made: Record) -> None:
        with pytest.raises(Malformed):
            Part.of(ROW, made)

    def test_nor_is_what_stands_elsewhere(self) -> None:
        for at in (row(9, PROPOSAL), part_row(9, b"short")):
            with pytest.raises(Malformed):
                Part.of(at, held(part(), at=at))

    def test_a_tombstone_says_how_it_has_ended(self) -> None:
        ended = Ended(APPLIED, 5, 100, 7, b"checksum")
        made = Record.seal(DIGESTER, ROW, Version(200, 7, 6), ended.encode(), tombstone=True)
        assert Ended.of(made) == ended
        for value in (b"", b"\3" + ended.encode()[1:]):
            other = Record.seal(DIGESTER, ROW, Version(200, 7, 6), value, tombstone=True)
            assert Ended.of(other).how == OVER

    def test_versions_follow_from_the_numbers_of_the_parts(self) -> None:
        rows = [row(3, b"c"), row(9, b"a"), row(9, b"b")]
        versions = versions_of(KNOWN, rows, {3: 40, 9: 5})
        assert list(map(Version.decode, versions)) == [
            Version(102, 7, 41), Version(103, 7, 6), Version(104, 7, 7),
        ]  # fmt: skip
        assert versions_of(KNOWN, rows, {9: 5})[0] == b""

    def test_another_content_has_another_check(self) -> None:
        first = [Content(row(9, b"a"), b"1", False, 0), Content(row(9, b"b"), b"", True, 0)]
        others = [
            first[:1], [first[0]._replace(value=b"2"), first[1]], [first[0]._replace(ttl_ms=5), first[1]],
            [first[0]._replace(row=row(9, b"c")), first[1]], [first[0], first[1]._replace(tombstone=False)],
        ]  # fmt: skip
        checks = {check_of(DIGESTER, KNOWN, contents) for contents in (first, *others)}
        assert len(checks) == 6
        assert check_of(DIGESTER, KNOWN._replace(stamp=100), first) not in checks


def quorum(partition: int, level: Level) -> Quorum:
    return Quorum((0, 1, 2), level)


def said(*states: int | None, stable: int = 0) -> dict[int, Told]:
    """By the three members of a partition; None: nothing."""
    return {at: Told(state, stable) for at, state in enumerate(states) if state is not None}


def of(first: dict[int, Told], second: dict[int, Told]) -> Answers:
    return {3: first, 9: second}


class TestVerdicts:
    def test_it_may_be_committed_once_a_quorum_of_each_holds_it(self) -> None:
        assert may_commit(of(said(HELD, None, HELD), said(COMMITTED, HELD, NEVER)), quorum)
        assert not may_commit(of(said(HELD, HELD, HELD), said(HELD, NEVER, NONE)), quorum)
        assert not may_commit(of(said(HELD, HELD), said()), quorum)

    def test_who_has_a_tombstone_held_it_for_all_that_is_known(self) -> None:
        assert not may_commit(of(said(HELD, HELD), said(DONE, HELD)), quorum)

    def test_it_is_dead_where_all_of_one_partition_refuse_it(self) -> None:
        assert is_dead(of(said(HELD, HELD), said(NEVER, NEVER, NEVER)), quorum)
        assert not is_dead(of(said(HELD, HELD), said(NEVER, NEVER)), quorum)
        assert not is_dead(of(said(), said(NEVER, NEVER, NONE)), quorum)
        assert not is_dead(of(said(), said(NEVER, NEVER, HELD)), quorum)

    def test_it_is_applied_at_a_quorum_or_is_through(self) -> None:
        through = said(NEVER, NEVER, NEVER)
        assert is_applied(of(said(COMMITTED, DONE), through), quorum, Level.QUORUM)
        assert not is_applied(of(said(COMMITTED, HELD), through), quorum, Level.QUORUM)
        assert not is_applied(of(said(COMMITTED, COMMITTED, DONE), through), quorum, Level.ALL)
        assert is_applied(of(said(COMMITTED, COMMITTED, COMMITTED), through), quorum, Level.ALL)

    def test_one_that_has_committed_is_enough_to_know(self) -> None:
        assert is_committed(of(said(HELD), said(NEVER, COMMITTED)))
        assert not is_committed(of(said(HELD), said(NEVER, DONE)))

    def test_a_tombstone_at_a_quorum_of_one_seals_it(self) -> None:
        assert is_sealed(of(said(DONE, None, DONE), said()), quorum)
        assert not is_sealed(of(said(DONE), said(DONE)), quorum)

    def test_what_may_have_been_purged_proves_nothing(self) -> None:
        assert nothing_was_purged(of(said(NEVER, stable=99), said(NEVER, stable=100)), KNOWN.stamp)
        assert not nothing_was_purged(of(said(NEVER, stable=99), said(NEVER, stable=101)), KNOWN.stamp)

    def test_numbers_and_the_check_are_those_that_any_record_says(self) -> None:
        ended = Ended(GIVEN_UP, 8, 100, 7, bytes(8))
        tombstone = Record.seal(DIGESTER, KNOWN.row(3), Version(200, 7, 6), ended.encode(), tombstone=True)
        answers = of({0: Told(DONE, 0, b"", tombstone.blob)}, {0: Told(HELD, 0, b"", held(part()).blob)})
        facts = facts_of(KNOWN, answers)
        assert facts.numbers == {3: 8, 9: 5}
        assert facts.check == b"checksum"
