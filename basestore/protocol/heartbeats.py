"""Messages that keep a link between two nodes: heartbeats, and which stores the two run on.

Owns Ping and Pong, with the clocks that they compare, and the introduction (StoreClaim, Remembered,
Confirmed). What follows from them is decided elsewhere: who is alive in `cluster/peers.py`, which store may
be trusted in `replica/identity.py`.
"""

from typing import NamedTuple

from basestore.protocol.limits import WIRE_MAX
from basestore.protocol.registry import ANYTHING, message


@message(40, added={"brownout": 9, "term": 10, "leader": 10, "purged": 10})
class Ping(NamedTuple):
    """A heartbeat: the sender's clocks, whether its store answers, its durable sequence, and whether its disk
    does not keep up.
    `only_copies`: partitions of which it keeps hints that are the only copy of a write, and the least
    stamp of these, in turn; the greatest there is, where all of them come too late. `ahead_ms`: from where
    its stamps go on, however far that is ahead of its clock, for an operator says that this is right; 0
    without such a word. `birth`: of the cluster's stores,
    if it knows it (`anti_entropy/birth.py`); `proposed`: what it has proposed for that, durably. `wire`: the
    highest version that it speaks, and the `level` that it knows of (`cluster/feature_level.py`); 0: none.
    `brownout`: how much it leaves out, for it has too much to do (`intake/brownout.py`). `leader`: the number
    of the member, plus 1, that leads the metadata group in `term`, as the sender hears it as one of its
    voters; 0: it hears none. `purged`: the epoch up to which nothing is left on its disk, row or hint, of the
    buckets that were dropped; 0: of none that is known."""

    sent_us: int
    wall_ms: int
    whole: bool
    generation: bytes
    sequence: int
    only_copies: list[int]
    disk_behind: bool
    ahead_ms: int
    birth: int
    proposed: int
    wire: int = 0
    level: int = 0
    brownout: int = 0
    term: int = 0
    leader: int = 0
    purged: int = 0

    def check(self) -> str:
        if not 0 <= self.level <= self.wire <= WIRE_MAX:
            return "names a feature level that cannot be"
        return "names only copies without their stamps" if len(self.only_copies) % 2 else ""


@message(41, unchecked=ANYTHING)
class Pong(NamedTuple):
    sent_us: int
    wall_ms: int


@message(42, unchecked=ANYTHING)
class StoreClaim(NamedTuple):
    """Which store the sender runs on: the first message on a new link. `again` asks for the
    receiver's own once more, for something was lost. `former`: the stores that this one was, and may lack
    something of, one after the other, 16 bytes each. `takeable`: an operator may still take it as it is."""

    store: bytes
    generation: bytes
    sequence: int
    whole: bool
    again: bool
    former: bytes
    takeable: bool


@message(43, unchecked=ANYTHING)
class Remembered(NamedTuple):
    """What the sender remembers of the receiver's store, durably, the present one included:
    the last store (with generation and sequence) and whether there was an earlier one. `forgetful`: the
    sender may have forgotten something itself, this too."""

    store: bytes
    generation: bytes
    sequence: int
    earlier: bool
    forgetful: bool


@message(44, unchecked=ANYTHING)
class Confirmed(NamedTuple):
    """What the receiver remembers of the sender's store is still there. Only now does the receiver
    count on the sender, and remember its present generation instead."""

    store: bytes
    generation: bytes
    sequence: int
