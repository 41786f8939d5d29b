"""Rest: how soon a node needs its next tick.

Most of what a tick does is to look whether something is to be done. While nothing is under way (no request,
no exchange, nothing that is not yet durable, no hint to deliver, nothing to scrub, heal or recover) it is
enough to look now and then: often enough for heartbeats, and for a node not to take itself for one that was
paused. Whoever drives the node asks after every step, for anything that comes in may end its rest. Changes
nothing.
"""

from basestore.anti_entropy.scheduler import Scheduler
from basestore.cluster.operations import Operations
from basestore.handoff.delivery import Delivery
from basestore.handoff.late_hints import LateHints
from basestore.intake.intake import Intake
from basestore.replica.group_commit import GroupCommit

TICK_S = 0.05
RESTING_TICK_S = 0.45
RESTING_EARLY_S = 0.1


class Rest:
    """Of one node. `ticked_s`: when it was last ticked."""

    def __init__(
        self,
        operations: Operations,
        group_commit: GroupCommit,
        scheduler: Scheduler,
        delivery: Delivery,
        late_hints: LateHints,
        intake: Intake,
    ) -> None:
        self._operations = operations
        self._group_commit = group_commit
        self._scheduler = scheduler
        self._delivery = delivery
        self._late_hints = late_hints
        self._intake = intake
        self.ticked_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        # The first is what a node under load answers by: this is asked after each of its steps.
        return (
            self._operations.count > 0
            or not self._intake.at_rest
            or self._group_commit.full
            or self._group_commit.sequence != self._group_commit.durable_sequence
            or not (self._scheduler.at_rest and self._delivery.at_rest and self._late_hints.at_rest)
        )

    def next_tick(self) -> tuple[float, float]:
        """When the next tick is due, and from when on it may come, if the node takes a step anyway."""
        if self.busy:
            return self.ticked_s + TICK_S, self.ticked_s + TICK_S
        due_s = self.ticked_s + RESTING_TICK_S
        return due_s, due_s - RESTING_EARLY_S
