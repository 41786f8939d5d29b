"""What an acceptor tells may be damaged, on its disk or on its way: it is neither shown nor finished. Covers
`registers/proposer.py`."""

from basestore.protocol.client import OUTCOME_LOST
from basestore.storage import keyspace
from tests.worlds.damaged import spoiling
from tests.worlds.registers import IF_ABSENT, RegisterWorld
from tests.worlds.unlearned import accepted_by


def test_a_promise_that_was_damaged_on_its_way_is_not_finished() -> None:
    """Else it would be sealed anew, and chosen."""
    world = RegisterWorld()
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    other, third = [at for at in range(3) if at != home]
    accepted_by(world, "k", "10", other)
    world.crash(home)
    world.run(3)
    spoilt = spoiling(world)
    assert world.put_register(third, "k", "no", IF_ABSENT).outcome == OUTCOME_LOST
    world.run(1)
    assert spoilt
    assert world.found_at(other, "k") in (b"10", b"0")


def test_what_is_accepted_and_damaged_on_the_disk_is_not_chosen() -> None:
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    other = next(at for at in range(3) if at != home)
    accepted_by(world, "k", "accepted", home, other)
    key, engine = keyspace.acceptor(world.row("k", "cas")), world.engines[home]
    stored = engine.get(key)
    assert stored is not None
    engine.apply({key: stored[:-1] + bytes((stored[-1] ^ 1,))})
    engine.sync()
    world.restart(home)
    world.run(8)
    assert {world.found_at(at, "k") for at in range(3)} == {b"accepted"}
