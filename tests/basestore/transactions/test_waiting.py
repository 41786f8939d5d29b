"""Who waits for an intent goes on once it is gone, and waits no longer than its own time lasts. Covers
`transactions/helping.py`."""

from unittest.mock import patch

from basestore.coordinator.stamper import Stamper
from basestore.errors import OutcomeUnknown
from basestore.protocol.client import SET, Commit, Committed, Failed, Got, Written
from basestore.protocol.replication import Accept
from basestore.repair.clock import NotYet
from basestore.transactions.transaction import Phase
from tests.worlds.transacting import answered_and_left, begun, key_at, left, left_unheard, silence, speak
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

    def test_it_is_answered_in_its_time_though_the_other_is_silent(self) -> None:
        world = TransactionWorld()
        a, b = key_at(world, 1), key_at(world, 2)
        first = world.put_register(0, a, "1").version
        world.settle()
        call = begun(world, 0, Phase.LAY, reads(a, first), sets(b, "2"), timeout_s=1.0)
        left_unheard(world, 1, Phase.DECIDE, sets(a, "2"))
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

    def test_what_the_silent_have_not_decided_is_undone_after_two_seconds(self) -> None:
        world = TransactionWorld()
        a = key_at(world, 1)
        world.put_register(0, a, "0")
        left_unheard(world, 0, Phase.DECIDE, sets(a, "1"))
        begun_s = world.monotonic
        world.until(lambda: getattr(world.answered(world.seek(1, a)), "value", None) == b"0", 5.0)
        assert 1.5 < world.monotonic - begun_s < 2.5

    def test_nobody_waits_for_who_is_known_to_be_down(self) -> None:
        world = TransactionWorld()
        a = key_at(world, 1)
        world.put_register(0, a, "0")
        left(world, 0, Phase.DECIDE, sets(a, "1"))
        begun_s = world.monotonic
        world.until(lambda: getattr(world.answered(world.seek(1, a)), "value", None) == b"0", 5.0)
        assert world.monotonic - begun_s < 0.5
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


class TestManyWhoWait:
    def test_readers_of_one_key_wait_however_many_they_are(self) -> None:
        world = TransactionWorld()
        a, b = key_at(world, 1), key_at(world, 2)
        left(world, 0, Phase.DECIDE, sets(a, "1"), sets(b, "1"))
        calls = [world.seek(at % 2 + 1, a) for at in range(200)]
        assert {type(world.answered(call)) for call in calls} == {Got}

    def test_what_a_blocked_write_holds_is_counted(self) -> None:
        world = TransactionWorld()
        a = key_at(world, 1)
        left_unheard(world, 0, Phase.DECIDE, sets(a, "1"), sets(key_at(world, 2), "1"))
        operations = world.node(1).operations
        calls = [world.write(1, a, "x" * 100_000, timeout_s=2.9) for _ in range(5)]
        world.run(0.1)
        assert world.node(1).transactions.blocked == 1
        assert operations.bytes > 500_000
        assert {type(world.answered(call)) for call in calls} == {Written}
        world.run(1.0)
        assert (operations.count, operations.bytes) == (0, 0)


class TestWhatIsUnderWay:
    def test_what_it_holds_is_counted_until_it_ends(self) -> None:
        world = TransactionWorld()
        values = [sets(key_at(world, home), "x" * 100_000) for home in (1, 2)]
        call = begun(world, 0, Phase.DECIDE, *values)
        operations = world.node(0).operations
        assert operations.bytes > 200_000
        assert isinstance(world.answered(call), Committed)
        world.run(1.0)
        assert (operations.count, operations.bytes) == (0, 0)

    def test_what_waits_until_the_clock_may_stamp_counts_as_well(self) -> None:
        world = TransactionWorld()
        node = world.node(0)
        values = [sets(key_at(world, home), "x" * 100_000) for home in (1, 2)]
        with patch.object(Stamper, "ballot", side_effect=NotYet):
            calls = [world.transact(0, *values) for _ in range(3)]
            world.transact(0, *values, timeout_s=0.2)
            world.run(0.1)
            assert (node.transactions.count, len(node.transactions.open)) == (4, 0)
            assert node.operations.bytes > 800_000
            world.run(0.2)
            assert node.transactions.count == 3
        node.context.stamper.resume(world.now(0))
        assert all(isinstance(world.answered(call), Committed | Failed) for call in calls)
        world.run(1.0)
        assert (node.transactions.count, node.operations.bytes) == (0, 0)


def test_of_one_write_alone_nobody_is_said_to_wait() -> None:
    """What was accepted by one of three may be chosen later: a reader does not find an intent."""
    world = TransactionWorld()
    a = key_at(world, 0)
    world.lose = lambda sent: isinstance(sent.message, Accept) and sent.source == 0 and sent.target != 0
    alone = Commit(0, 1000, ["cas"], [a.encode()], [SET], [b""], [b"1"], [0])
    failed = world.answered(world.ask(0, lambda request: alone._replace(id=request)))
    assert failed.code == OutcomeUnknown.code
    assert "may come to hold it yet. Read it" in failed.text
    assert "waits" not in failed.text
