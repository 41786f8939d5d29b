"""Acceptor: one of three that hold the rows of transactions, as those of any register.

    the row of a transaction is named by its ballot b0, and begins as if each acceptor had promised b0: so
    COMMITTED is accepted under b0 without a prepare, as long as nobody has promised more, and whoever wants
    to end the transaction needs a ballot above b0

`closed` follows the clock; ballots at or below it are refused, so promises there are dropped, and b0 alone
stands for them. It is held below whatever is accepted and not learned. What is at or below `stable` all three
have learned, or it is beaten there: tombstones go, and an answer says up to where they may have.
"""

from typing import NamedTuple

from tests.model.transactions.records import Ballot, Decision, Verdict, at


class Known(NamedTuple):
    """The greatest that it knows of a row, whether it is learned, and up to where tombstones may be gone."""

    decision: Decision | None
    learned: bool
    stable: int


class Refused(NamedTuple):
    known: Ballot


class Acceptor:
    def __init__(self, number: int, skew: int) -> None:
        self.number = number
        self.skew = skew
        self.closed = 0
        self.stable = 0
        self.promised: dict[Ballot, Ballot] = {}
        self.accepted: dict[Ballot, Decision] = {}
        self.learned: dict[Ballot, Decision] = {}

    def known(self, row: Ballot) -> Known:
        accepted, learned = self.accepted.get(row), self.learned.get(row)
        if accepted is not None and at(accepted) > at(learned):
            return Known(accepted, False, self.stable)
        return Known(learned, learned is not None, self.stable)

    def promise_of(self, row: Ballot) -> Ballot:
        return self.promised.get(row, self.promise_at_first(row))

    def promise_at_first(self, row: Ballot) -> Ballot:
        return row

    def is_closed(self, ballot: Ballot) -> bool:
        return ballot.stamp <= self.closed

    def refuse(self, row: Ballot) -> Refused:
        return Refused(max(self.promise_of(row), at(self.known(row).decision), Ballot(self.closed, 0)))

    def prepare(self, row: Ballot, ballot: Ballot) -> Known | Refused:
        known = self.known(row)
        if ballot <= max(self.promise_of(row), at(known.decision)) or self.is_closed(ballot):
            return self.refuse(row)
        self.promised[row] = ballot
        return known

    def accept(self, row: Ballot, decision: Decision) -> Known | Refused:
        ballot = decision.ballot
        if ballot < max(self.promise_of(row), at(self.accepted.get(row))) or self.is_closed(ballot):
            return self.refuse(row)
        if ballot <= at(self.learned.get(row)):
            return self.refuse(row)
        self.promised[row] = ballot
        self.accepted[row] = decision
        return self.known(row)

    def learn(self, row: Ballot, ballot: Ballot) -> None:
        accepted = self.accepted.get(row)
        if accepted is not None and accepted.ballot == ballot:
            self.take(row, accepted)

    def take(self, row: Ballot, decision: Decision) -> None:
        """What others have learned comes in by the same door."""
        if decision.ballot > at(self.learned.get(row)):
            self.learned[row] = decision
        if at(self.accepted.get(row)) <= at(self.learned.get(row)):
            self.accepted.pop(row, None)

    def merge(self, theirs: dict[Ballot, Decision]) -> None:
        for row, decision in theirs.items():
            if decision.ballot.stamp > self.stable:
                self.take(row, decision)

    def close(self, stamp: int) -> None:
        self.closed = max(self.closed, min([stamp, *self.holds()]))
        for row, promised in list(self.promised.items()):
            if row not in self.accepted and self.may_forget(promised):
                del self.promised[row]

    def holds(self) -> list[int]:
        return [decision.ballot.stamp - 1 for decision in self.accepted.values()]

    def may_forget(self, promised: Ballot) -> bool:
        return self.is_closed(promised)

    def purge(self) -> int:
        due = [row for row, decision in self.learned.items() if self.is_due(decision)]
        for row in due:
            del self.learned[row]
        return len(due)

    def is_due(self, decision: Decision) -> bool:
        return decision.verdict is Verdict.GONE and decision.ballot.stamp <= self.stable


def settle(acceptors: list[Acceptor]) -> None:
    """All three hold what any has learned; what is closed by then at all of them is stable."""
    for acceptor in acceptors:
        for other in acceptors:
            acceptor.merge(other.learned)
    closed = min(acceptor.closed for acceptor in acceptors)
    for acceptor in acceptors:
        acceptor.stable = max(acceptor.stable, closed)
