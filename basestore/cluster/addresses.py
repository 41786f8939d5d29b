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

What is told is kept in memory only: a node that starts anew begins with its file. Of a member that has come
since, and stands in no file, what the cluster's log says stands for that. Where the log comes to say another
address of a member, that takes the place of all others but one at which it was found; where it differs from
the file from the start, either may be newer, and it is tried in turn. Refuses what is no address, and what is
one to listen on, but not to be reached at.
"""

from collections.abc import Mapping, Sequence

from basestore.config import Member, parse_member_address


class Addresses:
    """Of the members, by number; `me`: this node's own. Those before it dial it, it dials those after it."""

    def __init__(self, members: Sequence[Member], me: int) -> None:
        self._me = me
        self._filed = {member.number: member.address for member in members}
        self._told = dict(self._filed)
        self._other = set[int]()  # those of which that of the file is next
        self._proven: dict[int, str] = {me: self._filed[me]}
        self._tellers: dict[int, None] = {}  # of members that dial, in the order in which they told theirs
        self._known = dict(self._filed)
        self._logged: Mapping[int, str] = {}

    def adopt(self, members: Mapping[int, str]) -> None:
        """These are the members now, by the log; where to look for one that has come, or has another address.
        Of others nothing is known any more, and at their addresses others may be."""
        for gone in self._filed.keys() - members.keys() - {self._me}:
            del self._filed[gone], self._told[gone]
            self._other.discard(gone)
            self._proven.pop(gone, None)
            self._tellers.pop(gone, None)
        for come in members.keys() - self._filed.keys():
            self._filed[come] = self._told[come] = members[come]
        for number in members.keys() - {self._me}:
            self._follow(number, members[number], self._logged.get(number))
        self._logged = dict(members)
        self._settle()

    def __contains__(self, number: int) -> bool:
        return number in self._known

    def _follow(self, number: int, address: str, was: str | None) -> None:
        """What the log says of a member, and what it said before."""
        if was is not None and was != address:
            self._filed[number] = self._told[number] = address
            self._other.discard(number)
            self._tellers.pop(number, None)
        elif was is None and address != self._filed[number] == self._told[number]:
            self._told[number] = address
            self._other.add(number)  # the file comes first

    def known(self, number: int) -> str:
        """Where a member can be reached, to tell others."""
        return self._known[number]

    def to_dial(self, number: int) -> str:
        """Where to look for a member now."""
        return (self._filed if number in self._other else self._told)[number]

    def missed(self, number: int) -> None:
        """It was not found there: look at the other address."""
        self._other ^= {number}

    def found(self, number: int, address: str) -> None:
        """A member was dialled at this address, and has proven to be there."""
        if self._proven.get(number) != address:
            for other in [other for other, at in self._proven.items() if at == address and other != self._me]:
                del self._proven[other]  # it is there no more
            self._proven[number] = address
            self._settle()

    def tell(self, number: int, address: str) -> bool:
        """A member says where it can be reached; whether that is new. ConfigurationError if it is none."""
        parse_member_address(address)
        new = address != self._told[number]
        if new:
            self._told[number] = address
            self._other.discard(number)
            if number < self._me:
                self._tellers.pop(number, None)
                self._tellers[number] = None
                self._settle()
        return new

    def _settle(self) -> None:
        """Say anew what is known of each, those first whose word weighs most."""
        self._known = dict(self._filed)
        silent = self._filed.keys() - self._proven.keys() - self._tellers.keys()
        taken = set(self._proven.values()) | {self._filed[number] for number in silent}
        for number, address in self._proven.items():
            self._known[number] = address
        for number in self._tellers:
            address = self._told[number]
            if address not in taken:
                self._known[number] = address
                taken.add(address)
