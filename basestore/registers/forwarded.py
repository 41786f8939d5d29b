"""Forwarded: a write or read of a register that this node's client has asked for, and another node does.

One node writes a row, its *home*: the first of its replicas that is alive and whose disk keeps up, as far as
the node knows that was asked. There what is asked of the row waits in one queue, and the next ballot of the
row is promised already; nodes that wrote the same row each by itself would only refuse each other's ballots.
Nothing rests on that: who takes another node for the home is slower, no more.

    asked of n2, home n1        Forward -> n1, ForwardDone <- n1
    n1 is lost                  n1 may have begun: whoever does it now does it as a repetition
    n1 reaches too few, or      nothing was done: n2 tries it itself, which may reach others, or know the
    its clock or disk is bad    time
"""

from collections.abc import Callable
from typing import Final

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import SMALL_BYTES
from basestore.coordinator.attempts import Content
from basestore.coordinator.context import Context, failure
from basestore.errors import ClockSkew, InvalidRequest, ReadTimeout, RequestFailed, Unavailable, revive
from basestore.instant import Instant
from basestore.protocol.client import OUTCOME_LOST
from basestore.protocol.replication import Forward, ForwardDone
from basestore.registers.outcomes import UNREAD, doubting, unknown
from basestore.registers.task import Done, Report, Result, Task, Write
from basestore.repair.compare_and_set import Attempt, Condition
from basestore.repair.rule import Rule
from basestore.repair.version import PROPOSAL_BYTES, Identity, Record

GRACE_S: Final = 0.2  # in which the home's own word that the time is over may still come
_ELSEWHERE: Final = frozenset((Unavailable.code, ClockSkew.code))  # nothing was done, for what the home lacks
_TOLD: Final = frozenset((Condition.ADD.value, Condition.UNDECIDED.value))  # what it holds, if it was stored
Elsewhere = Callable[[Task, Report, Instant], None]


class Forwarded(Operation):
    """Until its home has answered, is lost, or the time is over."""

    __slots__ = ("_again", "_context", "_here", "_home", "_report", "_task")

    def __init__(
        self, context: Context, task: Task, home: int, report: Report, again: Elsewhere, here: Elsewhere
    ) -> None:
        """`again`: has it done by whoever is the home now; `here`: by this node itself."""
        super().__init__(task.size)
        self._context, self._task, self._home = context, task, home
        self._report, self._again, self._here = report, again, here

    def begin(self, now: Instant) -> None:
        context, task = self._context, self._task
        request = context.operations.issue(self)
        message = _forward(request, task, now)
        size = SMALL_BYTES + len(task.row) + len(message.value) + len(message.expected)
        if context.peers.send(self._home, message, size):
            context.metrics.count("register_forwards")
            context.operations.alarm_at(request, task.deadline + GRACE_S)
        else:
            self._end(None, now)

    def done(self, member: int, answer: ForwardDone, now: Instant) -> None:
        if member != self._home:
            return
        if answer.code in _ELSEWHERE:
            self._context.operations.drop(self)
            self._here(self._task, self._report, now)
            return
        self._end(_result(answer), now)

    def lost(self, member: int, now: Instant) -> None:
        if member != self._home:
            return
        self._context.operations.drop(self)
        task, report, write = self._task, self._report, self._task.write
        if write is not None:
            task = task._replace(write=write._replace(attempt=write.attempt._replace(again=True)))
            name, proposal = self._context.peers.all[member].name, Identity(write.content.proposal)
            report = doubting(report, proposal, f"{name}, which may have done it, was lost")
        self._again(task, report, now)

    def alarm(self, now: Instant) -> None:
        self._end(None, now)

    def _end(self, result: Result, now: Instant) -> None:
        self._context.operations.drop(self)
        self._report(result if result is not None else self._silence(), now)

    def _silence(self) -> RequestFailed:
        if self._task.write is None:
            return ReadTimeout(UNREAD, None, None, None)
        name = self._context.peers.all[self._home].name
        proposal = Identity(self._task.write.content.proposal)
        return unknown(proposal, None, f"{name}, which writes this register, has not answered in time")


# --- on the wire: each way beside its inverse ----------------------------------------------------


def _forward(request: int, task: Task, now: Instant) -> Forward:
    left_ms = max(0, int((task.deadline - now.monotonic) * 1e3))
    if task.write is None:
        return Forward(
            request, task.row, b"", 0, False, 0, b"", bytes(PROPOSAL_BYTES), False, True, left_ms,
            as_is=task.as_is,
        )  # fmt: skip
    content, attempt = task.write
    return Forward(
        request, task.row, content.value, content.ttl_ms, content.tombstone, attempt.condition.value,
        attempt.expected, attempt.proposal + attempt.identity, attempt.again, False, left_ms, attempt.lays,
    )  # fmt: skip


def task_of(asked: Forward, rule: Rule, condition: Condition, timeout_ms_max: int, now: Instant) -> Task:
    """What another node asks for; it lasts as long as its client waits, but no longer than any request."""
    deadline = now.monotonic + min(asked.left_ms, timeout_ms_max) / 1e3
    if asked.reads:
        return Task(asked.row, deadline, as_is=asked.as_is)
    drawn, identity = asked.identity[:PROPOSAL_BYTES], asked.identity[PROPOSAL_BYTES:]
    content = Content(asked.row, asked.value, asked.ttl_ms, asked.tombstone, rule, 0, drawn)
    attempt = Attempt(
        condition,
        asked.expected,
        drawn,
        identity,
        again=asked.again,
        final=rule.immutable,
        by=asked.value,
        lays=asked.lays,
    )
    return Task(asked.row, deadline, Write(content, attempt))


def answer_to(asked: Forward, result: Done | InvalidRequest | RequestFailed, retry_ms: int) -> ForwardDone:
    """What became of it. The record is told of where the other node's client is shown it."""
    if isinstance(result, Done):
        outcome, version, order, record, required, replicas = result
        told = outcome == OUTCOME_LOST or asked.reads or asked.condition in _TOLD
        blob = record.blob if record is not None and told else b""
        return ForwardDone(asked.id, outcome, version, order, blob, required, replicas, 0, "", [], b"")
    code, text, identity, details = failure(asked.id, result, retry_ms)[1:]
    return ForwardDone(asked.id, 0, b"", b"", b"", 0, [], code, text, details, identity)


def _result(answer: ForwardDone) -> Result:
    if answer.code:
        identity = Identity.decode(answer.identity) if answer.identity else None
        return revive(answer.code, answer.text, identity, answer.details)
    record = Record(answer.record) if answer.record else None
    return Done(answer.outcome, answer.version, answer.order, record, answer.required, answer.replicas)
