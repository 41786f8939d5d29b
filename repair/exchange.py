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

from basestore.repair.digest_tree import MASK, STAMP_MAX, Summary, digest_of, record_digest
from basestore.repair.rule import Rule

WHOLE = -1  # is told in place of STAMP_MAX


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
    completeness: "Completeness",
) -> Step:
    """How the side that was asked goes on. `mine` and `theirs`: changes since the base on both sides.

    The side with less to say lists. But whoever is complete up to a lower stamp never lists, unless it has
    nothing: it must compare, to drop what it alone still holds of what was purged.
    """
    if equal:
        return Step.SAME
    if based:
        return lister(mine, theirs, completeness)
    if empty:
        return Step.LIST
    return Step.ASK if peer_empty else Step.TREE


def lister(mine: int, theirs: int, completeness: "Completeness") -> Step:
    """LIST or ASK, once it is known what to list from."""
    if completeness.mine != completeness.theirs:
        return Step.ASK if completeness.mine < completeness.theirs else Step.LIST
    return Step.LIST if mine <= theirs else Step.ASK


class Completeness:
    """Up to which stamp this side, and the other, lacks only what was purged. STAMP_MAX: up to its stable
    stamp, for it is whole; the other is taken for that until it is heard.

    A store in doubt may be an old copy, or lack its end. What is left is what it held at some moment: at or
    below the stable stamp of that moment it held all that there was, or had purged it. So of two the one that
    is complete up to a higher stamp has purged what the other alone holds at or below that stamp. Where both
    are complete up to the same one, neither is older there, and what one lacks it has lost.
    """

    __slots__ = ("mine", "theirs")

    def __init__(self, mine: int) -> None:
        self.mine = mine
        self.theirs = STAMP_MAX

    @property
    def told(self) -> int:
        """What is said of it."""
        return WHOLE if self.mine == STAMP_MAX else self.mine

    def hear(self, told: int) -> None:
        """The other side says it of itself."""
        self.theirs = STAMP_MAX if told == WHOLE else told

    @property
    def peer_whole(self) -> bool:
        return self.theirs == STAMP_MAX

    @property
    def among_forgetful(self) -> bool:
        """Whether neither store was whole when it was begun: what one has, others may have purged."""
        return self.mine != STAMP_MAX != self.theirs

    @property
    def among_whole(self) -> bool:
        return self.mine == self.theirs == STAMP_MAX

    @property
    def comparable(self) -> bool:
        """Whether a list of changes will do: of two in doubt one may hold from before what the other has
        purged, unless both are complete up to the same stamp."""
        return self.mine == self.theirs or not self.among_forgetful

    def purged(self, stable: int) -> int:
        """At or below which stamp what this side alone holds was purged by the other. `stable`: the greater
        stable stamp of both."""
        return min(self.theirs, stable) if self.theirs > self.mine else 0

    def proven(self, stable: int, *, delta: bool) -> int:
        """Up to which stamp this side is complete once both hold the same. `delta`: by a list of changes,
        which says nothing of what was held before."""
        return self.mine if delta else max(self.mine, min(self.theirs, stable))


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
