"""Registers of which something is damaged: a record on a disk, or what an acceptor tells on its way."""

from basestore.consistency import Level
from basestore.protocol.client import IF_VERSION, OUTCOME_STORED
from basestore.protocol.replication import Accept, Learn, Prepare, Promised
from tests.worlds.registers import RegisterWorld
from tests.worlds.world import Sent


def chosen_by_two(world: RegisterWorld) -> tuple[int, int, int, bytes]:
    """The home and another have accepted "chosen", and the home alone has learned it. Returns these two, the
    third, and the version before it."""
    home = world.home("k")
    other, third = [at for at in range(3) if at != home]
    old = world.put_register(home, "k", "old")
    world.settle()
    world.hold(home, third)
    world.lose = lambda sent: isinstance(sent.message, Learn)
    stored = world.put_register(home, "k", "chosen", IF_VERSION, old.version)
    assert stored.outcome == OUTCOME_STORED
    world.settle()
    world.unlink(home, third)
    world.release(home, third)
    world.link(home, third)
    world.lose = lambda sent: False
    assert [world.values("k", "cas")[at] for at in (home, other, third)] == [b"chosen", b"old", b"old"]
    return home, other, third, old.version


def heal(world: RegisterWorld, index: int) -> None:
    """A flipped bit, found by the next read, and healed before anybody has finished what others hold."""
    world.spoil(index, "k", "cas")
    world.seek(index, "k", Level.ONE)
    world.run(0.1)
    assert world.node(index).replica.damaged
    world.run(2.0)
    assert not world.node(index).replica.damaged


def behind(world: RegisterWorld, who: int) -> None:
    """This one knows nothing yet of the last write, "10"; the others have learned it."""
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    world.lose = lambda sent: sent.target == who and isinstance(sent.message, Accept | Prepare | Learn)
    world.put_register(home, "k", "10")
    world.settle()
    world.lose = lambda sent: False


def spoiling(world: RegisterWorld) -> list[Sent]:
    """The next answers of acceptors are damaged on their way."""
    spoilt: list[Sent] = []

    def spoil(sent: Sent) -> bool:
        if isinstance(sent.message, Promised) and sent.message.record and not spoilt:
            spoilt.append(sent)
            blob = sent.message.record
            world.ways[sent.source, sent.target].append(sent.message._replace(record=blob[:-1] + b"7"))
            return True
        return False

    world.lose = spoil
    return spoilt
