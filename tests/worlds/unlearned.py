"""Registers that are left as they should not stay: accepted by some, and learned by nobody."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from basestore.protocol.replication import Accept, Learn, Prepare, Promised
from basestore.registers import announcements
from basestore.repair.paxos import ballot_of
from basestore.rows import row_partition
from tests.worlds.registers import RegisterWorld


@contextmanager
def unlearning() -> Iterator[None]:
    """Nobody learns what is chosen meanwhile: all are told to learn what is accepted under a ballot that
    nobody has used."""
    with patch.object(
        announcements, "Learn", lambda rows, ballots: Learn(rows, [bytes(16) for _ in ballots])
    ):
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


def left_unlearned(world: RegisterWorld, key: str) -> bytes:
    """A write that a quorum accepts and nobody learns. Returns its ballot."""
    home = world.home(key)
    world.lose = lambda sent: isinstance(sent.message, Learn)
    world.put_register(home, key, "first")
    with unlearning():
        stored = world.put_register(home, key, "left")
        world.settle()
    return ballot_of(stored.order)


def promised_by_all(world: RegisterWorld, key: str) -> tuple[bytes, Sequence[int], bytes]:
    """All acceptors have promised a ballot far above what they hold. Returns the row, them, and that."""
    row, replicas = world.row(key, "cas"), world.replicas(key, "cas")
    high = ballot(world.now(0).wall_ms + 1500 << 16, b"\xff")
    for at in replicas:
        assert isinstance(world.answers(at, Prepare(1, row, high, 0))[0], Promised)
    return row, replicas, high


def ballot(stamp: int, origin: bytes = b"\0") -> bytes:
    return stamp.to_bytes(8) + origin * 8


def come_again(world: RegisterWorld, index: int, key: str) -> None:
    """As if it had given up its seat and had it again since."""
    partition, seating = row_partition(world.row(key, "cas")), world.node(index).certificates.seating
    seats = seating.seats[partition]
    since = seats.since + 5
    seating.seats[partition] = seats._replace(since=since)
    seating.bind(seating.stores, seating.barred, {partition: since})
