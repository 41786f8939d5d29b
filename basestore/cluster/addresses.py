"""Addresses: where each member is to be reached, as far as this node knows.

A member tells its own address when it has proven itself. That is where it is looked for from then on; the one
in this node's file is tried in turn with it, for either may be out of date:

    n2 is filed at B, and tells C       dialled: C; if nobody who is n2 answers there, B, then C again

Others are told what is better founded than a word, where there is such:

    a member that this node dials       where it has last proven itself when it was dialled; before that, what
                                        the file says
    a member that dials this node       what it tells, unless another member is there: then what the file says

Of two members that are said to be at one address, it is that of the one that has proven itself there, or else
of the one of whom it was said first.

What is told is kept in memory only: a node that starts anew begins with its file. Refuses what is no address,
and what is one to listen on, but not to be reached at.
"""

from collections.abc import Sequence

from basestore.config import Member, parse_member_address


class Addresses:
    """Of all members, by index; `me`: this node's own. Those before it dial it, it dials those after it."""

    def __init__(self, members: Sequence[Member], me: int) -> None:
        self._me = me
        self._filed = [member.address for member in members]
        self._told = list(self._filed)
        self._other = [False] * len(self._filed)  # whether that of the file is next
        self._proven: dict[int, str] = {me: self._filed[me]}
        self._tellers: dict[int, None] = {}  # of members that dial, in the order in which they told theirs
        self._known = list(self._filed)

    def known(self, index: int) -> str:
        """Where a member can be reached, to tell others."""
        return self._known[index]

    def to_dial(self, index: int) -> str:
        """Where to look for a member now."""
        return (self._filed if self._other[index] else self._told)[index]

    def missed(self, index: int) -> None:
        """It was not found there: look at the other address."""
        self._other[index] = not self._other[index]

    def found(self, index: int, address: str) -> None:
        """A member was dialled at this address, and has proven to be there."""
        if self._proven.get(index) != address:
            for other in [other for other, at in self._proven.items() if at == address and other != self._me]:
                del self._proven[other]  # it is there no more
            self._proven[index] = address
            self._settle()

    def tell(self, index: int, address: str) -> bool:
        """A member says where it can be reached; whether that is new. ConfigurationError if it is none."""
        parse_member_address(address)
        new = address != self._told[index]
        if new:
            self._told[index], self._other[index] = address, False
            if index < self._me:
                self._tellers.pop(index, None)
                self._tellers[index] = None
                self._settle()
        return new

    def _settle(self) -> None:
        """Say anew what is known of each, those first whose word weighs most."""
        self._known = list(self._filed)
        silent = [
            index
            for index in range(len(self._filed))
            if index not in self._proven and index not in self._tellers
        ]
        taken = set(self._proven.values()) | {self._filed[index] for index in silent}
        for index, address in self._proven.items():
            self._known[index] = address
        for index in self._tellers:
            address = self._told[index]
            if address not in taken:
                self._known[index] = address
                taken.add(address)
