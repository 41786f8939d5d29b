"""Exchange: what is decided when two replicas compare a partition. Pure; `basestore` carries it out.

One side *lists* what it stored since the certificate that both hold; the other *compares*: what it lacks it
wants, what the lister lacks it pushes. Lists are runs of numbers (`runs.py`), for an origin numbers its
writes to a partition without gaps: all that a replica missed in an outage is one run, and a write lost here
and there costs a byte or two. Without a certificate the leaves that differ are found by their sums
(`digest_tree.py`), and listed by digests.

Each side compares by a *snapshot*, and writes go on meanwhile. The *virtual root* of a side is that of its
snapshot, plus what the entries that it received change in it. With digests written as numbers:

    n1's snapshot   a=5, b=7          root 12        n2's snapshot   a=5, c=4          root 9
    n1 receives c=4                   12 + 4 = 16    n2 receives b=7                   9 + 7 = 16
    n1 receives b=8, which beats b=7: 12 + 8 - 7;  an entry that loses changes nothing

Both virtual roots must equal the root of the merge of both snapshots. If they differ, something was
silently lost or altered: on a disk, in memory or by a bug. Owns these decisions, and sends nothing
(`anti_entropy/exchange.py` does).
"""

import enum
from collections.abc import Iterable, Iterator

from basestore.repair.digest_tree import MASK, Summary, digest_of, record_digest
from basestore.repair.rule import Rule


class Step(enum.Enum):
    """How the side that was asked goes on."""

    SAME = "same"  # the roots are equal: both hold the same
    LIST = "list"  # it lists what it has
    ASK = "ask"  # the other side shall list
    TREE = "tree"  # first find the leaves that differ


def next_step(
    *,
    equal: bool,
    based: bool,
    mine: int,
    theirs: int,
    empty: bool,
    peer_empty: bool,
    forgetful: bool,
    peer_forgetful: bool,
) -> Step:
    """How the side that was asked goes on. `mine` and `theirs`: changes since the base on both sides.

    The side with less to say lists. A forgetful side never lists to one that is not, unless it has
    nothing: it must compare, to drop what it alone still holds of what was purged.
    """
    if equal:
        return Step.SAME
    if based:
        return lister(mine, theirs, forgetful, peer_forgetful)
    if empty:
        return Step.LIST
    return Step.ASK if peer_empty else Step.TREE


def lister(mine: int, theirs: int, forgetful: bool, peer_forgetful: bool) -> Step:
    """LIST or ASK, once it is known what to list from."""
    if forgetful != peer_forgetful:
        return Step.ASK if forgetful else Step.LIST
    return Step.LIST if mine <= theirs else Step.ASK


class Snapshot:
    """What a replica held of a partition at one moment. `changed` keeps, of each row written since, the
    head that it had then (empty: none) and its sequence then."""

    __slots__ = ("changed", "closed", "leaves", "root", "sequence")

    def __init__(self, summary: Summary, *, leaves: bool, closed: int) -> None:
        """`leaves`: keep their sums too, for a comparison of all that is held. `closed`: the stamp
        enforced now, as far as it may be told."""
        self.sequence = summary.sequence
        self.root = summary.root
        self.closed = closed
        self.leaves = dict(summary.leaves) if leaves else {}
        self.changed: dict[bytes, tuple[bytes, int]] = {}

    def note(self, row: bytes, head: bytes, sequence: int) -> None:
        """This row, which held `head`, is about to change."""
        # Only the first change counts: later ones overwrite what came after the snapshot.
        if row not in self.changed:
            self.changed[row] = (head, sequence)

    def had(self, row: bytes, head: bytes) -> bytes:
        """The head that the row had, which now has `head`."""
        changed = self.changed.get(row)
        return head if changed is None else changed[0]


class Merge:
    """The virtual root of one side of an exchange. `beaten`: rows where an entry of the other side beat
    what the snapshot had."""

    __slots__ = ("_dropped", "beaten", "root")

    def __init__(self, snapshot: Snapshot) -> None:
        self.root = snapshot.root
        self.beaten: set[bytes] = set()
        self._dropped: set[bytes] = set()

    def receive(self, rule: Rule, row: bytes, head: bytes, had: bytes) -> bool:
        """An entry of the other side's snapshot, where this one had `had`: whether it was needed."""
        if row in self._dropped:
            had = b""
        # An equal head is not needed either: it counts in both roots.
        if had and not rule.beats(head, had):
            return False
        if had:
            self.beaten.add(row)
        self.root = (self.root + digest_of(head) - digest_of(had)) & MASK
        return True

    def drop(self, row: bytes, head: bytes) -> None:
        """This side gives up a record, which the other side has proven purged."""
        self._dropped.add(row)
        self.root = (self.root - digest_of(head)) & MASK


DIGEST_BYTES = 8


def encode_digests(heads: Iterable[bytes]) -> bytes:
    """What names these records, one after the other."""
    return b"".join(map(record_digest, heads))


def decode_digests(data: bytes) -> Iterator[bytes]:
    """Inverse of `encode_digests`; ValueError when it is cut off."""
    if len(data) % DIGEST_BYTES:
        raise ValueError("a list of digests is cut off")
    return (data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES))
