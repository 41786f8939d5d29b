"""Explain: what every member knows of one key, asked of them all and sent to the client.

The answer says what each replica holds, of a register also what it has promised and accepted, which hints are
kept where, and who was not heard. It decides nothing: `results.weighing` does, at the client's. Nothing is
repaired, and a damaged record is not even noted.

The same is asked before a session is told that what it has seen is gone (`look_for`). For a version that is
on no replica may still be on its way: a member may keep a hint of it, one that comes too late, or one that it
could not deliver, for it was cut off.

    all answer, and nobody keeps such a hint    it is gone, as the read has found
    a hint is kept of it, or of a newer one     it may come back: who keeps it is named
    a member does not answer                    nobody can tell: that one is named

Nobody need be asked of a version that a replica took, that is stable by now, and that went with no disk: all
replicas have held it, or a better one. Where none holds anything that was purged. Of what was written at ANY,
and taken by no replica as far as the session knows, none of them can say so much.
"""

from collections.abc import Mapping
from functools import partial

from basestore.cluster.outbox import SMALL_BYTES, Outbox, weight
from basestore.cluster.peers import Peers
from basestore.coordinator.admission import admit_explain
from basestore.coordinator.context import Context
from basestore.coordinator.finding import Finding, gone
from basestore.coordinator.gather import Conclude, Gather
from basestore.coordinator.quorum_read import Report
from basestore.errors import ReadTimeout, RequestFailed, VersionLost
from basestore.instant import Instant
from basestore.intake.figures import Door
from basestore.protocol.client import UNTAKEN
from basestore.protocol.operator import (
    DOWN,
    LATE,
    NOT_TOLD,
    Explain,
    Explained,
    KeptHint,
    ReplicaRow,
    Trace,
    Traced,
    Unheard,
)
from basestore.protocol.replication import AcceptorRow
from basestore.repair.read_repair import reaches
from basestore.repair.rule import Rule
from basestore.repair.version import HEAD_BYTES, VERSION_BYTES, Version
from basestore.rows import row_partition

_LATE = (
    ", which came too late. See `basestore hints`; an operator decides what becomes of it: `basestore hints "
    "replay --late` writes it anew, unless what is held is newer"
)
_ON_ITS_WAY = ". Read again once that is delivered (see `basestore hints`)"


def explain(context: Context, outbox: Outbox, request: Explain, now: Instant) -> None:
    """Begin: the replicas hold the row, any member may keep a hint. InvalidRequest or RequestFailed when
    nothing was begun."""
    row, rule = admit_explain(context, outbox, request, now)
    door = context.load.door(outbox)
    conclude = partial(_explained, context, outbox, request, row, rule, door)
    _trace(context, row, conclude, request.timeout_ms, now)


def _trace(context: Context, row: bytes, conclude: Conclude, timeout_ms: int, now: Instant) -> None:
    """Ask every member what it knows of a row."""
    gather = Gather(context, len(row) + SMALL_BYTES * len(context.peers.all), conclude)
    message = Trace(context.operations.issue(gather), row)
    gather.ask(message, timeout_ms, now, SMALL_BYTES + len(row))


def _explained(
    context: Context, outbox: Outbox, request: Explain, row: bytes, rule: Rule, door: Door,
    gather: Gather, now: Instant,
) -> None:  # fmt: skip
    number_of = context.peers.number_of
    replicas = [number_of[replica] for replica in context.placement.replicas[row_partition(row)]]
    answers: dict[int, Traced] = gather.answers
    hints = [KeptHint(keeper, *hint) for keeper, answer in sorted(answers.items()) for hint in answer.hints]
    deferred = b"".join(
        answer.deferred or bytes((NOT_TOLD,)) * len(answer.hints) for _, answer in sorted(answers.items())
    )
    told = [
        ReplicaRow(number, answers[number].state, answers[number].record, answers[number].stable)
        if number in answers
        else ReplicaRow(number, DOWN, b"", 0)
        for number in replicas
    ]
    unheard = [Unheard(*miss) for miss in sorted(gather.reasons.items())]
    best = max(answers.values(), key=lambda answer: answer.stable, default=None)
    reach = best.reach if best is not None else []
    time_ms = context.peers.clock.about_ms(now)
    lost = max((answer.lost for answer in answers.values()), default=0)
    agreeing = _agreeing(context, row, answers) if rule.serial else ()
    answer = Explained(
        request.id, rule.value, time_ms, told, hints, unheard, reach, lost, *door, deferred, *agreeing
    )  # fmt: skip
    outbox.put(answer, weight(answer))


def _agreeing(
    context: Context, row: bytes, answers: Mapping[int, Traced]
) -> tuple[list[AcceptorRow], list[int], list[int], int]:
    """What acceptors have said of a row of a register, and who must agree on it."""
    number_of, placement, partition = context.peers.number_of, context.placement, row_partition(row)
    numbers = [number_of[replica] for replica in placement.replicas[partition]]
    acceptors = [
        each._replace(number=number)
        for number in numbers
        if number in answers
        for each in answers[number].acceptor[:1]
    ]
    old, new = placement.agreeing(partition)
    return acceptors, [number_of[at] for at in old], [number_of[at] for at in new], placement.since(partition)


def may_come(floor: bytes, result: Finding | RequestFailed) -> bool:
    """Whether a read has found what was seen gone, though it may still be on its way."""
    purged = isinstance(result, Finding) and result.record is None
    return isinstance(result, VersionLost) or (purged and floor[VERSION_BYTES:] == UNTAKEN)


def look_for(
    context: Context, row: bytes, rule: Rule, floor: bytes, result: Finding | RequestFailed,
    deadline: float, report: Report, now: Instant,
) -> None:  # fmt: skip
    """Report the result of a read that has found `floor` gone, or why that cannot be told."""

    def conclude(gather: Gather, now: Instant) -> None:
        doubt = _doubt(rule, floor, gather, context.peers)
        if doubt:
            seen = f"the version {Version.decode(floor)} that this session has seen"
            members = len(context.peers.present)
            text = f"whether {seen} is gone cannot be told: {doubt}"
            report(ReadTimeout(text, len(gather.answers), members, None), now)
        else:
            # It seems to be purged: but no replica is known to have taken it (`may_come`).
            forgotten = None if isinstance(result, RequestFailed) else _forgotten(floor, gather)
            report(forgotten or result, now)

    _trace(context, row, conclude, max(1, int((deadline - now.monotonic) * 1e3)), now)


def _forgotten(floor: bytes, gather: Gather) -> VersionLost | None:
    """That it may have been lost with hints that are gone."""
    seen = Version.decode(floor)
    upto = max((answer.hints_upto for answer in gather.answers.values()), default=0)
    return gone(seen) if seen.stamp <= upto else None


def _doubt(rule: Rule, floor: bytes, gather: Gather, peers: Peers) -> str:
    """Why it may still be somewhere, and what to do; empty when it is nowhere."""
    names = {peer.number: peer.name for peer in peers.all}
    answers: dict[int, Traced] = gather.answers
    for number, answer in sorted(answers.items()):
        if reaches(rule, answer.record[:HEAD_BYTES], floor):
            return f"{names[number]} has it by now. Read again"
        for hint in answer.hints:
            if reaches(rule, hint.head, floor):
                return f"{names[number]} keeps a hint of it{_LATE if hint.sort & LATE else _ON_ITS_WAY}"
    for number, reason in sorted(gather.reasons.items()):
        return (
            f"{names[number]}, which may keep a hint of it, does not answer ({reason}). See `basestore "
            f"status`, and read again when it answers, or without the session"
        )
    return ""
