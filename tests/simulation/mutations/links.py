"""Bugs of links and bounds: what is heard on which link, who counts as alive, how much may wait."""

from typing import Any

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.peers import Peers
from basestore.node import Node
from basestore.replica.replica import Replica
from basestore.replica.summary_log import SummaryLog
from tests.simulation.mutations.registry import STALE, mutant

BOUNDS = {"bounds", "answers", "deadlines"}


@mutant("an outbox without a bound", BOUNDS, Outbox, "put")
def _put_any(self: Any, message: Any, size: int = SMALL_BYTES) -> bool:
    most, self._bytes_max = self._bytes_max, float("inf")
    done = _put(self, message, size)
    self._bytes_max = most
    return done


_put = Outbox.put
_receive = Node.receive


@mutant("what comes on a replaced link is heard", STALE | {"crash", "recovery", "receipts"}, Node, "receive")
def _hear_the_dead(self: Any, member: int, outbox: Any, messages: Any, now: Any) -> Any:
    if outbox.closed:
        outbox = self.peers.all[member].outbox
        if outbox.closed:
            return None
    return _receive(self, member, outbox, messages, now)


@mutant("a link that is lost ends nothing", {"deadlines", "recovery", "convergence"}, Node, "_lost")
def _lose_nothing(self: Any, member: int, now: Any) -> None:
    self.exchanges.lost(member)


@mutant("a link that is lost leaves its exchanges open", {"convergence", "recovery", "bounds"}, Node, "_lost")
def _keep_exchanges(self: Any, member: int, now: Any) -> None:
    self.operations.lost(member, now)


@mutant("a member counts before it is introduced", STALE | {"recovery"}, Peers, "judge", "stores", "ambushes")
def _count_strangers(self: Any, peer: Any, now: Any) -> None:
    introduced, remembered = peer.introduced, peer.remembered
    peer.introduced = peer.remembered = True
    _judge(self, peer, now)
    peer.introduced, peer.remembered = introduced, remembered


_judge = Peers.judge


@mutant(
    "a silent member counts for ever",
    {"recovery", "deadlines", "receipts", "writable"},
    Peers,
    "judge",
    "links",
)
def _never_suspect(self: Any, peer: Any, now: Any) -> None:
    peer.detector.hear(now.monotonic)
    _judge(self, peer, now)


@mutant("one value of a version is as good as another", {"versions", "convergence", *STALE}, Replica, "apply")
def _any_value(self: Any, outbox: Any, message: Any, wall_ms: int) -> None:
    _apply(self, outbox, message._replace(way=1) if message.way == 0 else message, wall_ms)


_apply = Replica.apply


@mutant(
    "a checkpoint drops log records before its sums are stored",
    {"counts", "mismatches", "log", "crash"},
    SummaryLog,
    "_write_sums",
)
def _skip_sums(self: Any, most: int) -> None:
    self._sums.clear()


@mutant("a line that was replaced stays in the log", {"log", "mismatches", "crash"}, SummaryLog, "enter")
def _keep_line(self: Any, row: bytes, head: bytes, held: bytes) -> Any:
    return _enter(self, row, head, held[:-8] + bytes(8) if held else held)


_enter = SummaryLog.enter


@mutant("a sum is not undone", {"counts", "mismatches", "crash"}, SummaryLog, "enter")
def _add_only(self: Any, row: bytes, head: bytes, held: bytes) -> Any:
    return _enter(self, row, head, b"" if len(row) % 2 else held)
