"""Closed stamps: up to which stamp this node takes no direct write any more.

A *closed stamp* (CockroachDB's closed timestamp) is a promise of one replica about one partition: a
coordinator's first delivery of a write at or below it is refused. It follows the clock, `lag_ms` behind, is
raised when an exchange begins, and never goes back. Stable stamps are built on it (`certificates.py`). Owns
when it is raised; that late writes are refused is the replica's part.

It stays where it is

    while the clock is not sure     no majority of the members is known to agree with it
    while this store is not whole   it may have forgotten what it took; likewise of a partition that it was
                                    given, and of which it does not yet hold what it must
    below what expires only by a clock that has jumped ahead
                                    should all clocks have, a value whose time is not over would be purged
                                    for good before they are set right (`ClockWatch.ahead_ms`)
    below what is accepted          of a register, and not learned: it may be chosen (`repair/paxos.py`)
    below a part of a batch         that is held, and not applied: its rows are to come in yet. It may have
                                    come when that far was closed here, from one that holds it, too: then
                                    others are told of less than was closed (`batches/parts.py`)
    below an only copy              a hint, of a write at ANY, that no replica holds yet. Who keeps one names
                                    its partition and stamp in every heartbeat; so nothing is closed after
                                    an opening until all have spoken, or have had as long as the lag for it

Others are told of it only by a store that is whole and on a disk: nothing is ever settled on the word of
one that may forget.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from basestore.cluster.peers import ASLEEP_S, Peers
from basestore.instant import Instant
from basestore.repair.clock import HybridClock
from basestore.repair.digest_tree import STAMP_MAX
from basestore.repair.version import COUNTER_BITS
from basestore.replica.identity import StoreIdentity
from basestore.replica.summaries import Summaries
from basestore.storage.keyspace import STAMP_BYTES

LATELY_S = 2.0  # some heartbeats
ROWS_MAX = 200  # are looked at for one that expires


class _Named(NamedTuple):
    """What a member has named: when, the least stamps by partition, and the epoch that it went by."""

    heard_s: float
    copies: dict[int, int]
    epoch: int


class ClosedStamps:
    """The closed stamps of the partitions that this node holds. They are kept in the summaries."""

    def __init__(
        self,
        summaries: Summaries,
        identity: StoreIdentity,
        peers: Peers,
        clock: HybridClock,
        lag_ms: int,
        now: Instant,
        *,
        durable: bool,
    ) -> None:
        """`lag_ms`: how far closed stamps stay behind the clock; `durable`: the store is on a disk."""
        self._begin_s = now.monotonic + lag_ms / 1e3
        self._awake_s = now.monotonic
        self._summaries = summaries
        self._identity = identity
        self._peers = peers
        self._clock = clock
        self._lag_ms = lag_ms
        self._durable = durable
        self._named: dict[int, _Named] = {}  # only copies, by who keeps them
        peers.watch(leave=lambda peer, now: self._forget(peer.index))

    def close(self, partitions: Collection[int], now: Instant) -> list[int]:
        """Raise the closed stamps to what the clock allows, as long as that can be trusted, and no hint
        is known that is the only copy of a write. Returns what may be told of them, for others to build on:
        0 while this store's word does not count."""
        self._excuse_own_rest(now)
        watch = self._peers.clock
        if watch.confirmed and watch.sure(now) and self._identity.counts and self._has_listened(now):
            stamp = (now.wall_ms - self._lag_ms) << COUNTER_BITS
            if watch.alone:  # nobody can tell whether this clock is right
                stamp = min(stamp, self._clock.last)
            for partition in partitions:
                self._raise(partition, stamp, now)
        if not (self._durable and self._identity.counts):
            return [0] * len(partitions)
        closed = list(map(self._told, partitions))
        if unfit := self._summaries.unfit:
            return [0 if each in unfit else stamp for each, stamp in zip(partitions, closed, strict=True)]
        return closed

    def _told(self, partition: int) -> int:
        """What others may build on: nothing comes in here any more up to this stamp. What is stable is so,
        whatever is held."""
        summary = self._summaries.of[partition]
        return max(summary.stable, min(summary.closed, self._least_unapplied(partition)))

    def _raise(self, partition: int, stamp: int, now: Instant) -> None:
        """Close up to this stamp, or as far as an only copy and what has expired allow."""
        if partition in self._summaries.unfit:
            return
        summary, ahead_ms = self._summaries.of[partition], self._peers.clock.ahead_ms
        stamp = min(stamp, self._least_only_copy(partition, now), self._least_unlearned(partition))
        stamp = min(stamp, self._least_unapplied(partition))
        if ahead_ms and stamp > summary.closed:
            steady = max(summary.closed, (now.wall_ms - ahead_ms) << COUNTER_BITS)
            first = self._summaries.first_expiry(partition, steady, stamp, ROWS_MAX)
            stamp = stamp if first is None else first - 1
        if stamp > summary.closed:
            summary.closed = stamp
            self._summaries.touch(partition)
            # What is stamped from now on must not be refused for it, should this clock be set back.
            self._clock.observe(stamp, now.wall_ms)

    def time_ms(self, now: Instant) -> int:
        """Nobody can have closed anything beyond this time, but while clocks were ahead of which an operator
        says that they are right now: stamps go on from there."""
        return max(self._peers.clock.about_ms(now), self._clock.ahead_ms)

    def _has_listened(self, now: Instant) -> bool:
        """Whether, since the store was opened, every member has named the only copies that it keeps, or had
        as much time for it as the lag gives; one that has come, and was never heard, among them."""
        listened = now.monotonic >= self._begin_s
        return listened or all(peer.index in self._named for peer in self._peers.present)

    def inherit(self, partition: int, closed: int) -> None:
        """A store that is not whole takes over what another has closed, but for what it has accepted."""
        summary, unfit = self._summaries.of[partition], partition in self._summaries.unfit
        closed = min(closed, self._least_unlearned(partition))
        if (unfit or not self._identity.counts) and closed > summary.closed:
            summary.closed = closed
            self._summaries.touch(partition)

    def hear_only_copies(self, member: int, named: Iterable[int], now: Instant) -> None:
        """A member names the partitions of which it keeps only copies, and their least stamps."""
        self._excuse_own_rest(now)
        told = list(named)
        copies = {told[at]: told[at + 1] for at in range(0, len(told) - 1, 2)}
        self._named[member] = _Named(now.monotonic, copies, self._peers.all[member].told_epoch)

    def _forget(self, member: int) -> None:
        """It has left: what it keeps comes to nobody any more."""
        self._named.pop(member, None)

    def has_none(self, member: int, epoch: int, now: Instant) -> bool:
        """Whether a member has said just now, as one that goes by this epoch, that it keeps no only copy, of
        any partition."""
        named = self._named.get(member)
        if named is None or now.monotonic - named.heard_s >= LATELY_S:
            return False
        return not named.copies and named.epoch >= epoch

    def _excuse_own_rest(self, now: Instant) -> None:
        """What was named while this node did not run it may only be about to hear."""
        asleep_s, self._awake_s = now.monotonic - self._awake_s, now.monotonic
        if asleep_s > ASLEEP_S:
            self._begin_s += asleep_s
            self._named = {
                each: said._replace(heard_s=said.heard_s + asleep_s) for each, said in self._named.items()
            }

    def _least_unlearned(self, partition: int) -> int:
        """Below the ballots of all that is accepted and not learned."""
        unlearned = self._summaries.unlearned.get(partition)
        return int.from_bytes(min(unlearned.values())[:STAMP_BYTES]) - 1 if unlearned else STAMP_MAX

    def _least_unapplied(self, partition: int) -> int:
        """Below the stamps of all parts of batches that are held and not applied."""
        parts = self._summaries.unapplied.get(partition)
        return min(parts.values()) - 1 if parts else STAMP_MAX

    def _least_only_copy(self, partition: int, now: Instant) -> int:
        """Below the stamps of all only copies that were named within the lag."""
        if not any(said.copies for said in self._named.values()):  # as nearly always
            return STAMP_MAX
        # Who has named nothing for as long as the lag is cut off: its hints will come late, and be kept.
        stamps = [
            # One below: at the closed stamp itself a write is refused already.
            said.copies[partition] - 1
            for said in self._named.values()
            if partition in said.copies and now.monotonic - said.heard_s < self._lag_ms / 1e3
        ]
        return min(stamps, default=STAMP_MAX)
