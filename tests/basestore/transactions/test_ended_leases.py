"""A lease whose holder is gone is ended by the home of its lock; a fence holds as long as its lease does.

Covers `transactions/ended_leases.py`, and fences in `transactions/transaction.py`.
"""

import pytest

from basestore.errors import Contended, FencedOff
from basestore.leases import LOCKS, Holding, encode_token
from basestore.protocol.client import HELD, HOLDS_NOTHING, SET, Committed, Failed
from basestore.topology.buckets import LOCKED
from basestore.transactions import ended_leases, transaction
from basestore.transactions.transaction import Phase
from tests.worlds.changing import create, drop
from tests.worlds.transacting import left_unheard
from tests.worlds.transactions import WHATEVER, Step, TransactionWorld, sets

STORED = LOCKED.decode()  # the bucket, as rows name it
LEASE_MS = 1000
ENDED_S = 1.25  # of a second, seen unchanged
SLACK_S = 1.5  # until it is looked at, twice


def held(token: int = 1, keys: tuple[tuple[str, bytes], ...] = ()) -> Holding:
    return Holding(token, b"h" * 16, "n7", LEASE_MS, 0, keys)


def takes(lock: str, holding: Holding, expected: bytes = WHATEVER) -> Step:
    return Step(SET, lock, holding.encode(), expected, LOCKS)


def fenced(lock: str, token: int) -> Step:
    return Step(HELD, lock, "", encode_token(token), LOCKS)


def lock_of(world: TransactionWorld, lock: str, at: int = 0) -> Holding:
    record = world.stored(at, lock, STORED)
    assert record is not None
    return Holding.decode(record.value)


class TestEnded:
    def test_a_lease_that_is_not_renewed_goes_with_what_was_ephemeral(self) -> None:
        world = TransactionWorld()
        world.committed(0, takes("jobs", held(3, (("cas", b"e"),))), sets("e", "here"))
        world.run(ENDED_S - 0.2)
        assert lock_of(world, "jobs").holder
        world.run(0.2 + SLACK_S)
        for at in range(3):
            free = lock_of(world, "jobs", at)
            assert (free.token, free.holder, free.keys) == (3, b"", ())
            assert world.found_at(at, "e") is None

    def test_what_was_ephemeral_in_a_bucket_that_is_dropped_is_in_nobodys_way(self) -> None:
        world = TransactionWorld()
        create(world, "carts", rule="register")
        drop(world, "carts")
        world.run(1.0)
        world.committed(0, takes("jobs", held(3, (("carts", b"e"), ("cas", b"e")))), sets("e", "here"))
        home = world.node(world.home("jobs", STORED))
        world.run(0.2)
        home.peers.tell_epoch(home.peers.others[0].index, home.peers.epoch + 1)
        world.run(ENDED_S + SLACK_S)
        assert lock_of(world, "jobs").holder  # who is behind does not know which buckets there are
        home.peers.tell_epoch(home.peers.others[0].index, home.peers.epoch)
        world.run(2 * ENDED_S + SLACK_S)
        assert not lock_of(world, "jobs").holder
        assert world.found_at(1, "e") is None

    def test_one_that_is_renewed_stays(self) -> None:
        world = TransactionWorld()
        for _ in range(8):
            world.committed(0, takes("jobs", held()))
            world.run(0.5)
        assert lock_of(world, "jobs").holder

    def test_it_is_ended_where_nobody_has_stamped_for_long(self) -> None:
        """The clock's ceiling is passed then, and raised when somebody waits for it."""
        world = TransactionWorld()
        world.committed(0, takes("jobs", held()))
        for _ in range(40):  # as long as it is held it is looked at, at moments that do not depend on that
            world.run(0.25)
            if not lock_of(world, "jobs").holder:
                return
        raise AssertionError("it is held for ever")

    def test_of_many_locks_all_are_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ended_leases, "LOOKED_MAX", 4)
        monkeypatch.setattr(ended_leases, "ENDED_AT_ONCE", 3)
        world = TransactionWorld(partitions=1)
        names = [f"lock {number}" for number in range(15)]
        for name in names:
            world.committed(0, takes(name, held()))
        world.until(lambda: not any(lock_of(world, name).holder for name in names), 60.0)

    def test_of_more_than_can_be_remembered_all_are_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ended_leases, "SEEN_MAX", 2)
        world = TransactionWorld(partitions=1)
        renewed, left = ["lock 0", "lock 1"], ["lock 2", "lock 3", "lock 4"]
        for name in (*renewed, *left):
            world.committed(0, takes(name, held()))
        for _ in range(24):
            for name in renewed:
                world.committed(0, takes(name, held()))
            world.run(0.5)
        assert [bool(lock_of(world, name).holder) for name in (*renewed, *left)] == [True] * 2 + [False] * 3

    def test_another_home_counts_anew(self) -> None:
        world = TransactionWorld()
        world.committed(0, takes("jobs", held()))
        world.run(1.0)
        home = world.home("jobs", STORED)
        world.crash(home)
        other = next(at for at in range(3) if at != home)
        world.run(ENDED_S + SLACK_S + 2.0)
        assert not lock_of(world, "jobs", other).holder

    def test_who_is_the_home_no_more_counts_none(self) -> None:
        world = TransactionWorld(1)
        world.committed(0, takes("jobs", held()))
        world.run(1.0)
        assert world.node(0).transactions.locks == 1
        world.run(ENDED_S + SLACK_S)
        assert world.node(0).transactions.locks == 0


class TestFences:
    def test_a_write_is_done_while_the_lease_is_held(self) -> None:
        world = TransactionWorld()
        world.committed(0, takes("jobs", held(7)))
        assert isinstance(world.answered(world.transact(1, sets("a", "1"), fenced("jobs", 7))), Committed)
        assert world.found_at(2, "a") == b"1"

    @pytest.mark.parametrize("token", [6, 8])
    def test_it_is_fenced_off_under_another_token(self, token: int) -> None:
        world = TransactionWorld()
        world.committed(0, takes("jobs", held(7)))
        refused = world.refused(1, sets("a", "1"), fenced("jobs", token))
        assert refused.code == FencedOff.code
        assert "token 7" in refused.text
        assert world.found_at(2, "a") is None
        world.tidied()

    def test_it_is_fenced_off_where_nobody_has_the_lock(self) -> None:
        world = TransactionWorld()
        for holding in (None, held(7).free):
            if holding is not None:
                world.committed(0, takes("jobs", holding, HOLDS_NOTHING))
            refused = world.refused(1, sets("a", "1"), fenced("jobs", 7))
            assert refused.code == FencedOff.code
            assert "by nobody" in refused.text

    def test_what_a_lock_comes_to_that_is_being_changed_is_no_reason_to_be_fenced_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its time ends before that is decided: then only that is so."""
        monkeypatch.setattr(transaction, "gives_way", lambda *_: False)  # as if it were the older one
        world = TransactionWorld()
        world.committed(0, takes("jobs", held(7)))
        other = next(at for at in range(3) if at not in (world.home("a"), world.home("jobs", STORED)))
        left_unheard(world, other, Phase.DECIDE, takes("jobs", held(7, (("cas", b"e"),))), sets("e", "1"))
        asked = world.transact(world.home("a"), sets("a", "1"), fenced("jobs", 7), timeout_s=0.6)
        answer = world.answered(asked)
        assert isinstance(answer, Failed)
        assert answer.code == Contended.code
