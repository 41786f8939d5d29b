"""The promises of an acceptor, what a proposer concludes, and both together under any schedule. Covers
`repair/paxos.py` and `repair/compare_and_set.py`."""

from collections.abc import Generator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.repair.compare_and_set import (
    NOTHING,
    NUMBER_BYTES_MAX,
    Attempt,
    Condition,
    Next,
    number_of,
)
from basestore.repair.paxos import NO_BALLOT, Acceptor, Known, Told, TooLow, ballot_of, gathered
from basestore.repair.version import Record, Version
from tests.worlds.records import DIGESTER, ROW

UNCONDITIONAL, IF_ABSENT, IF_VERSION, IF_VALUE, ADD, SETTLE, UNDECIDED = Condition


def ballot(stamp: int, origin: int = 1) -> bytes:
    return stamp.to_bytes(8) + origin.to_bytes(8)


def version(stamp: int, origin: int = 1) -> bytes:
    return Version(stamp, origin, stamp).encode()


def record(
    stamp: int, value: bytes = b"v", *, identity: bytes = b"", replaced: bytes = NOTHING, origin: int = 1,
    proposal: bytes = b"", tombstone: bool = False, expires_ms: int = 0,
) -> Record:  # fmt: skip
    descent = (identity or version(stamp, origin)) + replaced
    return Record.seal(
        DIGESTER, ROW, Version(stamp, origin, stamp), value, tombstone=tombstone, expires_ms=expires_ms,
        proposal=proposal, descent=descent,
    )  # fmt: skip


class TestRecord:
    def test_it_carries_what_its_write_is_known_by_and_whose_place_it_took(self) -> None:
        held = record(5, b"value", identity=version(3), replaced=version(2), proposal=b"proposal")
        assert (held.descent, held.known_as) == (version(3) + version(2), version(3))
        assert (held.value, held.proposal) == (b"value", b"proposal")

    def test_of_other_buckets_a_record_is_known_by_its_version(self) -> None:
        held = Record.seal(DIGESTER, ROW, Version(5, 1, 5), b"v", proposal=b"proposal")
        assert (held.descent, held.known_as, held.value) == (b"", version(5), b"v")


class TestAcceptor:
    def test_it_is_stored_and_found_again(self) -> None:
        for each in (Acceptor(), Acceptor(7, ballot(3)), Acceptor(7, ballot(3), record(2).blob)):
            assert Acceptor.decode(each.encode()) == each

    def test_it_promises_only_what_is_above_all_that_it_knows(self) -> None:
        held = Acceptor(1, ballot(5), record(4).blob)
        for stamp in (3, 4, 5):
            assert isinstance(held.prepare(ballot(stamp), b"", 0, 0, 2), TooLow)
        assert isinstance(Acceptor().prepare(ballot(6), record(6).blob, 0, 0, 2), TooLow)
        assert isinstance(Acceptor().prepare(ballot(6), b"", 6, 0, 2), TooLow)

    def test_who_prepares_is_told_of_the_greatest_that_it_has_accepted_or_learned(self) -> None:
        four, six = record(4).blob, record(6).blob
        held = Acceptor(1, ballot(5), four)
        assert held.prepare(ballot(6), b"", 0, 3, 2) == (
            Acceptor(1, ballot(6), four),
            Told(four, False, 1, 3),
        )
        assert held.prepare(ballot(7), six, 6, 3, 2) == (Acceptor(1, ballot(7), four), Told(six, True, 0, 3))
        assert Acceptor().prepare(ballot(7), b"", 6, 3, 2) == (Acceptor(2, ballot(7)), Told(b"", True, 0, 3))

    def test_a_refusal_names_a_ballot_above_which_it_would_not_refuse(self) -> None:
        for held, learned, closed in (
            (Acceptor(1, ballot(5)), b"", 0),
            (Acceptor(1, ballot(5), record(5).blob), ballot(7), 0),
            (Acceptor(), b"", 9),
        ):
            refused = held.prepare(ballot(1), learned, closed, 0, 1)
            assert isinstance(refused, TooLow)
            above = ballot(int.from_bytes(refused.ballot[:8]) + 1)
            assert isinstance(held.prepare(above, learned, closed, 0, 1), tuple)

    def test_it_accepts_nothing_below_its_promise_and_nothing_that_is_learned_or_closed(self) -> None:
        five = record(5).blob
        assert isinstance(Acceptor(1, ballot(6)).accept(five, b"", b"", 0, 1), TooLow)
        assert isinstance(Acceptor().accept(five, b"", ballot(5), 0, 1), TooLow)
        assert isinstance(Acceptor().accept(five, b"", b"", 5, 1), TooLow)
        assert isinstance(Acceptor(1, b"", record(6).blob).accept(five, b"", b"", 0, 1), TooLow)
        assert Acceptor(1, ballot(5)).accept(five, ballot(8), ballot(4), 4, 3) == Acceptor(3, ballot(8), five)

    def test_an_acceptance_may_promise_the_next_ballot(self) -> None:
        held = Acceptor().accept(record(5).blob, ballot(8), b"", 0, 1)
        assert isinstance(held, Acceptor)
        assert isinstance(held.prepare(ballot(7), b"", 0, 0, 1), TooLow)
        assert isinstance(held.accept(record(8, replaced=version(5)).blob, b"", b"", 0, 1), Acceptor)

    def test_what_is_learned_takes_the_place_of_what_is_accepted_up_to_it(self) -> None:
        held = Acceptor(1, ballot(6), record(5).blob)
        assert held.learn(version(4)) == held
        assert held.learn(version(5)) == held.learn(version(6)) == Acceptor(1, ballot(6))

    def test_it_is_kept_as_long_as_what_is_closed_does_not_say_as_much(self) -> None:
        assert Acceptor(1, ballot(6)).needed(5)
        assert not Acceptor(1, ballot(6)).needed(6)
        assert Acceptor(1, ballot(6), record(5).blob).needed(9)


