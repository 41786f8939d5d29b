"""Move reports: what this node has proven of partitions whose seats are being changed, or of which it is
barred as an acceptor, told to the leader.

A report is a fact about this store under the entry that last changed the seats: it is kept nowhere, told when
it changes, and again now and then, and to a new leader or on a new link at once. What must survive stands in
the log, and in what exchanges have made durable: so a move goes on after any crash as if nothing had been.

    at the node      7: fit, has met n2 and n3            to the leader, when it comes to be so
    at the leader    by member, on its present link       of an earlier entry, or link, nothing counts

Decides nothing (`conductor.py` does).
"""

from itertools import islice
from typing import Final

from basestore.anti_entropy.certificates import Certificates
from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peers import Peers
from basestore.cluster.seating import in_turn
from basestore.instant import Instant
from basestore.membership.leader_watch import LeaderWatch
from basestore.protocol.membership import MoveReport, MoveRow
from basestore.repair.seats import Seats, Stage, packed, unpacked
from basestore.replica.summaries import Summaries

LOOK_S: Final = 0.1
AGAIN_S: Final = 5.0
ROWS_MAX: Final = 256  # of one report, and so many of those that are barred are looked at at once


class MoveReports:
    """Of one node, and what it has heard of others. `heard`: by member, by partition."""

    def __init__(
        self, peers: Peers, leader: LeaderWatch, certificates: Certificates, summaries: Summaries
    ) -> None:
        """`certificates`, `summaries`: by these this node knows what it has proven, and what it holds."""
        self._peers, self._leader = peers, leader
        self._certificates, self._summaries = certificates, summaries
        self.heard: dict[int, tuple[Outbox, dict[int, MoveRow]]] = {}
        self._own: dict[int, MoveRow] = {}
        self._told: dict[int, MoveRow] = {}
        self._told_on: Outbox | None = None
        self._due_s = self._again_s = 0.0
        self._last = -1  # the last partition that was looked at of those of which it is barred

    def hear(self, member: int, outbox: Outbox, said: MoveReport, now: Instant) -> None:
        """A member's, on this link; ProtocolError where it names members that there are not."""
        for row in said.rows:
            self._peers.check_known(unpacked(row.met))
        on, rows = self.heard.get(member, (outbox, {}))
        if on is not outbox:
            rows = {}
        self.heard[member] = outbox, {**rows, **{row.partition: row for row in said.rows}}

    def of(self, member: int, partition: int, seats: Seats) -> MoveRow | None:
        """What a member says of a partition under these seats, on the link that stands."""
        if member == self._peers.me:
            row = self._own.get(partition)
        else:
            on, rows = self.heard.get(member, (None, {}))
            peer = self._peers.all[member]
            row = rows.get(partition) if peer.linked and peer.outbox is on else None
        return row if row is not None and row.since == seats.since else None

    def tick(self, now: Instant) -> None:
        """See what is proven by now, and tell what is new of it."""
        seating = self._certificates.seating
        if not (seating.moving or seating.out):
            self._own, self._told = {}, {}
            return
        if now.monotonic < self._due_s:
            return
        self._due_s = now.monotonic + LOOK_S
        barred = in_turn(seating.out, self._last, ROWS_MAX)
        self._last = barred[-1] if barred else -1
        kept = {at: row for at, row in self._own.items() if at in seating.out}
        self._own = kept | {partition: self._row(partition) for partition in seating.moving.union(barred)}
        leader = self._leader.member(now)
        if leader is None or leader == self._peers.me:
            return
        outbox = self._peers.all[leader].outbox
        if outbox is not self._told_on or now.monotonic >= self._again_s:
            self._told, self._told_on, self._again_s = {}, outbox, now.monotonic + AGAIN_S
        rows = (row for at, row in self._own.items() if _said(self._told.get(at)) != _said(row))
        if news := list(islice(rows, ROWS_MAX)):
            report = MoveReport(news)
            if outbox.put(report, weight(report)):
                self._told.update({row.partition: row for row in news})

    def _row(self, partition: int) -> MoveRow:
        certificates = self._certificates
        number_of = self._peers.number_of
        met = packed(sorted(number_of[each] for each in certificates.met(partition)))
        seats = certificates.seating.seats[partition]
        # While it fills nothing need be finished yet: that stage says only who holds what was written.
        own = certificates.finishing.own(partition, certificates.finishing.acceptor_of(self._peers.me))
        fit = certificates.counts(partition) and (own or seats.stage is Stage.FILL)
        return MoveRow(partition, seats.since, fit, met, self._summaries.of[partition].count)


def _said(row: MoveRow | None) -> tuple[int, bool, bytes] | None:
    """What of a row is told at once: how many records there are changes with every write."""
    return None if row is None else (row.since, row.fit, row.met)
