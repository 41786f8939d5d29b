"""Losses: up to which moment what was written may be lost, a partition and member at a time.

A write that a quorum acknowledged outlives the loss of stores as long as whoever lost one recovers from
N - Q + 1 whole replicas (`anti_entropy/recovery.py`). Where there were fewer, nobody can tell what is gone,
so this is said instead: a durable *loss horizon*. No proof of the partition holds until an operator accepts
the loss; only then do proofs speak again, of what is left.

    upto       what was written up to this stamp may be lost: the moment at which the member had recovered
    accepted   up to which stamp an operator has accepted it; the loss is *open* while that is lower
    sources    whole replicas that it recovered from, of so many `needed`: one loss for each number of these,
               for it decides which writes it may have cost (`results/convergence.py`)

With a store, or a member that is given up for dead, go the hints that it kept. Of a write at ANY they may
have been all that there was, whatever its partition; so each member writes down up to which stamp hints may
be gone (`hints_upto`): what a session has seen, no replica took and nobody has, is lost then, and not purged.

A member that has lost something may be behind, and not know of all that it had held. So it writes down up to
which stamp it has (`store_upto`), and notes that of each partition that it is given later, as lost with
enough sources: it is filled from as many, or notes how many there were.

The stamps of a loss only grow, and each member draws its own, so that two who tell each other what they know
end up with the same, in whatever order they hear it. All that is known is told to every member that a link
is made to, before anything else is said on it, and what is new at once: who hears of a proof that was made
since has heard of the loss.

Decides nothing of what is lost, and finds no losses: recovery and healing do.
"""

from collections.abc import Callable, Iterable, Mapping

import cbor2

from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.anti_entropy import KnownLosses, LossRow
from basestore.repair.clock import HybridClock
from basestore.repair.digest_tree import STAMP_MAX
from basestore.repair.version import COUNTER_BITS
from basestore.replica.group_commit import GroupCommit
from basestore.replica.summaries import Summaries
from basestore.storage import keyspace

ROWS_MAX = 1000  # in one message
HINTS = keyspace.fact("hints lost")
STORE = keyspace.fact("store lost")
AWAY_MS = 24 * 3600 * 1000  # for so long a member may go on alone by a clock that is ahead, and be covered


