"""Explain: what every member knows of one key.

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
from basestore.protocol.operator import DOWN, Explain, Explained, Trace, Traced
from repair.rule import Rule


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
    hints = [
        word
        for member, answer in sorted(answers.items())
        for target, sort in zip(answer.hints[::2], answer.hints[1::2], strict=True)
        for word in (member, target, sort)
    ]
    best = max(answers.values(), key=lambda answer: answer.stable, default=None)
    return Explained(
        request.id,
        rule.value,
        now.wall_ms,
        replicas,
        [answers[replica].state if replica in answers else DOWN for replica in replicas],
        [answers[replica].record if replica in answers else b"" for replica in replicas],
        hints,
        [head for _, answer in sorted(answers.items()) for head in answer.heads],
        sorted(gather.reasons),
        [gather.reasons[member] for member in sorted(gather.reasons)],
        [answers[replica].stable if replica in answers else 0 for replica in replicas],
        best.reach if best is not None else [],
    )
