"""Explain: what every member knows of one key, asked of them all and sent to the client.

The answer says what each replica holds, which hints are kept where, and who was not heard. It decides
nothing: `results.explanation` does, at the client's. Nothing is repaired, and a damaged record is not
even noted.
"""

from functools import partial

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.placement import row_partition
from basestore.coordinator.admission import admit_explain
from basestore.coordinator.context import Context
from basestore.coordinator.gather import Gather
from basestore.instant import Instant
from basestore.protocol.operator import DOWN, Explain, Explained, KeptHint, ReplicaRow, Trace, Traced, Unheard
from basestore.repair.rule import Rule


def explain(context: Context, outbox: Outbox, request: Explain, now: Instant) -> None:
    """Begin: the replicas hold the row, any member may keep a hint. InvalidRequest or RequestFailed when
    nothing was begun."""
    row, rule = admit_explain(context, outbox, request, now)
    held = len(row) + SMALL_BYTES * len(context.peers.all)
    gather = Gather(context, outbox, held, partial(_explained, context, request, row, rule))
    message = Trace(context.operations.issue(gather), row)
    gather.ask(message, request.timeout_ms, now, SMALL_BYTES + len(row))


def _explained(
    context: Context, request: Explain, row: bytes, rule: Rule, gather: Gather, now: Instant
) -> Explained:
    number_of = context.peers.number_of
    replicas = [number_of[replica] for replica in context.placement.replicas[row_partition(row)]]
    answers: dict[int, Traced] = gather.answers
    hints = [KeptHint(keeper, *hint) for keeper, answer in sorted(answers.items()) for hint in answer.hints]
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
    return Explained(request.id, rule.value, time_ms, told, hints, unheard, reach, lost)
