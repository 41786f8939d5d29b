"""Node requests: what an operator asks of this very node, and the words that go with it.

    Status      how it stands; with `as_is` its store, which may be a copy, is to be taken as it is
    Counters    what it has counted
    HintsOf     what it keeps for others
    Replay      the same, and deliver it now; with `late` also write late hints anew
    FinishUpgrade   that all members are upgraded: the feature level rises, or what hinders it is named

All are answered at once, but for the level, which must be durable first. Owns none of what they are about.
"""

from collections.abc import Callable, Mapping
from typing import Any

from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.outbox import Outbox, weight
from basestore.coordinator.admission import disk_behind
from basestore.coordinator.context import Context, refuse
from basestore.handoff.delivery import Delivery
from basestore.handoff.hints import Hints
from basestore.handoff.late_hints import LateHints
from basestore.instant import Instant
from basestore.observe import status
from basestore.observe.report import Report
from basestore.protocol.operator import Counters, FinishUpgrade, HintsOf, Replay, Status, UpgradeFinished
from basestore.replica.store_facts import LEVEL


class NodeRequests:
    """Of one node. `requests`: by the class of what a client asks."""

    def __init__(
        self,
        context: Context,
        report: Report,
        recovery: Recovery,
        hints: Hints,
        delivery: Delivery,
        late_hints: LateHints,
    ) -> None:
        self._context, self._report, self._recovery = context, report, recovery
        self._hints, self._delivery, self._late_hints = hints, delivery, late_hints
        self.requests: Mapping[type, Callable[[Outbox, Any, Instant], None]] = {
            Status: self._status,
            Counters: self._counters,
            HintsOf: self._hints_of,
            Replay: self._replay,
            FinishUpgrade: self._finish_upgrade,
        }

    def _status(self, outbox: Outbox, request: Status, now: Instant) -> None:
        if request.as_is:
            self._recovery.take_as_is(now)
        told = status.answer(request.id, self._report.facts())
        outbox.put(told, weight(told))

    def _counters(self, outbox: Outbox, request: Counters, now: Instant) -> None:
        told = status.answer(request.id, self._report.counters(now))
        outbox.put(told, weight(told))

    def _hints_of(self, outbox: Outbox, request: HintsOf | Replay, now: Instant) -> None:
        peers, metrics = self._context.peers, self._context.metrics
        name = peers.all[peers.me].name
        piles = status.hint_piles(request.id, name, self._hints, peers, metrics, now)
        outbox.put(piles, weight(piles))

    def _replay(self, outbox: Outbox, request: Replay, now: Instant) -> None:
        if self._context.group_commit.full:  # each delivery stages rows
            refuse(self._context, outbox, request.id, disk_behind())
            return
        self._hints_of(outbox, request, now)
        self._delivery.replay(now)
        if request.late:
            self._late_hints.begin(now)

    def _finish_upgrade(self, outbox: Outbox, request: FinishUpgrade, now: Instant) -> None:
        context, level = self._context, self._context.feature_level
        if context.group_commit.full:
            refuse(self._context, outbox, request.id, disk_behind())
            return
        told = UpgradeFinished(request.id, *level.finish())
        context.group_commit.reply(outbox, told, LEVEL, weight(told), surely=True)
