"""Cases of registers: who is an acceptor, what is forgotten, and what is finished before that."""

from basestore.instant import Instant
from basestore.protocol.client import IF_VERSION, OUTCOME_LOST, OUTCOME_STORED, Got
from basestore.protocol.replication import Accept, Prepare, Promised, Refused
from basestore.registers.acceptors import FINISH_S
from basestore.repair.compare_and_set import Attempt, Condition, Next
from basestore.repair.paxos import TOLD, Acceptor, Known
from basestore.repair.version import Record, Version
from basestore.storage import keyspace
from tests.simulation.cases.registry import shows
from tests.worlds.damaged import behind, chosen_by_two, heal, spoiling
from tests.worlds.registers import RegisterWorld
from tests.worlds.unlearned import accepted_by, ballot, come_again, left_unlearned, promised_by_all


def left_unfinished() -> tuple[RegisterWorld, int, int, int]:
    """What the first two of three have accepted nobody has learned, and nobody finishes. Then the second is
    wiped, and whole again by what the others hold."""
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    other, third = (at for at in range(3) if at != home)
    accepted_by(world, "k", "chosen", home, other)
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
    row, replicas, high = promised_by_all(world, "k")
    for at in replicas:
        world.lose_store(at)
        world.until(lambda at=at: world.votes(at, "k"), 60)  # type: ignore[misc]
    assert isinstance(world.answers(replicas[0], Prepare(2, row, high[:15] + b"\xfe", 0))[0], Refused)


@shows(
    "a promise goes though it is not closed", "an acceptor promises below what it has promised",
    family="registers",
)  # fmt: skip
def a_promise_stands_until_it_is_closed() -> None:
    world = RegisterWorld()
    world.put_register(0, "k", "0")
    row, home = world.row("k", "cas"), world.home("k")
    with_room = (world.now(home).wall_ms + 400 << 16).to_bytes(8) + b"\xff" * 8
    assert isinstance(world.answers(home, Prepare(1, row, with_room, 0))[0], Promised)
    world.run(3)
    assert isinstance(world.answers(home, Prepare(2, row, with_room[:15] + b"\xfe", 0))[0], Refused)


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


# --- what is damaged, void, or proposed again -------------------------------------------------------


@shows("what acceptors tell is not looked at", family="registers")
def a_promise_that_was_damaged_on_its_way_is_not_shown() -> None:
    world = RegisterWorld()
    reader = (world.home("k") + 1) % 3
    behind(world, reader)
    spoilt = spoiling(world)
    found = world.found_at(reader, "k")
    assert spoilt
    assert found == b"10"


@shows("a row that is healed forgets what it had accepted", family="registers")
def a_chosen_write_outlives_one_damaged_row() -> None:
    world = RegisterWorld(reconcile=True)
    home, other, third, _ = chosen_by_two(world)
    world.node(other).replica.pending = lambda row: b""
    heal(world, home)
    world.crash(other)
    world.run(3)
    assert world.found_at(third, "k") == b"chosen"


@shows("what is told of what others have accepted is counted", family="registers")
def what_only_others_have_accepted_is_told_and_not_counted() -> None:
    """What is healed has not accepted it: with who has, it is no quorum."""
    world = RegisterWorld(reconcile=True)
    home = world.home("k")
    other, third = [at for at in range(3) if at != home]
    world.put_register(home, "k", "old")
    world.settle()
    for at in range(3):
        world.node(at).registers.acceptors.finish = lambda row, now: None
    accepted_by(world, "k", "left", other)
    heal(world, third)
    assert world.node(third).registers.acceptors.count == 1
    row = world.row("k", "cas")
    told, own = (world.node(at).registers.acceptors.standing(row)[0] for at in (third, other))
    assert (told.accepted, told.since) == (own.accepted, TOLD)
    world.crash(other)
    world.run(3.0)
    assert world.found_at(home, "k") in (b"old", b"left")
    assert world.found_at(third, "k") == world.found_at(home, "k")


