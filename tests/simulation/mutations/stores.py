"""Bugs of stores: rollbacks, wiped stores, recovery."""

from typing import Any
from unittest.mock import patch

from basestore.anti_entropy.exchanges import Exchanges
from basestore.anti_entropy.recovery import Recovery
from basestore.anti_entropy.scrub import Scrub
from basestore.cluster.outbox import Outbox
from basestore.coordinator.quorum_write import QuorumWrite
from basestore.repair.version import VERSION_BYTES, Record
from basestore.replica.admission import Admission
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.replica import Replica
from tests.simulation.mutations.registry import MUTANTS, STALE, Mutant, Patch, mutant


@mutant("a forgetful replica answers", STALE, Admission, "_serves")
def _always_serves(self: Any, *asked: Any) -> bool:
    peers = self._peers
    if self._identity.state is State.FORGETFUL and peers.alive != [True] * len(peers.alive):
        peers.set_alive(peers.me, True)
    return True


def _forgetful_counts() -> list[Patch]:
    counts = property(lambda self: True)
    return [patch.object(StoreIdentity, "counts", counts), patch.object(Admission, "_serves", _always_serves)]


MUTANTS[-1] = Mutant("a forgetful replica answers", STALE, _forgetful_counts)

_hear_remembered = StoreIdentity.hear_remembered


@mutant("a rollback goes unnoticed", STALE, StoreIdentity, "hear_remembered", "ambushes")
def _never_rolled_back(self: Any, outbox: Outbox, name: str, said: Any, fresh_store: bytes) -> bool:
    fits = said._replace(generation=next(iter(self._generations)), sequence=0)
    return _hear_remembered(self, outbox, name, fits, fresh_store)


@mutant("a wiped store passes for a new one", STALE, StoreIdentity, "hear_remembered")
def _never_knew(self: Any, outbox: Outbox, name: str, said: Any, fresh_store: bytes) -> bool:
    return _hear_remembered(self, outbox, name, said._replace(earlier=False), fresh_store)


@mutant("recovery from a single replica", STALE, Recovery, "_recovered")
def _one_will_do(self: Any, partition: int) -> bool:
    return bool(self._done(partition))


@mutant("an exchange takes over what is older", STALE | {"goes back"}, Replica, "take_over")
def _take_anything(self: Any, row: bytes, record: Record) -> None:
    held = self.mark(row)
    if held[:VERSION_BYTES] != record.head[:VERSION_BYTES]:
        self._store(row, record.blob, held)


_end = Exchanges._end


@mutant(
    "recovery counts exchanges that ended without a certificate", STALE, Exchanges, "_end", "wipe", "rollback"
)
def _ended_is_certified(self: Any, exchange: Any, reason: str = "") -> None:
    _end(self, exchange, reason)
    whole = exchange.completeness.peer_whole
    self._certificates.remember(exchange.partition, exchange.member, exchange.begun_s, peer_whole=whole)


def _count_ended(self: Any, partition: int) -> dict[int, bool]:
    certificates = self._certificates
    # private: what is remembered counts only beside a certificate, which says once more what this leaves out
    ended = {
        other: certificates._last_exchanges.get((partition, other))
        for other in certificates.others[partition]
    }
    return {other: last.peer_whole for other, last in ended.items() if last and last.begun_s >= self._begin_s}


def _ended_counts() -> list[Patch]:
    return [
        patch.object(Exchanges, "_end", _ended_is_certified),
        patch.object(Recovery, "_done", _count_ended),
    ]


MUTANTS[-1] = MUTANTS[-1]._replace(patches=_ended_counts)

_finish = Scrub.finish


@mutant("healing miscounts records", {"crash", "counts"}, Scrub, "finish", "spoil")
def _miscount(self: Any) -> int:
    summary = self._summaries.of[self.partition]
    count, live = summary.count, summary.live
    wrong = _finish(self)
    summary.count, summary.live = count, live
    return wrong


_recovery_tick = Recovery.tick


@mutant(
    "recovery that does not wait for earlier requests", STALE, Recovery, "tick", "swaps",
    model="recovery at once",
)  # fmt: skip
def _begin_at_once(self: Any, now: Any) -> None:
    self._begin_s = 0.0
    _recovery_tick(self, now)


_writing_alarm = QuorumWrite.alarm


@mutant("a verdict after the deadline", STALE | {"deadlines"}, QuorumWrite, "alarm")
def _go_on(self: Any, now: Any) -> None:
    if now.monotonic < self._deadline + 0.5:
        self._deadline += 0.5
        self._context.operations.alarm_at(self.ids[0], self._deadline)
    else:
        _writing_alarm(self, now)
