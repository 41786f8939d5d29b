"""Transactions as clients see them, over real nodes. Covers `transactions/transaction.py`,
`transactions/transactions.py` and `transactions/decisions.py`."""

import pytest

from basestore.errors import Conflict, InvalidRequest
from tests.worlds.transactions import HOLDS_NOTHING, TransactionWorld, deletes, reads, sets


class TestCommit:
    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_several_keys_are_written_at_once(self, count: int) -> None:
        world = TransactionWorld(count)
        first = world.put_register(0, "a", "1")
        world.put_register(0, "b", "2")
        versions = world.committed(
            count - 1, sets("a", "3", first.version), deletes("b"), sets("c", "4", HOLDS_NOTHING)
        )
        assert [world.found_at(at, "a") for at in range(count)] == [b"3"] * count
        assert world.found_at(0, "b") is None
        assert world.found_at(count - 1, "c") == b"4"
        assert world.version_of("a") == versions[0]
        assert world.version_of("c") == versions[2]
        world.tidied()

    def test_nothing_is_written_where_what_was_read_has_changed(self) -> None:
        world = TransactionWorld()
        first = world.put_register(0, "a", "1")
        world.put_register(1, "a", "2")
        failed = world.refused(2, sets("a", "3", first.version), sets("b", "3"))
        assert failed.code == Conflict.code
        assert "bucket 'cas', key b'a' was written since it was read" in failed.text
        assert world.found_at(0, "a") == b"2"
        assert world.found_at(0, "b") is None
        world.tidied()

    def test_nor_where_a_key_that_was_only_read_has(self) -> None:
        world = TransactionWorld()
        read = world.put_register(0, "a", "1").version
        world.put_register(1, "a", "2")
        assert world.refused(2, reads("a", read), sets("b", "3")).code == Conflict.code
        assert world.refused(2, reads("c", read), sets("b", "3")).code == Conflict.code
        assert world.refused(2, reads("a", HOLDS_NOTHING), sets("b", "3")).code == Conflict.code
        assert world.found_at(0, "b") is None
        world.committed(2, reads("a", world.version_of("a")), reads("c", HOLDS_NOTHING), sets("b", "3"))
        assert world.found_at(0, "b") == b"3"

    def test_what_was_rolled_back_is_what_it_was(self) -> None:
        world = TransactionWorld()
        a = world.put_register(0, "a", "1").version
        b = world.put_register(0, "b", "1").version
        world.put_register(0, "b", "2")
        world.refused(1, sets("a", "3", a), sets("b", "3", b))
        assert world.version_of("a") == a
        assert world.put_register(2, "a", "4", 2, a).outcome == 0

    def test_of_reads_alone_it_says_whether_all_held_at_once(self) -> None:
        world = TransactionWorld()
        a, b = (world.put_register(0, key, "1").version for key in "ab")
        assert world.committed(1, reads("a", a), reads("b", b)) == []
        world.put_register(0, "b", "2")
        assert world.refused(1, reads("a", a), reads("b", b)).code == Conflict.code


class TestRefused:
    def test_another_kind_of_bucket(self) -> None:
        world = TransactionWorld()
        failed = world.refused(0, sets("a", "1"), sets("b", "1", bucket="default"))
        assert failed.code == InvalidRequest.code
        assert "bucket 'default' does not compare" in failed.text
        assert world.found_at(0, "a") is None
