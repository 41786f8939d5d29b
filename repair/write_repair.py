"""Write repair: which writes to keep for a replica that missed them, and for how long. Pure.

A *hint* (DeCandia et al., "Dynamo", 2007, section 4.6) is a record kept for one replica. Of the hints for one
row only the rule's winner is worth keeping: the loser would be superseded wherever it arrived. A hint that is
the only copy of a write is never given up; others are copies, which anti-entropy can make good. Owns these
decisions; keeps and sends nothing (`handoff/hints.py` does).
"""

from typing import NamedTuple

from basestore.repair.rule import Rule
from basestore.repair.version import COUNTER_BITS, Record

STORE_BYTES = 16


class Hint(NamedTuple):
    """A record kept for a replica.

    only_copy  no replica is known to hold it, or what it stands for, and the caller was told it is kept
    since      the stamp of the earliest write that it stands for
    stores     those known to have taken the record, each STORE_BYTES long: while one of them is in use
               the hint is a copy; without any it is a first delivery, which comes too late at some time
    late       the replica takes it as a first delivery no more; kept for an operator to decide
    deferred   its record is of a write that was deferred: the replica was never sent it
    """

    record: Record
    only_copy: bool
    since: int
    stores: bytes = b""
    late: bool = False
    deferred: bool = False

    @classmethod
    def of(cls, record: Record, only_copy: bool, stores: bytes = b"", *, deferred: bool = False) -> "Hint":
        """A hint for one write."""
        return cls(record, only_copy, record.version.stamp, stores, False, deferred)


def merge_hints(rule: Rule, kept: Hint | None, offered: Hint) -> Hint:
    """Which hint to keep for a row. It stands for both, for what it beats is not kept: should it be
    lost itself, the replica lacks both. Two of the same record are one, and an only copy no more once
    a store is known to hold it; one that took an only copy's place is as precious."""
    if kept is None:
        return offered
    since = min(kept.since, offered.since)
    if kept.record == offered.record:
        # Both lists: any of these stores, still in use, makes the hint a copy.
        stores = kept.stores + b"".join(
            s for s in split_stores(offered.stores) if s not in split_stores(kept.stores)
        )
        # Not to be offered as an only copy tells of no store that holds it, nor of what it stands for.
        only_copy = (kept.only_copy or offered.only_copy) and not stores
        deferred = kept.deferred or offered.deferred
        return Hint(kept.record, only_copy, since, stores, kept.late, deferred)
    winner = kept if rule.winner(kept.record, offered.record) is kept.record else offered
    # The loser is given up, and may have been the only copy of its write: the winner stands for it.
    only_copy = kept.only_copy or offered.only_copy
    return Hint(winner.record, only_copy, since, winner.stores, winner.late, winner.deferred)


def split_stores(stores: bytes) -> list[bytes]:
    """The stores named in a hint."""
    return [stores[at : at + STORE_BYTES] for at in range(0, len(stores), STORE_BYTES)]


def admits(hint: Hint, bytes_kept: int, bytes_more: int, bytes_max: int) -> bool:
    """Whether a hint may be kept beside `bytes_kept` of its sort. Only copies have a share of their
    own, half as large as that of the others, so that neither sort takes the other's room."""
    return bytes_kept + bytes_more <= (bytes_max // 2 if hint.only_copy else bytes_max)


def given_up(hint: Hint, wall_ms: int, age_ms_max: int) -> bool:
    """Whether a hint is so old that it is not kept any longer. Only copies and late ones are kept for as long
    as it takes: nothing else may hold the write any more."""
    return not (hint.only_copy or hint.late) and (hint.since >> COUNTER_BITS) + age_ms_max < wall_ms
