"""Mutations: the bugs themselves. Each replaces one function of the product by a wrong one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from basestore import handoff, reading
from basestore.consistency import APPLIED, HINTED, PENDING, SUPERSEDED, Level, ReplicaState, Tally
from basestore.coordinator import Coordinator
from basestore.errors import ClockSkew, Overloaded
from basestore.handoff import Handoff
from basestore.journal import Journal
from basestore.messages import Applied, Failed, Held
from basestore.node import Node
from basestore.operation import Operations
from basestore.outbox import SMALL_BYTES, Outbox
from basestore.reading import Reading
from basestore.recovery import Recovery
from basestore.replica import ABSENT, Replica
from basestore.scanning import Scanning
from basestore.standing import Standing, State
from basestore.storage.engine import DATA
from basestore.writing import Writing
from repair.read_repair import plan
from repair.rule import Rule
from repair.version import VERSION_BYTES, Record, Version, is_tombstone
from repair.write_repair import Hint

Patch = AbstractContextManager[Any]

LOST = {"lost writes", "read your writes", "linearizable", "reads go back", "monotonic reads", "deletes"}
STALE = LOST | {"scans", "two winners"}


class Mutant(NamedTuple):
    """`expected`: the checkers of which one must complain."""

    name: str
    expected: set[str]
    patches: Callable[[], list[Patch]]


MUTANTS: list[Mutant] = []
SURVIVORS = {
    "a superseded write-back confirms": "a race that 5 of 1,500 histories of the model met; it needs hours",
    "a rollback goes unnoticed": "the lost writes must have missed another replica too; ambushes are too few",
    "recovery that does not wait for earlier requests": "needs a slow write that spans loss and recovery",
    "a stream takes over what is older": "a client must read before a later write or repair hides it",
}


def mutant(name: str, expected: set[str], target: Any, attribute: str) -> Callable[[Any], Any]:
    """Register a wrong function in place of `target.attribute`."""

    def register(wrong: Any) -> Any:
        MUTANTS.append(Mutant(name, expected, lambda: [patch.object(target, attribute, wrong)]))
        return wrong

    return register


# --- durability ----------------------------------------------------------------------------------


@mutant("ack before fsync", STALE | {"receipts"}, Journal, "ack_staged")
def _ack_at_once(self: Any, outbox: Outbox, request: int) -> None:
    outbox.put(Applied([request], self.generation, self.durable_sequence))


_reply = Journal.reply


@mutant("a read of unsynced data", STALE | {"shown"}, Journal, "reply")
def _reply_at_once(self: Any, outbox: Outbox, message: Any, key: bytes, size: int = SMALL_BYTES) -> None:
    if isinstance(message, Held):
        outbox.put(message, size)
    else:
        _reply(self, outbox, message, key, size)


@mutant("a hint reported before it is durable", {"receipts"}, Journal, "reply_surely")
def _kept_at_once(self: Any, outbox: Outbox, message: Any, key: bytes) -> None:
    outbox.put(message)


_durable = Journal.durable


@mutant("a sync vouches for what came after it began", STALE | {"receipts"}, Journal, "durable")
def _everything_durable(self: Any, barrier: int) -> None:
    _durable(self, self.sequence)


@mutant(
    "a hint taken as durable with an older record of its row",
    {"receipts", "acks", *LOST},
    Journal,
    "ack_surely",
)
def _ack_with_the_oldest(self: Any, outbox: Outbox, request: int, key: bytes) -> None:
    for generation in (self._open, *self._waiting):
        if key in generation.rows:
            generation.sure_acks.setdefault(outbox, []).append(request)
            return
    outbox.put(Applied([request], self.generation, self.durable_sequence))


_reject = Journal._reject


@mutant("a refused batch is acknowledged", STALE | {"receipts"}, Journal, "_reject")
def _ack_the_refused(self: Any, generation: Any, reason: str) -> None:
    self._acknowledge(generation.acks)
    generation.acks = {}
    _reject(self, generation, reason)


@mutant(
    "heads of a refused batch are remembered", STALE | {"receipts", "convergence"}, Replica, "forget_heads"
)
def _keep_heads(self: Any) -> None:
    pass


# --- counting ------------------------------------------------------------------------------------

_record = Tally.record


@mutant("a hint counted for QUORUM", STALE | {"receipts"}, Tally, "record")
def _count_hints(self: Any, place: int, state: ReplicaState) -> bool:
    return _record(self, place, APPLIED if state is HINTED and self.level > Level.ANY else state)


@mutant("superseded counted as applied", STALE | {"receipts"}, Tally, "record")
def _count_superseded(self: Any, place: int, state: ReplicaState) -> bool:
    return _record(self, place, APPLIED if state is SUPERSEDED else state)


@mutant("quorum off by one", STALE, Level, "required")
def _half(self: Any, replicas: int) -> int:
    return max(1, replicas // 2) if self is Level.QUORUM else replicas if self is Level.ALL else 1


@mutant("ALL means all but one", STALE | {"receipts"}, Level, "required")
def _almost_all(self: Any, replicas: int) -> int:
    return max(1, replicas - 1) if self is Level.ALL else replicas // 2 + 1 if self is Level.QUORUM else 1


_answer = Writing._answer


@mutant("a receipt that rounds up", {"receipts"}, Writing, "_answer")
def _round_up(self: Any, outcome: int, version: bytes, winner: bytes) -> None:
    states = self._tally.states
    self._tally.states = [APPLIED if state is PENDING else state for state in states]
    _answer(self, outcome, version, winner)
    self._tally.states = states


@mutant("a write answered twice", {"answers"}, Writing, "_answer")
def _answer_twice(self: Any, outcome: int, version: bytes, winner: bytes) -> None:
    _answer(self, outcome, version, winner)
    self._answered = self._tally.applied > self._tally.required


# --- versions and rules --------------------------------------------------------------------------


@mutant("a stamp used again", {"versions", "linearizable", "convergence"}, Coordinator, "stamp")
def _same_stamp(self: Any, row: bytes, now: Any) -> Version:
    self._check_clock(now)
    return Version(max(self._clock.last, now.wall_ms << 16), self._origin, 1)


@mutant("a tie that nobody wins", STALE | {"convergence", "versions"}, Rule, "beats")
def _by_stamp_only(self: Any, challenger: bytes, holder: bytes) -> bool:
    if self is Rule.LAST_WRITE_WINS:
        return challenger[:7] > holder[:7]
    return challenger[:7] < holder[:7]


@mutant("the latest arrival wins", STALE | {"convergence", "receipts"}, Rule, "beats")
def _whoever_comes(self: Any, challenger: bytes, holder: bytes) -> bool:
    return challenger != holder


@mutant("a retry executed anew", {"versions"}, Coordinator, "_repeated")
def _forget_version(self: Any, encoded: bytes, now: Any) -> None:
    return None


@mutant("first-write-wins without reading first", {"two winners"}, Writing, "read_first")
def _write_first(self: Any, repeated: Any, now: Any) -> None:
    self.begin(repeated, now)


_begin = Writing.begin


@mutant("skew is checked after the write was sent", {"phantoms"}, Writing, "begin")
def _send_then_check(self: Any, repeated: Any, now: Any) -> None:
    try:
        self._coordinator._check_clock(now)
    except (ClockSkew, Overloaded) as error:
        with patch.object(Coordinator, "_check_clock", lambda *_: None):
            self._coordinator._clock.raise_ceiling(self._coordinator._clock.last + (1 << 16))
            _begin(self, repeated, now)
        self._fail(error)
    else:
        _begin(self, repeated, now)


_store = Replica._store


@mutant("a tombstone dropped early", STALE | {"receipts"}, Replica, "_store")
def _drop_tombstone(self: Any, row: bytes, blob: bytes, head: bytes, held: bytes) -> None:
    _store(self, row, blob, head, held)
    if is_tombstone(head):
        self._journal.stage(DATA + row, None)
        self._remember(row, ABSENT)


@mutant("a damaged record is served", {"phantoms", "convergence", "versions", *STALE}, Record, "intact")
def _never_damaged(self: Any, digester: Any, row: bytes) -> bool:
    return True


# --- reads ---------------------------------------------------------------------------------------


@mutant("no blocking read repair", STALE, reading, "plan")
def _all_confirm(rule: Rule, replies: Any) -> Any:
    return plan(rule, replies)._replace(confirmed=len(replies))


@mutant("a superseded write-back confirms", STALE, Reading, "superseded")
def _superseded_confirms(self: Any, member: int, request: int, head: bytes, now: Any) -> None:
    self._under_way.pop(member, None)
    record = self._write_backs.get(request)
    if record is not None:
        self._replies[member] = record
        self._consider(now)


@mutant("a read that believes the first reply", STALE, Reading, "_consider")
def _first_reply(self: Any, now: Any) -> None:
    record = next(iter(self._replies.values()))
    self._end(reading.Finding(record, self._required, len(self._replies), False, 0, now))


_merge = Scanning._merge


@mutant("a scan that passes over what was not answered", {"scans"}, Scanning, "_merge")
def _merge_all(self: Any, now: Any) -> None:
    more, self._more = self._more, False
    _merge(self, now)
    self._more = self._more or more


# --- deadlines and messages ----------------------------------------------------------------------


@mutant("a deadline ignored", {"deadlines"}, Operations, "alarm_at")
def _no_alarm(self: Any, request: int, monotonic: float) -> None:
    pass


_alarm = Reading.alarm


@mutant("a read that waits for ever", {"deadlines"}, Reading, "alarm")
def _wait_on(self: Any, now: Any) -> None:
    if now.monotonic < self._deadline:
        _alarm(self, now)


_put = Outbox.put


@mutant("an outbox that wakes nobody", {"deadlines", "answers"}, Outbox, "put")
def _put_silently(self: Any, message: Any, size: int = SMALL_BYTES) -> bool:
    ready = self in self._ready
    done = _put(self, message, size)
    if not ready and isinstance(message, Failed):
        self._ready.discard(self)
    return done


# --- hints ---------------------------------------------------------------------------------------


@mutant("hints are never delivered", {"recovery"}, Handoff, "tick")
def _keep_all(self: Any, now: Any) -> None:
    pass


@mutant("the latest hint is kept, not the winner", {"receipts", *LOST}, handoff, "merge_hints")
def _latest_hint(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    return offered


@mutant("a hint refused is a hint delivered", {"receipts", *LOST}, handoff._Delivery, "rejected")
def _give_up_hint(self: Any, member: int, request: int, answer: Any, now: Any) -> None:
    self._handoff.settle(self, self._member, self._key, self._value)


_lost = Writing.lost


@mutant("a first write that loses a link while it reads", {"crash"}, Writing, "lost")
def _hint_unsent(self: Any, member: int, now: Any) -> None:
    sent, self._sent = self._sent, True
    _lost(self, member, now)
    self._sent = sent


# --- stores that lost something ------------------------------------------------------------------


@mutant("a forgetful replica answers", STALE, Node, "_serves")
def _always_serves(self: Any, member: int, outbox: Outbox, request: int, deadline_ms: int, now: Any) -> bool:
    if self.standing.state is State.FORGETFUL and self.peers.alive != [True] * len(self.peers.alive):
        self.peers.set_alive(self.me, True)
    return True


def _forgetful_counts() -> list[Patch]:
    whole = property(lambda self: True)
    return [patch.object(Standing, "whole", whole), patch.object(Node, "_serves", _always_serves)]


MUTANTS[-1] = Mutant("a forgetful replica answers", STALE, _forgetful_counts)

_hear_remembered = Standing.hear_remembered


@mutant("a rollback goes unnoticed", STALE, Standing, "hear_remembered")
def _never_rolled_back(self: Any, outbox: Outbox, name: str, said: Any, fresh_store: bytes) -> bool:
    fits = said._replace(generation=next(iter(self._generations)), sequence=0)
    return _hear_remembered(self, outbox, name, fits, fresh_store)


@mutant("a wiped store passes for a new one", STALE, Standing, "hear_remembered")
def _never_knew(self: Any, outbox: Outbox, name: str, said: Any, fresh_store: bytes) -> bool:
    return _hear_remembered(self, outbox, name, said._replace(earlier=False), fresh_store)


@mutant("recovery from a single replica", STALE, Recovery, "_recovered")
def _one_will_do(self: Any, partition: int) -> bool:
    return bool(self._done[partition])


@mutant("a stream takes over what is older", STALE | {"convergence"}, Replica, "take_over")
def _take_anything(self: Any, row: bytes, record: Record) -> None:
    held = self._heads.get(row, ABSENT)
    if held[:VERSION_BYTES] != record.head[:VERSION_BYTES]:
        self._store(row, record.blob, record.head, held)


_take_page = Recovery.take_page


@mutant("recovery ends after its first page", STALE, Recovery, "take_page")
def _first_rows(self: Any, stream: Any, request: int, rows: list[bytes], more: bool, now: Any) -> None:
    _take_page(self, stream, request, rows[: len(rows) // 4 * 2], False, now)


_replace_damaged = Replica.replace_damaged


@mutant("healing miscounts records", {"crash", "counts"}, Replica, "replace_damaged")
def _miscount(self: Any, row: bytes, records: Any) -> None:
    before = self._journal.records
    _replace_damaged(self, row, records)
    self._journal.records = before


_recovery_tick = Recovery.tick


@mutant("recovery that does not wait for earlier requests", STALE, Recovery, "tick")
def _begin_at_once(self: Any, now: Any) -> None:
    self._begin_s = 0.0
    _recovery_tick(self, now)


_writing_alarm = Writing.alarm


@mutant("a verdict after the deadline", STALE | {"deadlines"}, Writing, "alarm")
def _go_on(self: Any, now: Any) -> None:
    if now.monotonic < self._deadline + 0.5:
        self._deadline += 0.5
        self._coordinator.operations.alarm_at(self.ids[0], self._deadline)
    else:
        _writing_alarm(self, now)
