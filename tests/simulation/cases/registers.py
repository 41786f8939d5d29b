"""Cases of registers: who is an acceptor, what is forgotten, and what is finished before that."""

from basestore.cluster.outbox import Outbox
from basestore.protocol.client import OUTCOME_STORED, Got
from basestore.protocol.replication import Prepare, Promised, Refused
from tests.simulation.cases.registry import shows
from tests.worlds.registers import RegisterWorld


def left_unfinished() -> tuple[RegisterWorld, int, int, int]:
    """What the first two of three have accepted nobody has learned, and nobody finishes. Then the second is
    wiped, and whole again by what the others hold."""
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    other, third = (at for at in range(3) if at != home)
    world.accepted_by("k", "chosen", home, other)
    for index in (home, third):
        world.node(index).registers.acceptors.finish = lambda row, now: None
    world.lose_store(other)
    world.run(30)
    assert world.node(other).state == "up"
    return world, home, other, third


@shows("a store that was wiped votes at once", family="registers")
def a_wiped_store_does_not_count_for_what_it_has_forgotten() -> None:
    world, home, _, third = left_unfinished()
    world.crash(home)
    world.run(8)
    call = world.seek(third, "k")
    world.run(2)
    answer = call.reply() if call.done else None
    assert not isinstance(answer, Got) or answer.value == b"chosen"


@shows("acceptors change before all is finished", family="registers")
def nobody_is_taken_in_while_something_is_to_be_finished() -> None:
    world, _, other, _ = left_unfinished()
    assert not world.votes(other, "k")


@shows("no floor is raised", family="registers")
def who_is_taken_in_knows_what_was_promised() -> None:
    world = RegisterWorld(5, reconcile=True)
    world.put_register(0, "k", "0")
    world.settle()
    row, replicas = world.row("k", "cas"), world.replicas("k", "cas")
    high = (world.now(0).wall_ms + 1500 << 16).to_bytes(8) + b"\xff" * 8
    for at in replicas:
        assert isinstance(asked(world, at, Prepare(1, row, high, 0)), Promised)
    for at in replicas:
        world.lose_store(at)
        world.until(lambda at=at: world.votes(at, "k"), 60)  # type: ignore[misc]
    assert isinstance(asked(world, replicas[0], Prepare(2, row, high[:15] + b"\xfe", 0)), Refused)


@shows(
    "a promise goes though it is not closed", "an acceptor promises below what it has promised",
    family="registers",
)  # fmt: skip
def a_promise_stands_until_it_is_closed() -> None:
    world = RegisterWorld()
    world.put_register(0, "k", "0")
    row, home = world.row("k", "cas"), world.home("k")
    with_room = (world.now(home).wall_ms + 400 << 16).to_bytes(8) + b"\xff" * 8
    assert isinstance(asked(world, home, Prepare(1, row, with_room, 0)), Promised)
    world.run(3)
    assert isinstance(asked(world, home, Prepare(2, row, with_room[:15] + b"\xfe", 0)), Refused)


@shows("nothing that is purged is doubted", family="registers")
def what_was_stored_and_deleted_and_purged_is_not_stored_again() -> None:
    world = RegisterWorld(reconcile=True)
    stored = world.put_register(0, "k", "1")
    world.done(world.remove(0, "k"))
    world.run(world.cluster.closed_lag_ms / 1e3 + 8)
    assert world.stored(world.home("k"), "k", "cas") is None
    call = world.write(0, "k", "1", identity=stored.identity, again=True)
    world.until(lambda: call.done)
    assert getattr(call.reply(), "outcome", None) != OUTCOME_STORED
    assert world.found_at(1, "k") is None


def asked(world: RegisterWorld, index: int, message: Prepare) -> object:
    """What a node answers to itself."""
    node, outbox = world.node(index), Outbox(set())
    node.registers.acceptors.prepare(node.me, outbox, message, world.now(index))
    node.group_commit.commit()
    node.engine.sync()
    node.group_commit.durable(node.group_commit.sequence)
    return next(each for each in outbox.take() if isinstance(each, Promised | Refused))
