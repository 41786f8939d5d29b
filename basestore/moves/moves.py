"""Moves: this node's share in who holds what, as that changes while it is served.

    acceptors    the leader binds members to stores, and takes in who was barred
    conductor    the leader plans, and has partitions go through the stages of their seats
    reports      what members have proven of these, told to the leader
    progress     how far all has come, told to clients

Puts these together, and passes on what happens. What a move means for requests, exchanges, hints and rows is
the affair of the rooms that these are of.
"""

from collections.abc import Callable, Mapping
from typing import Any

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.cluster.outbox import Outbox
from basestore.coordinator.context import Context
from basestore.instant import Instant
from basestore.membership.membership import Membership
from basestore.moves.acceptor_changes import AcceptorChanges
from basestore.moves.conductor import Conductor
from basestore.moves.progress import Progress
from basestore.moves.reports import MoveReports
from basestore.protocol.membership import AskMoves, Finished, MoveReport, MovesTold, ReadMoves
from basestore.replica.summaries import Summaries


class Moves:
    """Of one node. `handlers`: of what members say; `requests`: of what clients ask."""

    def __init__(
        self, context: Context, membership: Membership, certificates: Certificates, summaries: Summaries,
        closed_stamps: ClosedStamps,
    ) -> None:  # fmt: skip
        self._group_commit, self._finishing = context.group_commit, certificates.finishing
        level, lasting = context.feature_level, membership.following.lasting
        self._finishing.level, self._finishing.acceptor_of = lambda: level.level, membership.acceptor_of
        self.reports = MoveReports(context.peers, membership.leader, certificates, summaries)
        acceptors = AcceptorChanges(context.peers, membership.acceptor_of, level, lasting)
        self.conductor = Conductor(
            membership.group, context.peers, self.reports, closed_stamps.has_none, acceptors
        )
        self.progress = Progress(context, membership, self.conductor)
        self.handlers: Mapping[type, Callable[[int, Outbox, Any, Instant], None]] = {
            MoveReport: self.reports.hear,
            Finished: self._finishing.hear,
            AskMoves: self.progress.hear_ask,
            MovesTold: self.progress.hear,
        }
        self.requests: Mapping[type, Callable[[Outbox, Any, Instant], None]] = {ReadMoves: self.progress.read}

    def tick(self, now: Instant) -> None:
        """Time has passed."""
        if not self._group_commit.stalled:  # what is proposed is staged
            self.conductor.tick(now)
            self._finishing.tick(now)
        self.reports.tick(now)
        self.progress.tick(now)
