"""How a lock is taken, kept, lost and given back. Covers `client/coordination/tenure.py` and
`client/coordination/lease.py`; a register stands for the cluster, and a hand for the clock."""

from typing import Any

import pytest

from basestore.client.coordination.lease import Wanted, changing, giving, renewing, taking
from basestore.client.coordination.tenure import Claim, Take, Tenure
from basestore.client.coordination.transaction import Row
from basestore.consistency import Level, Outcome
from basestore.errors import Conflict, InvalidRequest, LeaseLost, LockHeld, OutcomeUnknown, Overloaded
from basestore.leases import BELIEVED, ENDED, EPHEMERAL_MAX, Holding
from basestore.protocol.client import SET
from basestore.repair.version import Identity, Version
from basestore.results.receipts import ReadResult, Receipt

A, B = b"a" * 16, b"b" * 16
LEASE_MS = 10_000


class Lock:
    """Its register, and what is asked of it. `fails`: errors of the next requests; `done`: though they "
    "fail."""

    def __init__(self) -> None:
        self.value: bytes | None = None
        self.number = 0
        self.fails: list[Exception | None] = []
        self.done = False
        self.keys: dict[tuple[str, bytes], bytes] = {}

    @property
    def version(self) -> Version | None:
        return Version(self.number, 1, 1) if self.value is not None else None

    @property
    def row(self) -> Holding:
        assert self.value is not None
        return Holding.decode(self.value)

    def read_lock(self, name: bytes) -> Any:
        return ("read",)

    def write_lock(self, name: bytes, row: bytes, version: Version | None) -> Any:
        return "write", row, version

    def commit(self, rows: list[Row], timeout: float | None) -> Any:
        return "commit", rows

    def ask(self, request: Any) -> Any:
        error = self.fails.pop(0) if self.fails else None
        if error is not None and not self.done:
            raise error
        told = getattr(self, f"_{request[0]}")(*request[1:])
        if error is not None:
            raise error
        return told

    def _read(self) -> ReadResult:
        found = self.value is not None
        return ReadResult(found, self.value, self.version, None, Level.SERIAL, 2, 2, False, 0)

    def _write(self, row: bytes, version: Version | None) -> Receipt:
        stored = version == self.version
        if stored:
            self.value, self.number = row, self.number + 1
        outcome, better = (Outcome.STORED, None) if stored else (Outcome.LOST, self.version)
        identity = Identity(b"p" * 8, self.version, b"c" * 8) if stored else Identity(b"p" * 8)
        value = None if stored else self.value
        return Receipt(outcome, None, identity, Level.SERIAL, 2, 2, {}, better, 0, b"", value=value)

    def _commit(self, rows: list[Row]) -> list[Version]:
        first, *others = rows
        if self.version is None or first.expected != self.version.encode():
            raise Conflict("conflict")
        self._write(first.value, self.version)
        for row in others:
            if row.kind == SET:
                self.keys[row.bucket, row.key] = row.value
            else:
                self.keys.pop((row.bucket, row.key), None)
        assert self.version is not None
        return [self.version] * len(rows)


