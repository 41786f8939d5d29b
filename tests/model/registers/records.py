"""Records: what is proposed for a row, and the ballot under which it is.

A ballot is a stamp of a clock and an origin that no other start of a node has. A record's version is the
ballot under which it was accepted; who wrote it knows it by its *identity*, the first ballot it had.
"""

from typing import NamedTuple

KEYS = (0, 1)


class Ballot(NamedTuple):
    """Compared by stamp, then by origin."""

    stamp: int
    origin: int


NEVER = Ballot(0, 0)


class Record(NamedTuple):
    """A value, or a tombstone where it is None. `replaced`: the identity of what it took the place of, None
    where nothing was. `parent`: the ballot of that, which only the judge looks at."""

    ballot: Ballot
    identity: Ballot
    replaced: Ballot | None
    proposal: int
    value: int | None
    parent: Ballot | None

    def again(self, ballot: Ballot) -> "Record":
        """The same write, to be accepted under a later ballot."""
        return self._replace(ballot=ballot, parent=self.ballot)


def is_absent(record: Record | None) -> bool:
    """Deleted and never written are the same to who asks."""
    return record is None or record.value is None


def at(record: Record | None) -> Ballot:
    return NEVER if record is None else record.ballot


def name(record: Record | None) -> Ballot | None:
    return None if record is None else record.identity
