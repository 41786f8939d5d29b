"""`python -m tests.cluster.dying_coordinators serve ...`: a node that ends itself as by kill -9, at a moment
that it is told, of a transaction that its client has asked it to commit.

    DIES_AT       which moment
                  "begun"        nothing of it was asked of anybody
                  "one laid"     one of its intents is laid; others may be
                  "all laid"     all of them are, and nothing is decided
                  "decided"      it is committed, and its client was not told
                  "one settled"  its client was told, and one of its intents is settled
                  "all settled"  all of them are, and the decision stands there yet
    DIES_AFTER    how many transactions were begun before

Without these it is a node like any other.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from basestore.cli import main as command
from basestore.registers.task import Done
from basestore.transactions.transaction import Phase, Transaction
from tests.cluster.dying import die
from tests.cluster.processes import SERVE, NodeProcess

BEGUN, ONE_LAID, ALL_LAID, DECIDED, ONE_SETTLED, ALL_SETTLED = MOMENTS = (
    "begun", "one laid", "all laid", "decided", "one settled", "all settled",
)  # fmt: skip
METHODS: Final = {
    BEGUN: "begin",
    ONE_LAID: "_laid",
    ALL_LAID: "_decide",
    DECIDED: "_decided",
    ONE_SETTLED: "_answered_one",
    ALL_SETTLED: "_forget",
}


def mortal(node: NodeProcess) -> None:
    """Have it run by this program from its next start on."""
    node.command = (sys.executable, "-m", "tests.cluster.dying_coordinators", *SERVE)


class Death:
    """Watches what this node's transactions come to. The first that comes to the moment, of those that are
    begun after so many, is the last."""

    def __init__(self, moment: str, after: int) -> None:
        self._moment, self._left = moment, after
        self._settled: set[Transaction] = set()  # that have been asked to settle their intents

    def install(self) -> None:
        """Watch from now on."""
        self._before("begin", self._count)
        self._before(METHODS[self._moment], self._look)

    def _before(self, name: str, look: Callable[..., None]) -> None:
        method = getattr(Transaction, name)

        def looked_at(transaction: Transaction, *arguments: Any) -> None:
            look(transaction, *arguments)
            method(transaction, *arguments)

        setattr(Transaction, name, looked_at)

    def _count(self, transaction: Transaction, *_: Any) -> None:
        self._left -= 1

    def _look(self, transaction: Transaction, *arguments: Any) -> None:
        if self._left < 0 and self._is_there(transaction, *arguments):
            die()

    def _is_there(self, transaction: Transaction, *arguments: Any) -> bool:
        if self._moment == ONE_LAID:
            return isinstance(arguments[1], Done)
        if self._moment == DECIDED:
            return isinstance(arguments[0], Done)
        if self._moment == ONE_SETTLED and transaction.phase is Phase.SETTLE:
            known = transaction in self._settled
            self._settled.add(transaction)
            return known
        return self._moment in (BEGUN, ALL_LAID, ALL_SETTLED)


def main() -> None:
    """The command; its node dies as it is told."""
    if "DIES_AT" in os.environ:
        Death(os.environ["DIES_AT"], int(os.environ["DIES_AFTER"])).install()
    command()


if __name__ == "__main__":
    main()
