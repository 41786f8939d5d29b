"""Who waits for an intent goes on once it is gone, and waits no longer than its own time lasts. Covers
`transactions/helping.py`."""

from basestore.protocol.client import Committed, Failed
from basestore.transactions.transaction import Phase
from tests.worlds.transacting import answered_and_left, begun, key_at, left, silence, speak
from tests.worlds.transactions import HOLDS_NOTHING, TransactionWorld, reads, sets


class TestWhoReadsWhatAnotherWrites:
    def test_it_goes_on_once_the_other_has_undone_its_intent(self) -> None:
        """The other says no word of that in its register; and who waits is not the home of the row."""
        world = TransactionWorld()
        a, b, c = key_at(world, 1), key_at(world, 2), key_at(world, 2, 1)
        first = world.put_register(0, a, "1").version
        world.settle()
        silence(world, 0)
        older = begun(world, 0, Phase.LAY, reads(a, first), sets(b, "2"))
        world.hold(1, 2)
        younger = world.transact(1, sets(a, "3"), sets(c, "3", first))
        world.settle()
        speak(world, 0)
        world.run(0.3)
        assert world.node(0).transactions.helping
        world.release(1, 2)
        world.run(0.3)
        assert isinstance(younger.reply(), Failed)
        assert isinstance(older.reply(), Committed)
        assert (world.found_at(0, a), world.found_at(0, b)) == (b"1", b"2")

    def test_it_is_answered_in_its_time_though_the_other_has_died(self) -> None:
        world = TransactionWorld()
        a, b = key_at(world, 1), key_at(world, 2)
        first = world.put_register(0, a, "1").version
        world.settle()
        call = begun(world, 0, Phase.LAY, reads(a, first), sets(b, "2"), timeout_s=1.0)
        left(world, 1, Phase.DECIDE, sets(a, "2"))
        begun_s = world.monotonic
        assert isinstance(world.answered(call), Failed)
        assert world.monotonic < begun_s + 1.1


class TestWhoMeetsWhatTheDeadHaveLeft:
    def test_what_was_told_to_be_committed_is_found(self) -> None:
        world = TransactionWorld()
        a, b = key_at(world, 1), key_at(world, 2)
        answered_and_left(world, 0, sets(a, "1"), sets(b, "2"))
        assert (world.found_at(1, a), world.found_at(2, b)) == (b"1", b"2")
        world.tidied()

    def test_what_was_not_decided_is_undone_after_two_seconds(self) -> None:
        world = TransactionWorld()
        a = key_at(world, 1)
        world.put_register(0, a, "0")
        left(world, 0, Phase.DECIDE, sets(a, "1"))
        begun_s = world.monotonic
        world.until(lambda: getattr(world.answered(world.seek(1, a)), "value", None) == b"0", 5.0)
        assert 1.5 < world.monotonic - begun_s < 2.5
        world.tidied()


class TestWhatWasReadAndHeldNothing:
    def test_it_is_locked_until_that_is_decided(self) -> None:
        """That it holds nothing again, later, would prove nothing of the time between."""
        world = TransactionWorld()
        left(world, 0, Phase.DECIDE, reads("a", HOLDS_NOTHING), sets("b", "1"), sets("c", "1"))
        world.settle()
        assert {row[-1:] for row, record in world.held_rows() if record.intent} == {b"a", b"b", b"c"}
        world.tidied()
        assert world.found_at(1, "a") is None
