"""Bugs of proofs: closed stamps, certificates, claims, stable stamps, and what is built on them."""

from typing import Any
from unittest.mock import patch

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.anti_entropy.exchange import Exchange
from basestore.anti_entropy.exchanges import Exchanges
from basestore.anti_entropy.maintenance import Maintenance
from basestore.cluster.clock_watch import ClockWatch
from basestore.handoff.hints import Hints
from basestore.repair.certificate import Claim
from basestore.repair.exchange import Snapshot
from basestore.repair.runs import Runs
from basestore.repair.version import is_tombstone
from basestore.replica import replica as replicas
from basestore.replica import summaries
from basestore.replica.replica import HINTED_DIRECT, Replica
from basestore.storage import keyspace
from tests.simulation.mutations.registry import STALE, mutant

PURGED = STALE | {"purges", "stable stamps", "convergence", "receipts", "converged", "final", "staleness"}
CLOSED = PURGED | {"closed", "late hints"}


@mutant("closed is not inherited by a recovering store", CLOSED, ClosedStamps, "inherit", "haste", "stores")
def _inherit_nothing(self: Any, partition: int, closed: int) -> None:
    pass


_adopt = Certificates.adopt


@mutant("a stable stamp told before it is durable", {"told"} | PURGED, Certificates, "adopt", "haste")
def _show_at_once(self: Any, partition: int, stable: int) -> None:
    _adopt(self, partition, stable)
    self._summaries.show(partition, stable)


@mutant("a stable stamp that does not close", CLOSED, Certificates, "adopt", "haste")
def _stay_open(self: Any, partition: int, stable: int) -> None:
    closed = self._summaries.of[partition].closed
    _adopt(self, partition, stable)
    self._summaries.of[partition].closed = closed


_distrust = Exchanges._distrust


@mutant(
    "a mismatch keeps its certificate", {"mismatches", *PURGED}, Exchanges, "_distrust", "spoil",
    model="certificates survive unequal roots",
)  # fmt: skip
def _keep_proof(self: Any, exchange: Any) -> None:
    with patch.object(Certificates, "withdraw", lambda *_: None):
        _distrust(self, exchange)


_close = ClosedStamps.close


@mutant("closed by a clock that nobody has agreed with", CLOSED, ClosedStamps, "close", "clocks")
def _sure(self: Any, partitions: Any, now: Any) -> list[int]:
    with patch.object(ClockWatch, "sure", lambda *_: True):
        watch = self._peers.clock
        confirmed, watch.confirmed = watch.confirmed, True
        told = _close(self, partitions, now)
        watch.confirmed = confirmed
    return told


@mutant("closed above an only copy", {"late hints", "closed"}, ClosedStamps, "_least_only_copy", "haste")
def _no_only_copies(self: Any, partition: int, now: Any) -> int:
    return (1 << 64) - 1


@mutant(
    "closed before all have named their only copies",
    {"late hints", "closed"},
    ClosedStamps,
    "_has_listened",
    "haste",
)
def _listen_to_nobody(self: Any, now: Any) -> bool:
    return True


_only_copies = Hints.only_copies


@mutant("only copies named with too great a stamp", {"late hints", "closed"}, Hints, "only_copies", "haste")
def _named_late(self: Any, *, late: bool = False) -> list[int]:
    named = _only_copies(self, late=late)
    return [each + (2000 << 16) * (at % 2) for at, each in enumerate(named)]


@mutant(
    "only copies of one partition alone are named", {"late hints", "closed"}, Hints, "only_copies", "exiled"
)
def _named_of_one(self: Any, *, late: bool = False) -> list[int]:
    return _only_copies(self, late=late)[:2]


_proven = Exchange._proven


@mutant(
    "closed at the end of an exchange, not at its snapshot", CLOSED, Exchange, "_proven", "haste",
    model="closed stamp of the session's end",
)  # fmt: skip
def _closed_late(self: Any, kind: str, snapshot: Any, sequence: int, end: int = 0) -> Any:
    (snapshot.closed,) = self._local.closed_stamps.close((self.partition,), self.now)
    return _proven(self, kind, snapshot, sequence, end)


@mutant(
    "a certificate of a store that is gone counts",
    PURGED | {"mismatches"},
    Certificates,
    "certificates",
    "stores",
    model="certificates with lost stores",
)
def _of_any_store(self: Any, partition: int) -> Any:
    return {member: held[2] for member, held in self._certificates[partition].items()}