class TestLearner:
    def test_of_a_quorum_the_greatest_counts_and_is_chosen_if_one_has_learned_it(self) -> None:
        low, high = record(4).blob, record(6).blob
        assert gathered([Told(low, True, 0, 0), Told(high, False, 3, 0)]) == Known(Record(high), False)
        assert gathered([Told(high, True, 0, 0), Told(high, False, 3, 0)]) == Known(Record(high), True)
        assert gathered([Told(b"", True, 0, 7), Told(b"", True, 0, 9)]) == Known(None, True, 9)


def write(condition: Condition = UNCONDITIONAL, expected: bytes = b"", **facts: object) -> Attempt:
    return Attempt(condition, expected, b"proposal")._replace(**facts)  # type: ignore[arg-type]


class TestProposer:
    @pytest.mark.parametrize(
        ("condition", "expected", "held", "weighed"),
        [
            (UNCONDITIONAL, b"", None, Next.PROPOSE),
            (UNCONDITIONAL, b"", record(5), Next.PROPOSE),
            (IF_ABSENT, b"", None, Next.PROPOSE),
            (IF_ABSENT, b"", record(5, b"", tombstone=True), Next.PROPOSE),
            (IF_ABSENT, b"", record(5, expires_ms=99), Next.PROPOSE),
            (IF_ABSENT, b"", record(5, expires_ms=101), Next.LOST),
            (IF_VERSION, version(3), record(5, identity=version(3)), Next.PROPOSE),
            (IF_VERSION, version(5), record(5, identity=version(3)), Next.LOST),
            (IF_VERSION, version(3), None, Next.LOST),
            (IF_VERSION, version(5), record(5, b"", tombstone=True), Next.LOST),
            (IF_VERSION, version(5), record(5, expires_ms=99), Next.LOST),
            (IF_VALUE, b"v", record(5), Next.PROPOSE),
            (IF_VALUE, b"w", record(5), Next.LOST),
            (IF_VALUE, b"", None, Next.LOST),
            (ADD, b"", None, Next.PROPOSE),
            (ADD, b"", record(5, b"-17"), Next.PROPOSE),
            (ADD, b"", record(5, b"seventeen"), Next.NO_NUMBER),
            (ADD, b"", record(5, b"seventeen", expires_ms=99), Next.PROPOSE),
            (ADD, b"", record(5, b"9" * NUMBER_BYTES_MAX), Next.NO_NUMBER),  # the sum would be none
            (ADD, b"", record(5, b"9" * (NUMBER_BYTES_MAX - 1)), Next.PROPOSE),
        ],
    )
    def test_a_new_write_depends_on_what_is_held(
        self, condition: Condition, expected: bytes, held: Record | None, weighed: Next
    ) -> None:
        assert write(condition, expected, by=b"1").weigh(Known(held, True), 100) is weighed

    @pytest.mark.parametrize("condition", [UNCONDITIONAL, IF_ABSENT, IF_VALUE, ADD])
    def test_what_was_sent_and_is_found_or_was_replaced_stands(self, condition: Condition) -> None:
        sent = write(condition, identity=version(5), meant=version(3))
        mine = record(7, identity=version(5), replaced=version(3))
        assert sent.weigh(Known(mine, False), 0) is Next.STORED
        assert sent.weigh(Known(record(9, replaced=version(5)), False), 0) is Next.STORED

    def test_what_its_client_has_proposed_at_another_node_is_the_same_write(self) -> None:
        twin = record(7, identity=version(7), replaced=version(3), proposal=b"proposal")
        assert write(identity=version(5), meant=version(3)).weigh(Known(twin, False), 0) is Next.STORED
        assert write(again=True).weigh(Known(twin, False), 0) is Next.STORED
        assert write().weigh(Known(twin, False), 0) is Next.PROPOSE  # nobody says that it repeats anything

    def test_what_all_know_is_older_than_was_not_applied(self) -> None:
        sent = write(IF_VERSION, version(3), identity=version(5), meant=version(3))
        assert sent.weigh(Known(record(3), True), 0) is Next.PROPOSE
        assert write(identity=version(5), meant=NOTHING).weigh(Known(None, True), 0) is Next.PROPOSE

    def test_where_what_it_meant_to_replace_is_finished_by_another_it_was_not_applied(self) -> None:
        finished = record(8, identity=version(3))
        sent = write(IF_VERSION, version(3), identity=version(5), meant=version(3))
        assert sent.weigh(Known(finished, False), 0) is Next.PROPOSE

    def test_whose_place_another_took_has_lost_or_goes_on(self) -> None:
        other = Known(record(8, b"1", replaced=version(3)), True)
        assert (
            write(IF_VERSION, version(3), identity=version(5), meant=version(3)).weigh(other, 0) is Next.LOST
        )
        for condition in (UNCONDITIONAL, ADD):
            assert write(condition, identity=version(5), meant=version(3)).weigh(other, 0) is Next.PROPOSE

    def test_whose_place_another_took_compares_with_what_that_left(self) -> None:
        same = Known(record(8, b"1", replaced=version(3)), True)
        gone = Known(record(8, b"", tombstone=True, replaced=version(3)), True)
        value = write(IF_VALUE, b"1", identity=version(5), meant=version(3))
        absent = write(IF_ABSENT, identity=version(5), meant=version(3))
        assert value.weigh(same, 0) is absent.weigh(gone, 0) is Next.PROPOSE
        assert value.weigh(gone, 0) is absent.weigh(same, 0) is Next.LOST

    def test_behind_two_others_nobody_knows(self) -> None:
        far = Known(record(9, replaced=version(8)), True)
        for condition in (UNCONDITIONAL, IF_VERSION, IF_ABSENT, ADD):
            sent = write(condition, version(3), identity=version(5), meant=version(3))
            assert sent.weigh(far, 0) is Next.UNKNOWN

    def test_of_what_may_be_deleted_and_purged_nobody_knows(self) -> None:
        sent = write(IF_ABSENT, identity=version(5), meant=NOTHING)
        assert sent.weigh(Known(None, True, 4), 0) is Next.PROPOSE
        assert sent.weigh(Known(None, True, 5), 0) is Next.UNKNOWN
        assert sent.weigh(Known(record(9), True, 5), 0) is Next.UNKNOWN
        assert sent.weigh(Known(record(9, replaced=version(5)), True, 5), 0) is Next.STORED

    def test_a_repetition_of_which_no_version_is_known_goes_by_what_it_compares_with(self) -> None:
        again = write(IF_VERSION, version(3), again=True)
        assert again.weigh(Known(record(8, identity=version(3)), True), 0) is Next.PROPOSE
        assert again.weigh(Known(record(8, replaced=version(3)), True), 0) is Next.LOST
        assert again.weigh(Known(record(8), True), 0) is Next.UNKNOWN
        expired = Known(record(8, identity=version(3), expires_ms=99), True)
        assert again.weigh(expired, 100) is Next.UNKNOWN, "by another clock it may not have expired"
        assert again._replace(identity=version(5)).weigh(expired, 100) is Next.UNKNOWN
        assert again._replace(identity=version(5), again=False).weigh(expired, 100) is Next.LOST
        assert again.weigh(Known(None, True), 0) is Next.UNKNOWN
        early = Known(record(2), True)  # version 3, which it has seen at few, may be chosen yet
        assert again._replace(identity=version(5)).weigh(early, 0) is Next.UNKNOWN
        for condition in (UNCONDITIONAL, IF_ABSENT, IF_VALUE, ADD):
            assert write(condition, again=True).weigh(Known(None, True), 0) is Next.UNKNOWN


