"""Bugs of anti-entropy: exchanges, certificates, the stamps that follow, and purge."""

from typing import Any

from basestore.anti_entropy import certificates
from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.comparison import Comparison
from basestore.anti_entropy.maintenance import Maintenance
from basestore.anti_entropy.scheduler import Scheduler
from basestore.protocol.replication import DIRECT
from basestore.repair.exchange import Completeness, Snapshot
from basestore.replica.replica import HINTED_DIRECT, Replica
from basestore.replica.summaries import Summaries
from tests.simulation.mutations.registry import STALE, mutant

PURGED = STALE | {"purges", "stable stamps", "convergence", "receipts"}


@mutant("the stable stamp of one's own row alone", PURGED, certificates, "stable_stamp", "haste")
def _own_row(own: int, *others: Any) -> int:
    return own


_apply = Replica.apply


@mutant("a direct write that comes too late is taken", {"closed", *PURGED}, Replica, "apply", "haste")
def _never_closed(self: Any, outbox: Any, message: Any, wall_ms: int) -> None:
    summary = self.summaries.of.get(int.from_bytes(message.row[:2]))
    if summary is None or message.way not in (DIRECT, HINTED_DIRECT):
        _apply(self, outbox, message, wall_ms)
        return
    closed, summary.closed = summary.closed, 0
    _apply(self, outbox, message, wall_ms)
    summary.closed = closed


@mutant("a copy of what was purged is taken", PURGED, Replica, "apply", "haste")
def _never_settled(self: Any, outbox: Any, message: Any, wall_ms: int) -> None:
    summary = self.summaries.of.get(int.from_bytes(message.row[:2]))
    if summary is None or message.way in (DIRECT, HINTED_DIRECT):
        _apply(self, outbox, message, wall_ms)
        return
    stable, summary.stable = summary.stable, 0
    _apply(self, outbox, message, wall_ms)
    summary.stable = stable


@mutant("what is overwritten in an exchange is not kept", {"mismatches"}, Snapshot, "note")
def _keep_nothing(self: Any, row: bytes, head: bytes, sequence: int) -> None:
    pass


@mutant("purge a little too early", PURGED, Summaries, "due")
def _due_soon(self: Any, partition: int, upto: int, most: int) -> Any:
    return _due(self, partition, upto + (3000 << 16) if upto else 0, most)


_due = Summaries.due


@mutant(
    "a forgetful store pushes what was purged", PURGED, Comparison, "compare", "stores",
    model="forgetful replicas drop nothing",
)  # fmt: skip
def _push_all(self: Any, listing: Any, purged: int) -> Any:
    return _compare(self, listing, 0)


_compare = Comparison.compare


@mutant("exchanges that certify and bring nothing", {"convergence", *PURGED}, Replica, "take_over")
def _take_nothing(self: Any, row: bytes, record: Any) -> None:
    pass


_tick = Scheduler.tick


@mutant("no exchanges but for forgetful stores", {"convergence"}, Scheduler, "tick")
def _no_rounds(self: Any, now: Any, brownout: int = 0) -> None:
    self.due_s = dict.fromkeys(self.due_s, now.monotonic + 1e9)
    _tick(self, now, brownout)


@mutant(
    "of two stores in doubt neither has purged what the other holds", PURGED | {"recovery"}, Completeness,
    "purged", "doubtful",
)  # fmt: skip
def _purged_by_the_whole(self: Any, stable: int) -> int:
    return 0 if self.among_forgetful else _purged(self, stable)


_purged = Completeness.purged
_adopt = Certificates.adopt


@mutant(
    "a store in doubt is complete up to each stable stamp that it hears", PURGED, Certificates, "adopt",
    "doubtful",
)  # fmt: skip
def _complete_by_hearsay(self: Any, partition: int, stable: int) -> None:
    summary = self._summaries.of[partition]
    kept = summary.kept
    _adopt(self, partition, stable)
    summary.kept = kept


@mutant(
    "ghosts go before anything of the other side is here", PURGED, Comparison, "_compare_digests", "doubtful",
    model="ghosts dropped before anything comes",
)  # fmt: skip
def _lay_at_once(self: Any, leaves: Any, digests: bytes, purged: int) -> Any:
    found = yield from _compare_digests(self, leaves, digests, purged)
    self.lay_ghosts()
    return found


_compare_digests = Comparison._compare_digests


@mutant(
    "a store in doubt purges up to any stable stamp", PURGED | {"recovery"}, Maintenance, "purgeable",
    "doubtful",
)  # fmt: skip
def _purge_by_hearsay(self: Any, partition: int) -> int:
    stable: int = self._summaries.of[partition].stable
    return stable