_hear_claims = Certificates.hear_claims


@mutant(
    "a claim about other stores is believed", PURGED, Certificates, "hear_claims", "stores", "ambushes",
    model="claims of any tag",
)  # fmt: skip
def _believe_all(self: Any, partition: int, told: list[int]) -> None:
    tag, claims = self._tag(partition), self._claims[partition]
    for number, closed in zip(told[::3], told[1::3], strict=True):
        member = self._peers.index_of.get(number, -1)
        if member in self.others[partition]:
            known = claims.get(member)
            claims[member] = Claim(max(closed, known.closed if known else 0), tag)


@mutant(
    "a claim is raised by who hears it", PURGED, Certificates, "hear_claims", "haste",
    model="stable from the own row only",
)  # fmt: skip
def _raise_claims(self: Any, partition: int, told: list[int]) -> None:
    _hear_claims(self, partition, [n + (1500 << 16) * (at % 3 == 1) for at, n in enumerate(told)])


@mutant(
    "a proof that was withdrawn still counts for recovery",
    STALE | {"converged"},
    Certificates,
    "last_exchange",
    "relapse",
)
def _still_recovered(self: Any, partition: int, member: int) -> Any:
    return self._last_exchanges.get((partition, member))


_remember = Certificates.remember


@mutant("known runs never shrink", {"convergence", "mismatches"}, Certificates, "remember", "lopsided")
def _remember_all(
    self: Any, partition: int, member: int, begun_s: float, *, peer_whole: bool, end: int = 0,
    taken: Runs | None = None,
) -> None:  # fmt: skip
    # As one run: those of earlier exchanges are below every later certificate, and change nothing.
    before = self._last_exchanges.get((partition, member))
    runs = [*(before.taken.get(0, []) if before is not None else []), *(taken or {}).get(0, [])]
    taken = {0: [(min(runs)[0], max(runs)[1])]} if runs else taken
    _remember(self, partition, member, begun_s, peer_whole=peer_whole, end=end, taken=taken)


@mutant("a snapshot has what came after it", {"mismatches", "convergence"}, Snapshot, "had")
def _had_now(self: Any, row: bytes, head: bytes) -> bytes:
    return head


@mutant(
    "an outlived store keeps what it has",
    {"deletes", *PURGED, "mismatches"},
    Maintenance,
    "_empty",
    "unheard",
)
def _keep_rows(self: Any, rows: int, busy: Any) -> int | None:
    self._emptied.update(self._summaries.of)
    return None


@mutant("a line that fits no record purges it", {"purges", *STALE}, Replica, "purge", "spoilt")
def _purge_by_the_line(self: Any, partition: int, upto: int, most: int) -> tuple[int, int]:
    summary = self.summaries.of[partition]
    lines = self.summaries.due(partition, upto, most)
    for _, row in lines:
        self.drop(row)
    if len(lines) < most:
        summary.purged = upto
    return len(lines), len(lines)


_due_of_stored = summaries.due_of_stored


@mutant("an expired record is due by its own stamp", {"purges", *STALE}, replicas, "due_of_stored")
def _due_at_once(stored: bytes) -> int:
    return int.from_bytes(stored[:8]) if _due_of_stored(stored) else 0


_apply = Replica.apply


@mutant("a hint that is a first delivery is taken below closed", CLOSED, Replica, "apply", "haste")
def _hints_never_late(self: Any, outbox: Any, message: Any, wall_ms: int) -> None:
    summary = self.summaries.of.get(int.from_bytes(message.row[:2]))
    if summary is None or message.way != HINTED_DIRECT:
        _apply(self, outbox, message, wall_ms)
        return
    closed, summary.closed = summary.closed, 0
    _apply(self, outbox, message, wall_ms)
    summary.closed = closed


_drop = Replica.drop


@mutant("a purge leaves what expires", {"convergence", "mismatches", "purges"}, Replica, "drop")
def _drop_tombstones(self: Any, row: bytes, *, due: bool = False) -> None:
    stored = self._group_commit.get(keyspace.record(row))
    if stored is None or is_tombstone(stored) or self.summaries is None:
        _drop(self, row, due=due)