@pytest.mark.parametrize(
    ("value", "number"),
    [(b"0", 0), (b"-12", -12), (b"007", 7), (b"", None), (b"-", None), (b"+1", None), (b" 1", None),
     (b"1.5", None), ("٣".encode(), None), (b"1" * 65, None)],
)  # fmt: skip
def test_a_number_is_decimal_text(value: bytes, number: int | None) -> None:
    assert number_of(value) == number


class Synod:
    """Three acceptors, and proposers of plain writes, each step of whom is taken when it is drawn."""

    def __init__(self) -> None:
        self.acceptors = [Acceptor() for _ in range(3)]
        self.learned = [b"", b"", b""]
        self.accepted: dict[bytes, set[int]] = {}
        self.records: dict[bytes, Record] = {}
        self.parents: dict[bytes, bytes] = {}  # of ballots: that of the record whose place is taken
        self.stamps = count(1)
        self.acknowledged: list[bytes] = []

    def proposer(self, origin: int) -> Generator[None, None, None]:
        """Writes, one after the other, asking an acceptor a step; refused, it prepares another ballot. It
        ends with one that it finds accepted already, or of which it cannot know what became."""
        proposal = write(proposal=origin.to_bytes(8))
        skip: tuple[bytes, Known] | None = None
        while True:
            if skip is None:
                mine, told = ballot(next(self.stamps), origin), list[Told]()
                for at in range(3):
                    yield
                    promise = self.acceptors[at].prepare(mine, self.learned[at], 0, 0, 1)
                    if not isinstance(promise, TooLow) and len(told) < 2:
                        self.acceptors[at] = promise[0]
                        told.append(promise[1])
                if len(told) < 2:
                    continue
                found = gathered(told)
            else:
                (mine, found), skip = skip, None
            weighed = proposal.weigh(found, 0)
            if weighed is Next.UNKNOWN:
                return
            if weighed is Next.STORED:
                chosen = found.record
                assert chosen is not None
                if not found.chosen:
                    made = self._made(mine, chosen.known_as, chosen.descent[24:], chosen.proposal)
                    self.parents[mine] = found.ballot
                    acks = yield from self._accept(made, NO_BALLOT)
                    if acks < 2:
                        continue
                self.acknowledged.append(proposal.identity)
                return
            proposal = proposal.proposed(mine + bytes(8), found)
            made = self._made(mine, proposal.identity, proposal.meant, proposal.proposal)
            self.parents[mine] = found.ballot
            following = ballot(next(self.stamps), origin)
            acks = yield from self._accept(made, following)
            if acks == 2:
                self.acknowledged.append(proposal.identity)
                for at in self.accepted[mine]:
                    yield
                    if ballot_of(self.learned[at]) < mine:
                        self.learned[at] = made.blob
                        self.acceptors[at] = self.acceptors[at].learn(made.blob)
                skip, proposal = (following, Known(made, True)), write(proposal=next(self.stamps).to_bytes(8))

    def _made(self, mine: bytes, identity: bytes, replaced: bytes, proposal: bytes) -> Record:
        made = Record.seal(
            DIGESTER,
            ROW,
            Version.decode(mine + bytes(8)),
            b"v",
            proposal=proposal,
            descent=identity + replaced,
        )
        assert mine not in self.records
        self.records[mine] = made
        return made

    def _accept(self, made: Record, following: bytes) -> Generator[None, None, int]:
        mine = ballot_of(made.blob)
        for at in range(3):
            yield
            after = self.acceptors[at].accept(made.blob, following, ballot_of(self.learned[at]), 0, 1)
            if isinstance(after, Acceptor):
                self.acceptors[at] = after
                self.accepted.setdefault(mine, set()).add(at)
                if len(self.accepted[mine]) == 2:
                    return 2
        return 0

    def chosen(self) -> list[Record]:
        return [self.records[each] for each in sorted(self.accepted) if len(self.accepted[each]) >= 2]

    def chain(self) -> list[bytes]:
        """What the register has held, from the last that was chosen back: also what was known to one acceptor
        alone when its place was taken."""
        chosen, chain = self.chosen(), list[bytes]()
        at = ballot_of(chosen[-1].blob) if chosen else NO_BALLOT
        while at:
            identity = self.records[at].known_as
            if not chain or chain[-1] != identity:
                chain.append(identity)
            at = self.parents[at]
        return chain


@given(st.lists(st.integers(0, 3), min_size=20, max_size=300))
def test_what_is_chosen_is_one_chain_under_any_schedule(schedule: list[int]) -> None:
    synod = Synod()
    proposers = [synod.proposer(origin) for origin in range(1, 5)]
    for at in schedule:
        next(proposers[at], None)
    chain = synod.chain()
    assert {each.known_as for each in synod.chosen()} <= set(chain)
    assert len(set(chain)) == len(chain)
    assert set(synod.acknowledged) <= set(chain)
