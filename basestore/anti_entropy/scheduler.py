"""Scheduler: which partitions this node compares, with whom, and when.

Anti-entropy runs all the time: every one to two seconds a *round* to each peer compares partitions. First
come those that somebody has asked for (recovery, an operator); then, for half of the round, those of which
the peer is owed something that no hint is kept of; then those whose certificate is oldest. Where nothing is
expected to differ, all are compared by one message (`roots.py`); of the others exchanges are opened, a few a
round. Owns that order; the opened exchanges are run by `exchanges.py`. While none of them has anything to do,
the store sees to itself (`maintenance.py`). All work shares one budget of rows a tick (`pace.py`).

In a brownout (`intake/brownout.py`) of 2, this node's or the peer's, only such proofs are renewed as would
otherwise grow too old; what somebody has asked for runs all the same. What all replicas are proven to hold is
known once two replicas tell each other, in the next exchange, what each has proven with a third: so proofs
are renewed in less than half of the time that it is to stay within.

    proven between n2 and n3       at 0, at 4 and at 8 minutes
    n1 hears of it from n2         at 4 minutes, just before the second: until it hears of that, at 8, all
                                   that it knows to be everywhere is up to 8 minutes old, and under 10

Where a bucket's reads may be degraded by less than that, they need younger proofs, and have them.

The moments of the rounds are spread by the golden ratio (Weyl's sequence), which needs no chance: peers
that start together do not stay in step.
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from basestore.anti_entropy.exchange import LocalSide
from basestore.anti_entropy.exchanges import Exchanges
from basestore.anti_entropy.pace import ROWS_BESIDE
from basestore.cluster.operations import Operations
from basestore.cluster.peers import Peers
from basestore.config import BucketOptions
from basestore.instant import Instant

ROUND_S_MIN = 1.0
ROUND_S_MAX = 2.0
GOLDEN = 0.6180339887498949
TURN_ROUNDS = 5  # after so many rounds every partition has had its turn
PATIENCE_MS = 2000
BROWNOUT_RESTING = 2
PROOF_MS_MAX = 600_000  # what is known to be everywhere stays younger then


def browned_proof_ms(options: Mapping[str, BucketOptions]) -> int:
    """How old proofs may grow in a brownout, as buckets are served so."""
    degrade_ms = (1000 * each.degrade_s for each in options.values() if each.degrade_s)
    return min([PROOF_MS_MAX, *degrade_ms]) * 2 // 5


class Scheduler:
    """Rounds and wishes of one node. `due_s`: by member, when its next round is; `browned_proof_ms_max`: how
    old proofs may grow in a brownout before they are renewed, whatever buckets there are."""

    def __init__(
        self, local: LocalSide, exchanges: Exchanges, peers: Peers, operations: Operations,
        owed: Sequence[Container[int]], now: Instant,
    ) -> None:  # fmt: skip
        """`owed`: by member, the partitions of which it may lack something that no hint is kept of."""
        self._local = local
        self._certificates = local.certificates
        self._maintenance = local.maintenance
        self._pace = local.pace
        self.exchanges = exchanges
        self._peers = peers
        self._operations = operations
        self._wishes: dict[tuple[int, int], None] = {}  # member and partition
        self._owed = owed
        self.due_s = {peer.index: now.monotonic + ROUND_S_MIN for peer in peers.others}
        peers.watch(leave=lambda peer, now: self._part(peer.index))
        self._alone_s = now.monotonic
        self._lot = peers.me * GOLDEN
        self._idle = True  # there is no maintenance to do
        self.unfinished = False  # there may be more to do in this tick: the next step should come at once
        self._working = False  # there was some, when it was looked last
        self._brownout = 0
        self.browned_proof_ms_max = PROOF_MS_MAX
        self._buckets, self._changes = local.replica.buckets, -1
        self._browned_proof_ms = 0

    def wish(self, member: int, partition: int) -> None:
        """Open an exchange of this partition with that member as soon as possible."""
        self._wishes[member, partition] = None

    def forget(self, partitions: Collection[int]) -> None:
        """Nothing is wished for of these any more."""
        for wish in [wish for wish in self._wishes if wish[1] in partitions]:
            del self._wishes[wish]

    def _part(self, member: int) -> None:
        """It has left: nothing is wished for with it."""
        self.due_s.pop(member, None)
        for wish in [wish for wish in self._wishes if wish[0] == member]:
            del self._wishes[wish]

    def hasten(self, partitions: Iterable[int], within_ms: int, now: Instant, *, full: bool) -> None:
        """Let exchanges run, and with `full` scrubs, where the last ones were begun longer ago than this. Of
        two replicas the first opens the exchange, or whoever has ended a scrub since; after a while both
        try."""
        since_s = now.monotonic - within_ms / 1e3
        for partition in partitions:
            scrub = self._maintenance.last_scrub(partition)
            if full and (scrub is None or scrub.begun_s < since_s):
                if partition not in self._maintenance.suspects:
                    self._maintenance.examine(partition)
                continue
            for other in self._certificates.others[partition]:
                last = self._certificates.last_exchange(partition, other)
                begun_s = -1.0 if last is None else last.begun_s
                scrubbed_since = full and scrub is not None and begun_s < scrub.ended_s
                mine = not self._peers.precedes(other) or full or within_ms > PATIENCE_MS
                if scrubbed_since or (begun_s < since_s and mine):
                    self.wish(other, partition)

    # --- ticks and steps ---------------------------------------------------------------------

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way, nor wished for."""
        local = self._local
        under_way = self._working or self._wishes or self.exchanges.count or not self.exchanges.roots.idle
        counts = local.identity.counts or local.identity.retired
        return not under_way and counts and not local.replica.damaged

    def tick(self, now: Instant, brownout: int = 0) -> None:
        """Begin what is due; end what has stalled. `brownout`: this node's."""
        self._brownout = brownout
        self._pace.tick(self._operations.issued + self._operations.served, now.monotonic)
        self._idle = self.unfinished = False  # something may have become due with time
        self.exchanges.tick(now)
        self._maintenance.watch_damage()
        if not self.exchanges.ready:
            return
        # Not while a batch is refused: each time leaves an action that waits for it.
        if now.monotonic >= self._alone_s and not self._local.group_commit.stalled:
            self._alone_s = now.monotonic + ROUND_S_MIN
            self._close_alone(now)
        for peer in self._peers.others:
            if peer.linked and peer.introduced and peer.remembered:
                self._round(peer.index, now)
            elif self._peers.precedes(peer.index):  # of two that meet again the lower one begins
                due_s = self.due_s.get(peer.index, 0.0)
                self.due_s[peer.index] = max(due_s, now.monotonic + ROUND_S_MIN)

    def work(self, now: Instant) -> bool:
        """Let exchanges, purge and scrub go on, as far as this step's share of rows lasts. Called while
        nothing is staged, until it says no. Whether anything was done that is now to be stored or said."""
        moved = self.exchanges.run(now)
        if not moved and not self._idle and self._pace.rows_left > 0:
            rows = min(self._pace.rows_left, ROWS_BESIDE)
            cost = self._maintenance.work(rows, self.exchanges.partitions, now)
            self._idle, moved = cost is None, cost is not None
            self._working = moved
            self._pace.spend(cost or 0)
        if not moved:
            self.unfinished = self._pace.end_step()
        return moved

    def _close_alone(self, now: Instant) -> None:
        """Of a partition with no other replica all is stable that is closed."""
        for partition, others in self._certificates.others.items():
            if not others:
                (closed,) = self._local.closed_stamps.close((partition,), now)
                self._certificates.adopt(partition, closed)

    # --- rounds ------------------------------------------------------------------------------

    def _round(self, member: int, now: Instant) -> None:
        """Open exchanges with one peer, if it is time."""
        wished = [partition for other, partition in self._wishes if other == member]
        for partition in wished:
            if self.exchanges.may_open(partition):
                del self._wishes[member, partition]
                self.exchanges.open(member, partition, now)
        # A member that has come since has its first round now.
        if now.monotonic < self.due_s.get(member, 0.0):
            return
        self._lot = (self._lot + GOLDEN) % 1.0
        self.due_s[member] = now.monotonic + ROUND_S_MIN + (ROUND_S_MAX - ROUND_S_MIN) * self._lot
        if self._local.identity.counts:  # else recovery wishes for what it needs
            most, first, rest = self._turn(member, now)
            for partition in first:
                self.exchanges.open(member, partition, now)
            self.exchanges.roots.ask(member, rest, most - len(first))

    def _turn(self, member: int, now: Instant) -> tuple[int, list[int], list[int]]:
        """How many exchanges a round with a member may open, the partitions of which one is opened in any
        case, and all others, in the order in which it is their turn."""
        shared = [
            partition
            for partition, others in self._certificates.others.items()
            if member in others and self.exchanges.may_open(partition)
        ]
        if max(self._brownout, self._peers.all[member].brownout) >= BROWNOUT_RESTING:
            time_ms = self._local.closed_stamps.time_ms(now)
            shared = [each for each in shared if not self._young(each, member, time_ms)]
        shared.sort(key=lambda partition: (self._made_ms(partition, member), partition))
        most = max(self._pace.at_once, len(shared) // TURN_ROUNDS)
        # Half of the round: debts that cannot end while a replica is down must not hold up the others.
        first = [partition for partition in shared if partition in self._owed[member]][: most // 2]
        return most, first, [partition for partition in shared if partition not in first]

    def _young(self, partition: int, member: int, time_ms: int) -> bool:
        """Whether there is a proof, and it may grow older. One of later than now has no known age."""
        return 0 <= time_ms - self._made_ms(partition, member) < self.browned_proof_ms

    @property
    def browned_proof_ms(self) -> int:
        """How old they may grow, as buckets are served now."""
        if self._changes != self._buckets.changes:
            self._changes = self._buckets.changes
            self._browned_proof_ms = browned_proof_ms(self._buckets.options)
        return min(self._browned_proof_ms, self.browned_proof_ms_max)

    def _made_ms(self, partition: int, member: int) -> int:
        certificate = self._certificates.certificate(partition, member)
        return 0 if certificate is None else certificate.made_ms
