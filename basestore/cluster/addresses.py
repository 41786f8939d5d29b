"""Addresses: where each member is to be reached, as far as this node knows.

A member tells its own address when it has proven itself. That is where it is looked for from then on, and
what clients are told; the one in this node's file is tried in turn with it, for either may be out of date:

    n2 is filed at B, and tells C       dialled: C; if nobody who is n2 answers there, B, then C again

What is told is kept in memory only: a node that starts anew begins with its file. Refuses what is no address.
"""

from collections.abc import Sequence

from basestore.config import Member, parse_member_address


class Addresses:
    """Of all members, by index."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._filed = [member.address for member in members]
        self._told = list(self._filed)
        self._other = [False] * len(self._filed)  # whether that of the file is next

    def known(self, index: int) -> str:
        """Where a member can be reached, to tell others: by its own word, or else by the file."""
        return self._told[index]

    def to_dial(self, index: int) -> str:
        """Where to look for a member now."""
        return (self._filed if self._other[index] else self._told)[index]

    def missed(self, index: int) -> None:
        """It was not found there: look at the other address."""
        self._other[index] = not self._other[index]

    def tell(self, index: int, address: str) -> bool:
        """A member says where it can be reached; whether that is new. ConfigurationError if it is none."""
        parse_member_address(address)
        new = address != self._told[index]
        if new:
            self._told[index], self._other[index] = address, False
        return new
