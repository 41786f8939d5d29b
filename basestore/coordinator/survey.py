"""Survey: what every member says of itself and of a page of partitions, sent to the client.

The answer has all that was said, as it was said. It refuses to judge: what that proves is worked out at the
client's (`results.cluster_view` and those above it).
"""

from functools import partial

from basestore.cluster.outbox import Outbox
from basestore.coordinator.admission import SURVEY_BYTES, admit_survey
from basestore.coordinator.context import Context
from basestore.coordinator.gather import Gather
from basestore.instant import Instant
from basestore.protocol.codec import encode
from basestore.protocol.operator import NEVER, PAGE_PARTITIONS, Inspect, Survey, Surveyed, Told, Unheard


def survey(context: Context, outbox: Outbox, request: Survey, now: Instant) -> None:
    """Begin; InvalidRequest or RequestFailed when nothing was begun."""
    first, total = admit_survey(context, outbox, request, now)
    gather = Gather(context, outbox, SURVEY_BYTES, partial(_surveyed, context, request, first, total))
    count = min(total, PAGE_PARTITIONS)
    message = Inspect(
        context.operations.issue(gather), first, count, request.within_ms, request.full, request.accept_loss
    )
    gather.ask(message, max(1, min(request.timeout_ms, context.timeout_ms_max)), now)


def _surveyed(
    context: Context, request: Survey, first: int, total: int, gather: Gather, now: Instant
) -> Surveyed:
    after = first + PAGE_PARTITIONS
    more = total > 1 and after < context.placement.partitions
    told = [Told(number, encode([answer])) for number, answer in sorted(gather.answers.items())]
    unheard = [Unheard(*miss) for miss in sorted(gather.reasons.items())]
    return Surveyed(request.id, total, after if more else NEVER, told, unheard)