class Hand:
    """A clock that goes as it is told: by each pause, so much faster or slower than it says."""

    def __init__(self, rate: float = 1.0) -> None:
        self.now, self.rate = 0.0, rate

    def __call__(self) -> float:
        return self.now

    def carry(self, steps: Any, lock: Lock) -> Any:
        """What the steps return; pauses pass at once."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, float):
                    self.now += step
                    step = steps.send(None)
                    continue
                try:
                    told = lock.ask(step)
                except Exception as error:  # noqa: BLE001 - whatever it is, the steps have it
                    step = steps.throw(error)
                else:
                    step = steps.send(told)
        except StopIteration as end:
            return end.value


def wanted(wait_s: float | None = None) -> Wanted:
    return Wanted.of(b"jobs", LEASE_MS / 1e3, wait_s, "me", None)


def taken(lock: Lock, holder: bytes = A, wait_s: float | None = None, hand: Hand | None = None) -> Tenure:
    hand = hand or Hand()
    tenure: Tenure = hand.carry(taking(lock, wanted(wait_s), holder, hand), lock)
    return tenure


def taken_again(lock: Lock) -> Tenure:
    """Renewed by somebody who has not told this holder."""
    tenure = Tenure(lock.row, Version(lock.number, 1, 1), 0.0)
    Hand().carry(renewing(lock, b"jobs", tenure, Hand()), lock)
    return tenure


class TestTaking:
    def test_what_is_free_is_taken_at_once_and_each_time_under_a_greater_token(self) -> None:
        lock = Lock()
        for token in (1, 2, 3):
            tenure = taken(lock, wait_s=0)
            assert (tenure.row.token, lock.row.holder) == (token, A)
            Hand().carry(giving(lock, wanted(), tenure), lock)
            assert (lock.row.token, lock.row.holder) == (token, b"")

    def test_what_another_holds_is_not(self) -> None:
        lock = Lock()
        taken(lock)
        for wait_s in (0, 3):
            with pytest.raises(LockHeld, match="is held, by me"):
                taken(lock, B, wait_s)
        assert lock.row.holder == A

    def test_what_stands_still_for_long_is_taken_with_its_ephemeral_keys(self) -> None:
        lock, hand = Lock(), Hand()
        tenure = taken(lock)
        change = Row("cas", b"here", SET, b"", b"1", 0)
        Hand().carry(changing(lock, wanted(), tenure, change), lock)
        assert lock.keys
        assert taken(lock, B, None, hand).row.token == 2
        assert ENDED * LEASE_MS / 1e3 <= hand.now < ENDED * LEASE_MS / 1e3 + 1
        assert not lock.keys

    def test_errors_that_pass_are_waited_out_and_others_are_told(self) -> None:
        lock = Lock()
        lock.fails = [Overloaded("overloaded"), None, Overloaded("overloaded")]
        assert taken(lock).row.token == 1
        lock = Lock()
        lock.fails = [Overloaded("overloaded")]
        with pytest.raises(Overloaded):
            taken(lock, wait_s=0)
        lock.value = b"rubbish"
        with pytest.raises(InvalidRequest, match="written by something else"):
            taken(lock)

    def test_one_that_was_taken_unknown_is_found_to_be_ones_own(self) -> None:
        lock = Lock()
        lock.fails, lock.done = [None, OutcomeUnknown("unknown", None, None)], True
        assert taken(lock, hand=Hand()).row.holder == A == lock.row.holder

    @pytest.mark.parametrize("seconds", [0, 0.1, 601, "x"])
    def test_a_time_that_makes_no_sense_is_refused(self, seconds: Any) -> None:
        with pytest.raises(InvalidRequest, match="it lasts"):
            Wanted.of(b"jobs", seconds, None, "", None)


class TestKeeping:
    def test_it_is_believed_from_when_the_last_renewal_was_sent(self) -> None:
        lock, hand = Lock(), Hand()
        tenure = taken(lock, hand=hand)
        assert tenure.believed_until_s == BELIEVED * LEASE_MS / 1e3
        hand.now = 4.0
        hand.carry(renewing(lock, b"jobs", tenure, hand), lock)
        assert tenure.believed_until_s == 4.0 + BELIEVED * LEASE_MS / 1e3

    def test_a_renewal_whose_outcome_is_not_known_adds_no_time_by_itself(self) -> None:
        lock, hand = Lock(), Hand()
        tenure = taken(lock, hand=hand)
        hand.now = 4.0
        lock.fails, lock.done = [OutcomeUnknown("unknown", None, None)], True
        hand.carry(renewing(lock, b"jobs", tenure, hand), lock)
        assert tenure.version == lock.version
        assert tenure.believed_until_s > 4.0 + BELIEVED * LEASE_MS / 1e3

    def test_it_is_lost_to_whoever_has_taken_its_place(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        taken(lock, B)
        with pytest.raises(LeaseLost, match="held by me now"):
            Hand().carry(renewing(lock, b"jobs", tenure), lock)
        with pytest.raises(LeaseLost, match="held by me now"):
            Hand().carry(giving(lock, wanted(), tenure), lock)
        assert lock.row.holder == B

    def test_two_never_believe_at_once_though_one_clock_is_a_quarter_faster(self) -> None:
        """The holder's is slow, that of who waits is fast: of a time of 12.5 s by that one 10 s pass."""
        holder = Tenure(Holding(1, A, "", LEASE_MS, 0), Version(1, 1, 1), 0.0)
        claim, version = Claim(B, "", LEASE_MS), Version(1, 1, 1)
        found = ReadResult(True, holder.row.encode(), version, None, Level.SERIAL, 2, 2, False, 0)
        fast, slow = 1.25, 1 / 1.25
        real_s = 0.0
        while not isinstance(claim.look(found, real_s * fast, 0), Take):
            real_s += 0.01
        assert real_s * slow > holder.believed_until_s

    def test_so_many_ephemeral_keys_and_no_more(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        for number in range(EPHEMERAL_MAX):
            change = Row("cas", b"%d" % number, SET, b"", b"", 0)
            Hand().carry(changing(lock, wanted(), tenure, change), lock)
        with pytest.raises(InvalidRequest, match="ephemeral"):
            Hand().carry(changing(lock, wanted(), tenure, Row("cas", b"more", SET, b"", b"", 0)), lock)
        assert len(lock.row.keys) == EPHEMERAL_MAX


class TestChanging:
    KEYS = (("cas", b"here"),)
    CHANGE = Row("cas", b"here", SET, b"", b"1", 0)

    def change(self, lock: Lock, tenure: Tenure) -> None:
        Hand().carry(changing(lock, wanted(), tenure, self.CHANGE), lock)

    def test_one_whose_outcome_is_not_known_is_found_done_and_not_done_twice(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        lock.fails, lock.done = [OutcomeUnknown("unknown", None, None)], True
        self.change(lock, tenure)
        assert (lock.number, tenure.version, tenure.row.keys) == (2, lock.version, self.KEYS)

    def test_one_whose_outcome_is_not_known_is_found_not_done_and_done_once_more(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        lock.fails = [OutcomeUnknown("unknown", None, None)]
        self.change(lock, tenure)
        assert (lock.number, lock.row.keys, lock.keys) == (2, self.KEYS, {("cas", b"here"): b"1"})
        assert tenure.version == lock.version

    def test_where_a_renewal_has_come_between_it_is_made_anew(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        self.change(lock, tenure)
        assert taken_again(lock).version != tenure.version
        change = self.CHANGE._replace(value=b"2")
        Hand().carry(changing(lock, wanted(), tenure, change), lock)
        assert (lock.row.keys, tenure.version) == (self.KEYS, lock.version)
        assert lock.keys == {("cas", b"here"): b"2"}

    def test_one_of_which_nobody_knew_is_named_with_the_next(self) -> None:
        """Else nobody would delete it."""
        lock = Lock()
        tenure = taken(lock)
        lock.fails, lock.done = [OutcomeUnknown("unknown", None, None), Overloaded("overloaded")], True
        with pytest.raises(Overloaded):
            self.change(lock, tenure)
        assert (tenure.row.keys, lock.row.keys) == ((), self.KEYS)
        Hand().carry(changing(lock, wanted(), tenure, Row("cas", b"there", SET, b"", b"1", 0)), lock)
        assert set(lock.row.keys) == {*self.KEYS, ("cas", b"there")}

    def test_a_conflict_of_the_key_itself_is_told(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        lock.fails = [Conflict("conflict: of the key")]
        with pytest.raises(Conflict, match="of the key"):
            self.change(lock, tenure)
        assert not lock.row.keys

    def test_it_is_lost_where_another_has_the_lock(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        taken(lock, B)
        with pytest.raises(LeaseLost):
            self.change(lock, tenure)
        assert not lock.keys

    def test_it_is_lost_too_where_the_same_holder_has_taken_it_again(self) -> None:
        """By another lease: what was done under this one may have been done beside a holder between."""
        lock = Lock()
        tenure = taken(lock)
        lock.value = tenure.row._replace(token=9).encode()
        lock.number += 1
        with pytest.raises(LeaseLost):
            self.change(lock, tenure)

    def test_it_adds_time_from_when_it_was_sent(self) -> None:
        lock = Lock()
        tenure = Tenure(taken(lock).row, Version(1, 1, 1), -1e9)
        self.change(lock, tenure)
        assert tenure.believed_until_s > 0


class TestGiving:
    def test_with_ephemeral_keys_they_go_at_once(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        Hand().carry(
            changing(lock, wanted(), tenure, TestChanging.CHANGE), lock
        )  # fmt: skip
        Hand().carry(giving(lock, wanted(), tenure), lock)
        assert (lock.row.holder, lock.row.keys, lock.keys) == (b"", (), {})

    def test_what_another_has_with_its_keys_is_left(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        Hand().carry(changing(lock, wanted(), tenure, TestChanging.CHANGE), lock)
        taken(lock, B)
        lock.keys["cas", b"here"] = b"of another"
        with pytest.raises(LeaseLost, match="held by me now"):
            Hand().carry(giving(lock, wanted(), tenure), lock)
        assert (lock.row.holder, lock.keys) == (B, {("cas", b"here"): b"of another"})

    @pytest.mark.parametrize("ephemeral", [False, True])
    def test_a_renewal_of_which_nobody_has_heard_keeps_it_from_nothing(self, ephemeral: bool) -> None:
        lock = Lock()
        tenure = taken(lock)
        if ephemeral:
            Hand().carry(changing(lock, wanted(), tenure, TestChanging.CHANGE), lock)
        taken_again(lock)
        Hand().carry(giving(lock, wanted(), tenure), lock)
        assert (lock.row.holder, lock.keys) == (b"", {})

    def test_who_has_ended_it_has_taken_it_from_this_holder(self) -> None:
        lock = Lock()
        tenure = taken(lock)
        lock.value, lock.number = lock.row.free.encode(), lock.number + 1
        with pytest.raises(LeaseLost, match="held by nobody now"):
            Hand().carry(giving(lock, wanted(), tenure), lock)

    def test_what_comes_between_is_waited_out_for_a_while(self) -> None:
        lock, hand = Lock(), Hand()
        tenure = taken(lock)
        Hand().carry(changing(lock, wanted(), tenure, TestChanging.CHANGE), lock)
        lock.fails = [Conflict("conflict")]
        hand.carry(giving(lock, wanted(), tenure), lock)
        assert lock.row.holder == b""
        tenure = taken(lock)
        Hand().carry(changing(lock, wanted(), tenure, TestChanging.CHANGE), lock)
        lock.fails = [Conflict("conflict"), None] * 1000
        hand.carry(giving(lock, wanted(), tenure), lock)
        assert lock.row.holder == A
        assert 0 < hand.now < 2


class TestClaim:
    def look(self, claim: Claim, holding: Holding, number: int, now: float) -> Any:
        found = ReadResult(True, holding.encode(), Version(number, 1, 1), None, Level.SERIAL, 2, 2, False, 0)
        return claim.look(found, now, 7)

    def test_each_renewal_counts_anew(self) -> None:
        claim, held = Claim(B, "", LEASE_MS), Holding(1, A, "", LEASE_MS, 0)
        for number in range(1, 4):
            assert not isinstance(self.look(claim, held, number, number * 10.0), Take)
        last = 30.0 + ENDED * LEASE_MS / 1e3
        assert not isinstance(self.look(claim, held, 3, last - 0.1), Take)
        take = self.look(claim, held, 3, last)
        assert isinstance(take, Take)
        assert (take.row.token, take.ends, take.version) == (2, held, Version(3, 1, 1))

    def test_it_counts_by_what_the_holder_has_said_and_not_by_what_itself_wants(self) -> None:
        claim, held = Claim(B, "", 1000), Holding(1, A, "", LEASE_MS, 0)
        self.look(claim, held, 1, 0.0)
        assert not isinstance(self.look(claim, held, 1, ENDED * LEASE_MS / 1e3 - 0.1), Take)

    def test_it_looks_again_soon_and_never_later_than_it_may_take_it(self) -> None:
        claim = Claim(B, "", LEASE_MS)
        assert self.look(claim, Holding(1, A, "", LEASE_MS, 0), 1, 0.0) == 0.5
        assert self.look(claim, Holding(1, A, "", 1000, 0), 2, 0.0) == 0.1
        assert self.look(claim, Holding(1, A, "", 1000, 0), 2, 1.2) == pytest.approx(0.05)

    def test_its_own_and_what_is_free_it_takes_at_once(self) -> None:
        claim = Claim(B, "me", LEASE_MS)
        own = self.look(claim, Holding(4, B, "", LEASE_MS, 0), 1, 0.0)
        assert isinstance(own, Take)
        free = self.look(claim, Holding(5, b"", "", LEASE_MS, 0), 2, 0.0)
        assert isinstance(free, Take)
        assert [take.row.token for take in (own, free)] == [5, 6]
        assert (free.ends, free.row.holder, free.row.owner, free.row.since_ms) == (None, B, "me", 7)
        gone = claim.look(ReadResult(False, None, None, None, Level.SERIAL, 2, 2, False, 0), 0.0, 0)
        assert isinstance(gone, Take)
        assert (gone.row.token, gone.version) == (1, None)

    def test_who_was_stopped_believes_nothing_when_it_goes_on(self) -> None:
        tenure = Tenure(Holding(1, A, "", LEASE_MS, 0), Version(1, 1, 1), 0.0)
        assert tenure.due_s < tenure.believed_until_s < ENDED * LEASE_MS / 1e3
        tenure.renewed(tenure.row, Version(2, 1, 1), 3.0)
        tenure.renewed(tenure.row, Version(3, 1, 1), 1.0)  # that was sent before it
        assert tenure.believed_until_s == 3.0 + BELIEVED * LEASE_MS / 1e3
