"""Position: how far a feed has come in a partition; from where a replica goes on, and what that proves. Pure.

A feed reads the apply log of one replica: what is held, by when it came to that store. Who follows keeps a
*position*: up to which sequence of which store all was told, and a stamp up to which every change was told,
wherever it came first. With it another replica can go on, in one of three ways:

    the same store           from the sequence
    one that has *met* it    the two have proven that they hold the same: what B held at its snapshot A had by
                             `end`, or better. Who was told all that came to A until then lacks nothing of
                             that, so B goes on from its own snapshot
    any other                all that is held is looked through for versions above the stamp

An example. B compares with A at its sequence 40; A has taken all of that by its own sequence 73:

    position (A, 80, stamp 5)    B goes on behind 40: what it held then A had at 73, so it was told
    position (A, 70, stamp 5)    A may have got some of that under 71 to 73: B looks for all above stamp 5

A deletion is told like any change, until it is purged. What was purged behind a position is a *gap*: it is
said, not passed over. A *mark* is the stable stamp of a replica, told once all is told that came to it before
that stamp was known: every version at or below it is on that replica, or beaten there, so every such change
was told. What is told may repeat, older versions of a key included, where another replica goes on; marks, and
what they prove, do not.
"""

from collections.abc import Mapping
from typing import NamedTuple

from basestore.repair.digest_tree import STAMP_MAX

BEGUN = 1  # in place of a sequence, where no store is named: some of what is held was told, not all


class Position(NamedTuple):
    """How far a feed has come in a partition. `store`: whose sequences these are, empty for nobody's;
    `sequence`: all that came to it up to this one was told; `stable`: every change up to this stamp was."""

    store: bytes = b""
    sequence: int = 0
    stable: int = 0

    @property
    def blank(self) -> bool:
        """Whether nothing was told: who has nothing can lack no deletion."""
        return self == BLANK


BLANK = Position()
NOW = Position(b"", 2, 0)  # what is held when the feed begins is not wanted


class Met(NamedTuple):
    """A proof that two stores hold the same. `mine`: the sequence of this one's snapshot; `end`: by this one
    of its own the other had all that was in that."""

    mine: int
    end: int


def start(position: Position, store: bytes, sequence: int, floor: int, met: Met | None) -> int | None:
    """Behind which sequence of its log a store goes on; None when all that it holds is to be looked through.
    `sequence`: of the last change there; `floor`: up to which the log may lack lines; `met`: its proof with
    the store of the position, if it counts."""
    behind = None
    # A sequence beyond the last one was told by a store that has lost its end since: it is no place in this.
    if position.store == store and position.sequence <= sequence:
        behind = position.sequence
    elif position.store and met is not None and position.sequence >= met.end:
        behind = met.mine
    return behind if behind is not None and behind >= floor else None


class Mark:
    """When the stable stamp of a replica may be told. It holds of what came before it was known. What is
    replaced before it is read counts as read once that is which has replaced it: so whoever was told a mark
    knows of each key what it held then, or something later."""

    __slots__ = ("_due", "_late", "_upto", "told")

    def __init__(self, told: int) -> None:
        self.told = told
        self._due = self._upto = 0  # a stamp, and that it may be told once all is that came up to here
        self._late = False  # or, where something of that was replaced meanwhile, by when it was noted next

    def note(self, stable: int, sequence: int) -> None:
        """The replica's stamp is this one, and this the sequence of the last change. One that waits to be
        told is not put off by a later one: where writes never end nothing else would ever be told."""
        if not self._due and stable > self.told:
            self._due, self._upto = stable, sequence
        elif self._late:
            self._upto = sequence
        self._late = False

    def replaced(self, sequence: int, read: int) -> None:
        """What came under this sequence is replaced, and all up to another one is read."""
        self._late |= read < sequence <= self._upto

    def reach(self, sequence: int) -> bool:
        """All that came up to this one is told; whether that tells a stamp."""
        if not self._due or self._late or sequence < self._upto:
            return False
        self.told, self._due = self._due, 0
        return True

    @property
    def waits(self) -> bool:
        """Whether a stamp is known, and not told."""
        return self._due > 0


def told_up_to(positions: Mapping[int, Position]) -> int:
    """Up to which stamp every change was told, in all partitions."""
    return min((each.stable for each in positions.values()), default=STAMP_MAX)
