"""Bugs of versions: stamps, ties, repetitions, the rules."""

from typing import Any
from unittest.mock import patch

from basestore import node
from basestore.cluster.outbox import Outbox
from basestore.coordinator import attempts
from basestore.coordinator.attempts import Begin, Content, weigh
from basestore.coordinator.quorum_write import QuorumWrite
from basestore.coordinator.stamper import Stamper
from basestore.errors import ClockSkew, OutcomeUnknown
from basestore.protocol.replication import DIRECT, Apply
from basestore.repair.clock import HybridClock, NotYet
from basestore.repair.rule import Rule
from basestore.repair.version import HEAD_BYTES, Record, Version, is_tombstone
from basestore.replica.replica import Replica
from tests.simulation.mutations.registry import MUTANTS, STALE, Mutant, Patch, mutant


@mutant("a stamp used again", {"versions", "linearizable", "convergence"}, Stamper, "stamp")
def _same_stamp(self: Any, row: bytes, now: Any, after: int = 0) -> Version:
    self.check_clock(now)
    return Version(max(self._clock.last, now.wall_ms << 16), self._origin, 1)


def _stamps_of_an_earlier_life() -> list[Patch]:
    class Unfresh(HybridClock):
        def raise_ceiling(self, ceiling: int) -> None:
            super().raise_ceiling(1 << 63)

    def stamp(self: Any, row: bytes, now: Any, after: int = 0) -> Version:
        self.check_clock(now)
        return Version(self._clock.tick(now.wall_ms), self._origin >> 48 << 48, 1)

    return [
        patch.object(node, "stored_ceiling", lambda engine, closed: 0),
        patch.object(node, "HybridClock", Unfresh),
        patch.object(Stamper, "stamp", stamp),
    ]


MUTANTS.append(
    Mutant(
        "a stamp used again after a restart",
        {"versions", "linearizable", "convergence"},
        _stamps_of_an_earlier_life,
        lambda plan: plan.clocks_jump and len(plan.machines) == 1,  # nobody else tells it the time
    )
)


@mutant("a tie that nobody wins", STALE | {"convergence", "versions"}, Rule, "beats")
def _by_stamp_only(self: Any, challenger: bytes, holder: bytes) -> bool:
    if self is Rule.LAST_WRITE_WINS:
        return challenger[:7] > holder[:7]
    return challenger[:7] < holder[:7]


@mutant("the latest arrival wins", STALE | {"convergence", "receipts"}, Rule, "beats")
def _whoever_comes(self: Any, challenger: bytes, holder: bytes) -> bool:
    return challenger != holder


@mutant("a retry executed anew", {"versions"}, QuorumWrite, "begin")
def _stamp_anew(self: Any, repeated: Any, now: Any, *, again: bool = False) -> None:
    _begin(self, None, now, again=again)


@mutant("first-write-wins without reading first", {"two winners"}, QuorumWrite, "read_first")
def _write_first(self: Any, repeated: Any, now: Any) -> None:
    if repeated is None:
        self.begin(None, now)
    else:  # or it would be found by what becomes of repeated writes
        _read_first(self, repeated, now)


_read_first = QuorumWrite.read_first
_begin = QuorumWrite.begin


@mutant("skew is checked after the write was sent", {"phantoms"}, QuorumWrite, "begin")
def _send_then_check(self: Any, repeated: Any, now: Any, *, again: bool = False) -> None:
    try:
        self._context.stamper.check_clock(now)
    except NotYet:
        _begin(self, repeated, now, again=again)
    except ClockSkew as error:
        with patch.object(Stamper, "check_clock", lambda *_: None):
            clock = self._context.stamper._clock
            clock.raise_ceiling(max(clock.last, now.wall_ms << 16) + (1 << 16))
            _begin(self, repeated, now, again=again)
        self._fail(error, now)
    else:
        _begin(self, repeated, now, again=again)


_apply = Replica.apply


@mutant("a copy treated as direct", {"recovery", "receipts"}, Replica, "apply", "clocks")
def _all_direct(self: Any, outbox: Outbox, message: Apply, wall_ms: int) -> None:
    _apply(self, outbox, message._replace(way=DIRECT), wall_ms)


_store = Replica._store


@mutant("a tombstone dropped early", STALE | {"receipts"}, Replica, "_store")
def _drop_tombstone(self: Any, row: bytes, blob: bytes, held: bytes) -> None:
    _store(self, row, blob, held)
    if is_tombstone(blob[:HEAD_BYTES]):
        self.drop(row)


@mutant("a damaged record is served", {"phantoms", "convergence", "versions", *STALE}, Record, "intact")
def _never_damaged(self: Any, digester: Any, row: bytes) -> bool:
    return True


@mutant(
    "a repeat that is not found is stamped anew", {"versions", "repeats", *STALE}, attempts, "weigh",
)  # fmt: skip
def _begin_anew(content: Any, digester: Any, repeated: Any, found: Any) -> Any:
    weighed = weigh(content, digester, repeated, found)
    return Begin(None) if isinstance(weighed, OutcomeUnknown) else weighed


@mutant("a repeat is never found", {"repeats", "two winners", *STALE}, Content, "named")
def _never_named(self: Any, found: Record) -> bool:
    return False
