"""Bugs of admission: a refusal that is none, and what is kept for nobody."""

import math
from contextlib import suppress
from typing import Any
from unittest.mock import patch

from basestore.cluster.outbox import Outbox
from basestore.errors import ClockSkew
from basestore.intake import fair_queue
from basestore.intake.caller import Caller
from basestore.intake.intake import Intake
from basestore.intake.room import Room
from basestore.intake.windows import Windows
from basestore.protocol.envelopes import ADMIN, BULK, DEFERRABLE, READ, WRITE, Sealed
from basestore.protocol.limits import ProtocolError
from basestore.repair.clock import NotYet
from basestore.transport.window import Window
from tests.simulation.mutations.registry import MUTANTS, Mutant, mutant, of

_refuse = Intake._refuse


@mutant("a write is shed after it was stamped", {"refusals"}, Intake, "_refuse", "overload")
def _stamp_and_refuse(self: Any, waiting: Any, now: Any) -> None:
    if waiting.frame.kind == WRITE:
        with suppress(NotYet, ClockSkew):
            self._begin_requests.__self__.context.stamper.stamps([0] * waiting.frame.asks, now)
    _refuse(self, waiting, now)


_overdue = fair_queue.FairQueue.overdue


@mutant("a frame is opened before it is shed", {"refusals"}, fair_queue.FairQueue, "overdue", "overload")
def _overdue_and_opened(self: Any, now_s: float) -> Any:
    for waiting in _overdue(self, now_s):
        if not waiting.frame.kind & DEFERRABLE:
            with suppress(ProtocolError):
                waiting.frame.open(waiting.caller.decoder)
        yield waiting


@mutant("a refusal that was done", {"refusals", "phantoms"}, Intake, "_refuse", "overload")
def _do_and_refuse(self: Any, waiting: Any, now: Any) -> None:
    if waiting.frame.kind == WRITE:
        with suppress(ProtocolError):
            self._begin_requests(Outbox(set()), waiting.frame.sealed.open(waiting.caller.decoder), now)
    _refuse(self, waiting, now)


@mutant("an envelope is not held against its frame", {"envelopes"}, Sealed, "open", "overload")
def _open_whatever(self: Any, decoder: Any) -> Any:
    return decoder.decode(self.payload)


_lose = Caller.lose


@mutant("a refusal counts fewer than were refused", {"deadlines"}, Caller, "lose", "overload")
def _lose_fewer(self: Any, first: int, asks: int) -> None:
    _lose(self, first, max(1, asks - 1))


@mutant("a window never grows", {"windows"}, Window, "answered", "overload")
def _stay_narrow(self: Any, count: int) -> None:
    pass


_changed = Windows.changed


@mutant("a node never says that there is more room again", {"windows"}, Windows, "changed", "overload")
def _never_more(self: Any, caller: Any) -> Any:
    return _changed(self, caller) if self.of(caller) < caller.window else None


@mutant("no places are kept for operators", {"admin"}, Room, "next", "overload")
def _next_of_all(self: Any) -> Any:
    for kind in (READ, WRITE, BULK, ADMIN):
        queue = self._queues[kind]
        if queue.asks and self._requests < self._bound_of(kind):
            taken = queue.take(self._may_enter)
            if taken is not None:
                return taken
    return None


_settle = Intake.settle


@mutant("of two answers one gives its place back", {"under way"}, Intake, "settle", "overload")
def _settle_less(self: Any) -> None:
    for caller in self._asked:
        for lane in caller.lanes.values():
            lane.settled += lane.answered - lane.settled > 1
    _settle(self)


MUTANTS.append(
    Mutant(
        "a deadline is not looked at before a frame is opened",
        {"late frames"},
        lambda: [
            patch.object(fair_queue, "TIME_SHARE_MAX", math.inf),
        ],
        of("overload"),
    )
)
