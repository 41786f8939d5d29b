"""What transactions lay on rows is not told, but what they make of them. Covers `feeds/feed.py`."""

from basestore.transactions.transaction import Phase
from tests.worlds.transactions import TransactionWorld, sets
from tests.worlds.watchers import Watcher

TURNS_MAX = 400


def test_an_intent_is_told_as_what_was_there_before_and_then_as_what_it_has_become() -> None:
    world = TransactionWorld()
    world.put_register(0, "a", "1")
    watcher = Watcher(world, 0, bucket="cas", everything=True).begin()
    world.transact(1, sets("a", "2"), sets("b", "2"))
    for _ in range(TURNS_MAX):
        if any(each.phase is Phase.SETTLE for each in world.node(1).transactions.open):
            break
        world.turn()
    assert world.intents()
    late = Watcher(world, 0, bucket="cas", everything=True).begin()
    world.tidied()
    watcher.follow(2.0)
    late.follow(2.0)
    for each in (watcher, late):
        assert {value for _, value in each.told} <= {b"1", b"2"}
        assert each.held == {b"a": b"2", b"b": b"2"}