class Losses:
    """The losses of the partitions that a node holds, and of those of which it has lost a hint that nobody
    else may have. Of each partition that it holds `Summary.lossy` says whether a loss is open, and
    `Summary.lost` up to which stamp its losses go, open or accepted (`gone`: from too few sources)."""

    def __init__(
        self,
        group_commit: GroupCommit,
        summaries: Summaries,
        peers: Peers,
        clock: HybridClock,
        meeting: Callable[[int], int],
    ) -> None:
        """`meeting`: N - Q + 1 of a partition."""
        self._group_commit = group_commit
        self._summaries = summaries
        self.peers = peers
        self._clock = clock
        self._meeting = meeting
        # A lost write may have been stamped, and taken, by other clocks.
        self._slack_ms = 2 * clock.drift_ms_max
        self._rows: dict[int, dict[tuple[int, int], LossRow]] = {each: {} for each in summaries.of}
        for key, stored in group_commit.engine.scan(*keyspace.losses()):
            self._take(LossRow(*keyspace.loss_of(key), *cbor2.loads(stored)))
        self.hints_upto = int.from_bytes(group_commit.get(HINTS) or b"")
        self.store_upto = int.from_bytes(group_commit.get(STORE) or b"")

    def note_store(self, now: Instant) -> None:
        """What this store had is lost up to now, whatever it was of, unless others have it."""
        self.store_upto = max(self.store_upto, self._latest(now))
        self._group_commit.stage(STORE, self.store_upto.to_bytes(8))

    def note_hints(self, now: Instant) -> None:
        """Hints may be gone that were kept until now: this store has lost something, or a member is given up
        for dead."""
        wall = (self.peers.clock.latest_ms(now) + self._slack_ms) << COUNTER_BITS
        self._raise_hints(max(wall, self._clock.last))
        self._group_commit.when_durable(lambda: self._tell([]))

    def _raise_hints(self, upto: int) -> bool:
        if upto <= self.hints_upto:
            return False
        self.hints_upto = min(upto, STAMP_MAX)
        self._group_commit.stage(HINTS, self.hints_upto.to_bytes(8))
        return True

    def note(self, sources: Mapping[int, int], now: Instant, *, accepted: bool = False) -> None:
        """This store has recovered these partitions, or a row of them, from so many whole replicas only. With
        enough of them nothing that a quorum acknowledged is lost, and nobody need accept anything; nor if an
        operator has accepted it beforehand."""
        found = [self._lost(partition, count, now) for partition, count in sources.items()]
        rows = [row for row in found if row is not None]
        if accepted:  # it, and no earlier one that is open
            earlier = map(self._known, rows)
            rows = [
                row if known is not None and known.open else row._replace(accepted=row.upto)
                for row, known in zip(rows, earlier, strict=True)
            ]
        for row in rows:
            self._stage(row)
        self._group_commit.when_durable(lambda: self._tell(rows))

    def _lost(self, partition: int, sources: int, now: Instant) -> LossRow | None:
        """What is lost by now; None when that is known."""
        number, needed = self.peers.number_of[self.peers.me], self._meeting(partition)
        wall_ms, enough = self.peers.clock.latest_ms(now), sources >= needed
        # One that was noted just now covers this too: so a disk with many bad rows is one loss.
        recent = (wall_ms + self._slack_ms // 2) << COUNTER_BITS
        if any(
            row.upto > recent and row.sources <= sources and (row.open or enough)
            for row in self.known(partition)
            if row.number == number
        ):
            return None
        new = LossRow(partition, number, sources, needed, 0, 0)
        known = self._known(new) or new
        # Above what is known of an earlier loss here: to have accepted that one accepts nothing of this.
        upto = min(max(self._latest(now), known.upto + 1), STAMP_MAX)
        return known._replace(upto=upto, accepted=upto if enough else known.accepted)

    def _latest(self, now: Instant) -> int:
        """The greatest stamp of what may be lost by now."""
        wall = (self.peers.clock.latest_ms(now) + self._slack_ms) << COUNTER_BITS
        last = self._clock.last
        if last > wall:  # clocks were ahead: of a lost one for how long it went on so, nobody can tell
            last += AWAY_MS << COUNTER_BITS
        return min(max(wall, last), STAMP_MAX)

    def hear(self, outbox: Outbox, said: KnownLosses) -> None:
        """A member tells what it knows. ProtocolError when it names a member that there is not."""
        rows = said.rows
        self.peers.check_known(row.number for row in rows)
        raised = self._raise_hints(said.hints_upto)
        news = [row for row in rows if row.partition in self._rows and self._merged(row) != self._known(row)]
        for row in news:
            self._stage(self._merged(row))
        if news or raised:
            self._tell(news, outbox)

    def accept(self, shown: Iterable[LossRow]) -> None:
        """An operator has accepted these as they were shown, and nothing that was found since."""
        rows = []
        for row in shown:
            known = self._known(row)
            if known is not None and known.accepted < (upto := min(row.upto, known.upto)):
                rows.append(known._replace(accepted=upto))
        for row in rows:
            self._stage(row)
        self._group_commit.when_durable(lambda: self._tell(rows))

    def open(self, partition: int) -> list[LossRow]:
        """Those that nobody has accepted."""
        return [row for row in self.known(partition) if row.open]

    def known(self, partition: int) -> list[LossRow]:
        """All, whether accepted or not."""
        return list(self._rows.get(partition, {}).values())

    @property
    def all_open(self) -> list[LossRow]:
        """Of all partitions."""
        return [row for partition in self._rows for row in self.open(partition)]

    def hold(self, partition: int) -> None:
        """This partition is held from now on; and may have been before, by a store that was lost."""
        for row in list(self._rows.setdefault(partition, {}).values()):
            self._take(row)
        needed, upto = self._meeting(partition), self.store_upto
        row = LossRow(partition, self.peers.number_of[self.peers.me], needed, needed, upto, upto)
        known = self._known(row) or row._replace(upto=0, accepted=0)
        if known.upto < upto:
            # One that is open, for more sources were needed then, stays open.
            row = known._replace(upto=upto, accepted=known.accepted if known.open else upto)
            self._stage(row)
            self._group_commit.when_durable(lambda: self._tell([row]))

    def tell(self, partition: int, outbox: Outbox) -> None:
        """Tell somebody who holds it since lately all that is known of a partition."""
        self._put(outbox, self.known(partition))

    def introduce(self, outbox: Outbox) -> None:
        """A link stands: tell all that is known."""
        self._put(outbox, [row for partition in self._rows for row in self.known(partition)])

    # --- inside --------------------------------------------------------------------------------

    def _known(self, row: LossRow) -> LossRow | None:
        return self._rows.get(row.partition, {}).get((row.number, row.sources))

    def _merged(self, row: LossRow) -> LossRow:
        known = self._known(row)
        return row if known is None else known.merged(row)

    def _stage(self, row: LossRow) -> None:
        self._take(row)
        stored = cbor2.dumps([row.needed, row.upto, row.accepted])
        self._group_commit.stage(keyspace.loss(row.partition, row.number, row.sources), stored)

    def _take(self, row: LossRow) -> None:
        self._rows.setdefault(row.partition, {})[row.number, row.sources] = row
        summary = self._summaries.of.get(row.partition)
        if summary is not None:
            summary.lossy = bool(self.open(row.partition))
            summary.lost = max(summary.lost, row.upto)
            if row.sources < row.needed:
                summary.gone = max(summary.gone, row.upto)

    def _tell(self, rows: list[LossRow], but: Outbox | None = None) -> None:
        for peer in self.peers.others:
            if peer.outbox is not but:
                self._put(peer.outbox, rows)

    def _put(self, outbox: Outbox, rows: list[LossRow]) -> None:
        for at in range(0, len(rows) or bool(self.hints_upto), ROWS_MAX):
            lost = KnownLosses(rows[at : at + ROWS_MAX], self.hints_upto)
            outbox.put(lost, weight(lost))
