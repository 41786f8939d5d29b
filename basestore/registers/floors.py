"""Floors: up to which ballot an acceptor takes nothing, in any row of a partition, for others had promised or
accepted that much; and how much this one has.

Who takes the place of an acceptor knows nothing of what that has promised: so it is told a floor, and raises
its own to that before it counts (`cluster/finishing.py`). A floor that is closed is not needed any more.

The register of a transaction is born with the ballot by which that is known promised to its coordinator
(`repair/intents.py`), who draws it before anybody can ask of it: so it needs no prepare.

Owns the floors that others have told, which `acceptors.py` stores, and the greatest ballots here, which it
reads off what it has stored.
"""

from basestore.repair.paxos import Acceptor, closed_ballot
from basestore.replica.summaries import Summaries
from basestore.rows import row_bucket, row_key, row_partition
from basestore.topology.buckets import DECISIONS


class Floors:
    """Of one store."""

    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries
        self._told: dict[int, bytes] = {}
        self._greatest: dict[int, bytes] = {}  # ballots of a partition that were promised or accepted here

    def clear(self) -> None:
        self._told, self._greatest = {}, {}

    def note(self, partition: int, ballot: bytes) -> None:
        """This one is promised or accepted here."""
        if ballot > self._greatest.get(partition, b""):
            self._greatest[partition] = ballot

    def of(self, partition: int) -> bytes:
        """Who takes the place of this acceptor, or of another, must take no ballot up to this."""
        summary = self._summaries.of.get(partition)
        low = closed_ballot(summary.closed) if summary is not None else b""
        return max(self._greatest.get(partition, b""), self._told.get(partition, b""), low)

    def raise_to(self, partition: int, ballot: bytes) -> bool:
        """Take no ballot up to this from now on. Whether that is more than before, and to be stored."""
        if partition not in self._summaries.of or ballot <= self._told.get(partition, b""):
            return False
        self._told[partition] = ballot
        return True

    def drop(self, partition: int) -> None:
        self._told.pop(partition, None)

    def bind(self, row: bytes, state: Acceptor) -> Acceptor:
        """What it has promised and accepted, as if it had promised the floor of the partition, too."""
        floor = self._told.get(row_partition(row), b"") if self._told else b""
        if row_bucket(row) == DECISIONS:
            floor = max(floor, row_key(row))
        return state._replace(promised=floor) if floor > state.promised else state
