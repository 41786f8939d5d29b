"""Registers that are left as they should not stay: accepted by some, and learned by nobody."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from basestore.protocol.replication import Accept, Learn
from basestore.registers import learning
from tests.worlds.registers import RegisterWorld


@contextmanager
def unlearning() -> Iterator[None]:
    """Nobody learns what is chosen meanwhile: all are told to learn what is accepted under a ballot that
    nobody has used."""
    with patch.object(learning, "Learn", lambda rows, ballots: Learn(rows, [bytes(16) for _ in ballots])):
        yield


def accepted_by(world: RegisterWorld, key: str, value: str, *who: int) -> None:
    """A write that only these accept, and nobody learns."""
    home = world.home(key)
    world.lose = lambda sent: isinstance(sent.message, Accept) and sent.target not in who
    with unlearning():
        call = world.write(home, key, value, timeout_s=0.3)
        world.until(lambda: call.done)
    world.lose = lambda sent: False


def unfinished(world: RegisterWorld) -> None:
    """From now on nobody finishes by himself what is left."""
    for index in range(len(world.engines)):
        world.node(index).registers.acceptors.finish = lambda row, now: None
