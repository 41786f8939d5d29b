"""Announcements: what is chosen, told to those that are to learn it, once a step for all rows.

It is not asked whether they have. Links keep the order of what is said, so who has accepted a record has it
when it hears this; who has not gets it by an exchange.
"""

from basestore.cluster.outbox import SMALL_BYTES
from basestore.cluster.peers import Peers
from basestore.protocol.replication import Learn


class Announcements:
    """Of one node."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._chosen: dict[tuple[int, ...], tuple[list[bytes], list[bytes]]] = {}  # by whom it is told

    def add(self, members: tuple[int, ...], row: bytes, ballot: bytes) -> None:
        """What these have accepted of the row under this ballot is chosen."""
        rows, ballots = self._chosen.setdefault(members, ([], []))
        rows.append(row)
        ballots.append(ballot)

    def tell(self) -> None:
        """Say all of it."""
        for members, (rows, ballots) in self._chosen.items():
            learn, size = Learn(rows, ballots), SMALL_BYTES + sum(map(len, rows)) + 32 * len(rows)
            for member in members:
                if self._peers.alive[member]:
                    self._peers.send(member, learn, size)
        self._chosen = {}