@shows("what was void takes promises with it", family="registers")
def what_an_earlier_tenure_has_accepted_goes_without_what_was_promised_since() -> None:
    world = RegisterWorld()
    home, row = world.home("k"), world.row("k", "cas")
    stamp = int.from_bytes(left_unlearned(world, "k")[:8])
    mine, promised = world.node(home).registers.acceptors, ballot(stamp + (1000 << 16))
    come_again(world, home, "k")
    (answer,) = world.answers(home, Prepare(1, row, promised, 0))
    assert isinstance(answer, Promised)
    assert answer.record[:16] != ballot(stamp)
    now = world.now(home)
    mine.tick(Instant(now.wall_ms + 6000, now.monotonic + FINISH_S + 1))
    assert mine.count == 0
    held = world.node(home).group_commit.get(keyspace.acceptor(row))
    assert held is not None
    assert Acceptor.decode(held).promised == promised
    (answer,) = world.answers(home, Prepare(1, row, ballot(stamp + (500 << 16)), 0))
    assert isinstance(answer, Refused)


@shows("a write that is proposed again is another one", family="registers")
def a_write_that_is_proposed_again_keeps_its_identity() -> None:
    first, found = Version(5, 1, 5).encode(), Known(None, True)
    once = Attempt(Condition.UNCONDITIONAL, b"", b"proposal").proposed(first, found)
    assert once.proposed(Version(7, 1, 7).encode(), found).identity == first


@shows("what was sent is lost, and may be chosen yet", family="registers")
def what_was_lost_once_is_not_chosen_later() -> None:
    """One replica has accepted it, which is not reached any more once what it was to replace has expired."""
    world = RegisterWorld(4, reconcile=True, timeout_ms_max=5000)
    replicas = world.replicas("k", "cas")
    (asked,) = set(range(4)).difference(replicas)
    held = world.done(world.write(asked, "k", "1", ttl_s=0.8))
    world.settle()
    for replica in replicas:  # so it does it itself
        world.node(asked).peers.disk_behind[replica] = True
    world.lose = lambda sent: isinstance(sent.message, Accept) and sent.target != replicas[0]
    call = world.write(asked, "k", "2", IF_VERSION, held.version, timeout_s=4.0)
    world.until(lambda: world.node(replicas[0]).registers.acceptors.count == 1)
    world.lose = lambda sent: False
    for replica in replicas:
        world.part(asked, replica)
    world.run(0.9)
    for replica in replicas[1:]:
        world.join(asked, replica)
    assert world.done(call).outcome == OUTCOME_LOST
    world.join(asked, replicas[0])
    world.run(8)
    assert {world.found_at(at, "k") for at in range(4)} == {None}


@shows("what may have expired elsewhere is lost to it", family="registers")
def who_else_is_at_it_may_judge_by_another_clock_or_later() -> None:
    expected, identity = Version(3, 1, 3).encode(), Version(9, 1, 9).encode()
    held = Record.seal(
        RegisterWorld(1).digester, b"row", Version(8, 1, 8), b"v", expires_ms=99,
        descent=expected + Version(2, 1, 2).encode(),
    )  # fmt: skip
    for known_as in (b"", identity):
        again = Attempt(Condition.IF_VERSION, expected, b"proposal", known_as, again=True)
        assert again.weigh(Known(held, True), 100) is Next.UNKNOWN
    absent = Attempt(Condition.IF_ABSENT, b"", b"proposal", identity, again=True)
    assert absent.weigh(Known(held, True), 98) is Next.UNKNOWN
    assert absent._replace(final=True).weigh(Known(held, True), 98) is Next.LOST  # there none ever goes
    another = Attempt(Condition.IF_VERSION, Version(2, 1, 2).encode(), b"proposal", identity, again=True)
    assert another.weigh(Known(held, True), 98) is Next.LOST  # its place was taken


@shows("a version that is not there never comes", family="registers")
def a_version_that_few_have_accepted_may_be_chosen_yet() -> None:
    known = Known(Record.seal(RegisterWorld(1).digester, b"row", Version(3, 1, 3), b"v"), True)
    expected, identity = Version(5, 1, 5).encode(), Version(9, 1, 9).encode()
    again = Attempt(Condition.IF_VERSION, expected, b"proposal", identity, again=True)
    assert again.weigh(known, 0) is Next.UNKNOWN
