"""What a coordinator that has died has left is brought to an end, also where some of it cannot be. Covers
`transactions/leftovers.py`."""

from collections.abc import Iterator

import pytest

from basestore.protocol.client import Committed
from basestore.protocol.membership import OF_RAFT, At, Base
from basestore.repair.compare_and_set import Condition
from basestore.rows import row_partition
from basestore.topology.topology import later_label
from basestore.transactions import leftovers
from basestore.transactions.transaction import Phase
from tests.worlds.changing import create, drop
from tests.worlds.transacting import key_at, left
from tests.worlds.transactions import TransactionWorld, sets
from tests.worlds.world import Sent

COORDINATOR, HOME, THIRD = 0, 1, 2
LEFT_S = 10.0  # in which all is brought to an end that can be


def settles(sent: Sent) -> bool:
    return getattr(sent.message, "condition", 0) == Condition.SETTLE.value


def of_the_log(sent: Sent) -> bool:
    """Whether this tells the one that is behind of what the cluster is."""
    return sent.target == HOME and isinstance(sent.message, (*OF_RAFT, At, Base))


def keys_at(world: TransactionWorld, bucket: str, home: int) -> Iterator[str]:
    """Keys of a bucket, named as rows name it, that this node writes."""
    return (key for key in map(str, range(1000)) if world.home(key, bucket) == home)


class Behind:
    """A bucket is made of which the home of a partition does not hear. There transactions are decided that
    write to it, and to others; their coordinator dies before any intent is settled."""

    def __init__(self) -> None:
        self.world = world = TransactionWorld()
        world.lose = of_the_log
        self.label = later_label(create(world, "carts", at=THIRD, rule="register")).decode()
        world.lose = lambda sent: of_the_log(sent) or settles(sent)
        self._theirs, self._known = keys_at(world, self.label, THIRD), keys_at(world, "cas", THIRD)

    def commit(self, *, known: bool) -> tuple[bytes, str]:
        """One that is decided there, with the first of its keys. `known`: both its buckets are."""
        for _ in range(50):
            before, step = set(self.world.decisions()), sets(next(self._known), "1")
            if not known:
                step = sets(next(self._theirs), "1", bucket="carts")
            call = self.world.transact(COORDINATOR, step, sets(next(self._known), "2"))
            assert isinstance(self.world.answered(call), Committed)
            (row,) = self.world.decisions().keys() - before
            if self.world.placement.replicas[row_partition(row)][0] == HOME:
                return row, step.key
        raise AssertionError("all are decided elsewhere")

    def run(self, seconds: float) -> None:
        """The coordinator is dead."""
        self.world.crash(COORDINATOR)
        self.world.lose = of_the_log
        self.world.run(seconds)


class TestADroppedBucket:
    def test_what_is_committed_there_goes_with_it(self) -> None:
        world = TransactionWorld(reconcile=True)
        label = later_label(create(world, "carts", rule="register")).decode()
        theirs, ours = next(keys_at(world, label, HOME)), key_at(world, HOME)
        world.lose = settles
        call = world.transact(COORDINATOR, sets(theirs, "1", bucket="carts"), sets(ours, "2"))
        assert isinstance(world.answered(call), Committed)
        world.crash(COORDINATOR)
        drop(world, "carts", at=HOME)
        world.lose = lambda sent: False
        world.tidied()
        assert world.found_at(HOME, ours) == b"2"

    def test_what_is_not_known_here_yet_is_not_gone(self) -> None:
        """Or its intents would find nothing of what was decided, and be undone."""
        behind = Behind()
        row, key = behind.commit(known=False)
        behind.run(LEFT_S)
        assert row in behind.world.decisions()
        behind.world.lose = lambda sent: False
        behind.world.tidied()
        assert behind.world.values(key, behind.label)[THIRD] == b"1"


class TestWhatCannotBeDoneYet:
    def test_decisions_that_must_wait_leave_their_turn_to_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leftovers, "BUSY_MAX", 1)
        behind = Behind()
        waiting = {behind.commit(known=False)[0] for _ in range(3)}
        other, _ = behind.commit(known=True)
        assert row_partition(other) in map(row_partition, waiting)
        behind.run(12 * LEFT_S)
        left_yet = behind.world.decisions().keys()
        assert waiting <= left_yet
        assert other not in left_yet

    def test_rows_that_are_damaged_leave_their_turn_to_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leftovers, "BUSY_MAX", 2)
        world = TransactionWorld()
        keys = [key for key, _ in zip(keys_at(world, "cas", HOME), range(3), strict=False)]
        left(world, COORDINATOR, Phase.DECIDE, *(sets(key, "1") for key in keys))
        for key in keys[:2]:
            world.spoil(HOME, key, "cas")
        world.run(LEFT_S)
        damaged = world.node(HOME).replica.damaged
        assert [world.row(key, "cas") in damaged for key in keys] == [True, True, False]
        settled = world.stored(HOME, keys[2], "cas")
        assert settled is not None
        assert settled.tombstone
