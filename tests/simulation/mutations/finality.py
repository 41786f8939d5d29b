"""Bugs of finality, staleness and expiry: what a reader is told of a value beside the value."""

from typing import Any

from basestore.coordinator import attempts, quorum_read
from basestore.coordinator.get import ClientGet
from basestore.coordinator.quorum_read import QuorumRead
from basestore.protocol.client import FINAL, PROVISIONAL
from basestore.repair import read_repair
from basestore.repair.rule import Rule
from basestore.repair.version import Record
from basestore.replica.replica import Replica
from tests.simulation.mutations.registry import STALE, mutant

UNCERTAIN = {"final", "two winners", "staleness", *STALE}


@mutant("a receipt says final as soon as any stable stamp is known", UNCERTAIN, attempts, "finality")
def _final_by_any(version: bytes, stable: int) -> int:
    return FINAL if stable else PROVISIONAL


_read = Replica.read


@mutant("a read says final by another replica's stamp", UNCERTAIN | {"told"}, Replica, "read", "haste")
def _own_stamp(self: Any, outbox: Any, message: Any) -> None:
    """It tells the stamp that it alone has closed."""
    summary = self.summaries.of.get(int.from_bytes(message.row[:2]))
    if summary is None:
        _read(self, outbox, message)
        return
    shown, summary.shown = summary.shown, summary.closed
    _read(self, outbox, message)
    summary.shown = shown


_note_stable = QuorumRead._note_stable


@mutant("a stable stamp is taken for a later one", UNCERTAIN, QuorumRead, "_note_stable")
def _stable_soon(self: Any, member: int, stable: int) -> None:
    _note_stable(self, member, stable + (3000 << 16))


@mutant(
    "any stable stamp confirms a tombstone that this replica never had",
    STALE | {"deletes", "shown"}, quorum_read, "plan", "tombstones",
)  # fmt: skip
def _any_stamp_confirms(rule: Rule, replies: Any, stables: Any = None, due: Any = lambda _: 0) -> Any:
    return read_repair.plan(rule, replies, dict.fromkeys(stables or (), (1 << 64) - 1), due)


_report = ClientGet._report


@mutant("a bound on staleness that nobody looks at", {"staleness"}, ClientGet, "_report")
def _never_escalate(self: Any, result: Any, now: Any) -> None:
    request, self._request = self._request, self._request._replace(stale_ms_max=0)
    _report(self, result, now)
    self._request = request


_live = Record.live


@mutant("an expired value is shown", {"expiry", "phantoms", "scans"}, Record, "live")
def _live_for_ever(self: Any, wall_ms: int) -> bool:
    return not self.tombstone


@mutant("a value is gone before it expires", {"expiry", *STALE}, Record, "live")
def _dies_early(self: Any, wall_ms: int) -> bool:
    return _live(self, wall_ms + 300)
