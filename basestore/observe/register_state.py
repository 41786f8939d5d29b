"""Register state: how a node stands as an acceptor of registers, for whoever watches it.

Rows whose replicas agree on each write (`registers/acceptors.py`) are accepted first, and learned a moment
later. What stays accepted could not be finished: too few acceptors answer. And whose store was lost is no
acceptor until it is taken in. What transactions have laid on rows is settled in moments, too; what lies for
long cannot be. Read off the rooms that this is about; changes nothing.
"""

from typing import NamedTuple, Protocol, Self

from basestore.cluster.seating import Seating
from basestore.instant import Instant
from basestore.registers.acceptors import Acceptors


class UnderWay(Protocol):
    """What a node says of its transactions (`transactions/transactions.py`)."""

    @property
    def count(self) -> int: ...
    @property
    def oldest_s(self) -> float | None: ...
    @property
    def intents(self) -> int: ...
    @property
    def blocked(self) -> int: ...
    @property
    def locks(self) -> int: ...


class Lying(Protocol):
    """What a node says of the parts of atomic batches that it holds (`batches/batches.py`)."""

    @property
    def count(self) -> int: ...
    def oldest_ms(self, now: Instant) -> int | None: ...


def batch_facts(batches: Lying, now: Instant) -> dict[str, str]:
    """For `basestore status`: how many parts lie here of batches that are not over, and the oldest's age."""
    oldest_ms = batches.oldest_ms(now)
    age = "" if oldest_ms is None else str(oldest_ms)
    return {"batch parts unfinished": str(batches.count), "batch parts unfinished age ms": age}


class RegisterState(NamedTuple):
    """At one moment.

    unlearned  rows with a record that this node has accepted, and not learned
    oldest_ms  for how long the oldest of these waits; of what has waited before this start only the time
               since then counts. None where there is none
    barred     partitions in which this node is not taken in yet as an acceptor, for its store is another than
               before
    under_way  transactions that its clients have asked it to commit, and not done yet
    under_way_ms  for how long the oldest of them is
    intents    rows of its store that hold an intent of any transaction
    blocked    rows whose requests wait here for an intent to be settled
    locks      that are held, of those whose register it writes
    """

    unlearned: int
    oldest_ms: int | None
    barred: int
    under_way: int
    under_way_ms: int | None
    intents: int
    blocked: int
    locks: int

    @classmethod
    def of(
        cls, acceptors: Acceptors, transactions: UnderWay, seating: Seating, store: bytes,
        opened: Instant, now: Instant,
    ) -> Self:  # fmt: skip
        """`store`: that the node runs on; `opened`: when it was."""
        since_s, oldest_ms = acceptors.oldest_s, None
        if since_s is not None:
            oldest_ms = max(0, int((now.monotonic - max(since_s, opened.monotonic)) * 1e3))
        begun_s = transactions.oldest_s
        under_way_ms = None if begun_s is None else max(0, int((now.monotonic - begun_s) * 1e3))
        return cls(
            acceptors.count, oldest_ms, seating.left_out(store), transactions.count, under_way_ms,
            transactions.intents, transactions.blocked, transactions.locks,
        )  # fmt: skip

    def facts(self) -> dict[str, str]:
        """For `basestore status`, as names and values."""
        return {
            "register rows unlearned": str(self.unlearned),
            "register rows unlearned age ms": "" if self.oldest_ms is None else str(self.oldest_ms),
            "register partitions barred": str(self.barred),
            "transactions open": str(self.under_way),
            "transactions open age ms": "" if self.under_way_ms is None else str(self.under_way_ms),
            "transaction intents": str(self.intents),
            "transaction rows blocked": str(self.blocked),
            "locks held": str(self.locks),
        }
