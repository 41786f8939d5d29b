"""Explain of a register: what each replica is to the row as an acceptor, and what is chosen.

Covers `observe/trace.py`, `coordinator/explain.py`, `results/weighing.py` and `cli/cluster/explain.py`, where
they are of registers.
"""

import pytest

from basestore.cli.cluster.explain import in_words
from basestore.consistency import Level
from basestore.errors import ConnectionLost
from basestore.protocol.client import OUTCOME_STORED
from basestore.protocol.operator import DOWN, Explain, Explained, ReplicaRow
from basestore.protocol.replication import ACCEPTOR, AcceptorRow
from basestore.repair.paxos import ballot_text
from basestore.repair.rule import Rule
from basestore.repair.version import Record, Version
from basestore.results.explanation import AcceptorView, Explanation, Mend
from basestore.results.weighing import explanation
from basestore.topology.changes import DrainMember
from tests.worlds.moving import asked
from tests.worlds.registers import RegisterWorld
from tests.worlds.unlearned import accepted_by, unfinished, unlearning


def explain(world: RegisterWorld, key: str, bucket: str = "cas", at: int = 0) -> Explanation:
    call = world.ask(at, lambda request: Explain(request, bucket, key.encode(), 1000))
    world.until(lambda: call.done, 2)
    told = explanation(call.reply(), bucket, key.encode(), world.cluster.names)
    assert in_words(told)
    assert told.as_json()
    return told


def named(world: RegisterWorld, *members: int) -> list[str]:
    return [world.cluster.members[index].name for index in members]


def view(told: Explanation, name: str) -> AcceptorView:
    found = told.replicas[name].acceptor
    assert found is not None
    return found


def other_than(home: int) -> tuple[int, int]:
    one, two = [index for index in range(3) if index != home]
    return one, two


def test_what_is_learned_is_chosen_and_each_acceptor_says_what_it_knows() -> None:
    world = RegisterWorld()
    stored = world.put_register(0, "k", "v")
    world.settle()
    told, version = explain(world, "k", at=2), Version.decode(stored.order)
    assert (told.winner, told.known_as, told.pending) == (version, version, None)
    assert told.reason == "chosen: learned at all replicas"
    assert set(told.reads.values()) == {(version,)}
    for index, name in enumerate(("n1", "n2", "n3")):
        acceptor = view(told, name)
        assert (acceptor.store, acceptor.role) == (
            world.node(index).registers.acceptors.accepts(),
            "acceptor",
        )
        assert acceptor.promised is not None  # of the next write
        assert acceptor.promised > ballot_text(stored.order[:16]) == acceptor.learned
        assert (acceptor.accepted, acceptor.learned_as) == (None, version)
        assert f"\n{name}        {acceptor.store.hex()[:8]}  counts  {acceptor.promised}" in in_words(told)
    assert told.mends == ()


def test_an_acceptor_that_was_killed_under_interval_is_shown_as_the_one_that_it_is() -> None:
    world = RegisterWorld(durability="interval", reconcile=True)
    world.put_register(0, "k", "1")
    world.settle()
    index = other_than(world.home("k"))[0]
    before = world.node(index).identity.store
    world.restart(index)
    world.run(30)
    assert world.node(index).identity.store != before, "its last moments may be lost"
    told = explain(world, "k")
    assert [view(told, name).role for name in ("n1", "n2", "n3")] == ["acceptor"] * 3
    assert told.mends == ()
    assert world.state(index).facts["register partitions barred"] == "0"


def test_in_other_buckets_nothing_is_said_of_acceptors() -> None:
    world = RegisterWorld()
    world.put(0, "k", "v", Level.ALL)
    told = explain(world, "k", "default")
    assert [each.acceptor for each in told.replicas.values()] == [None] * 3
    assert told.as_json()["replicas"]["n1"]["acceptor"] is None
    assert (told.known_as, told.reason) == (None, "all replicas agree")
    assert "ACCEPTOR" not in in_words(told)


def test_a_key_that_nobody_holds() -> None:
    told = explain(RegisterWorld(), "never")
    assert (told.winner, told.pending, told.reason) == (None, None, "nobody holds it")
    assert told.reads == dict.fromkeys(told.reads, (None,))


def test_what_a_quorum_has_accepted_is_chosen_though_nobody_has_learned_it() -> None:
    world = RegisterWorld(reconcile=True)
    unfinished(world)
    home = world.home("k")
    first = Version.decode(world.put_register(home, "k", "v").order)
    world.settle()
    other, third = other_than(home)
    accepted_by(world, "k", "w", home, other)
    world.run(2)
    told = explain(world, "k")
    names, (behind,) = named(world, home, other), named(world, third)
    assert told.winner is not None
    assert told.winner > first
    assert told.known_as is not None
    assert told.pending is None
    assert told.reason.startswith("chosen: a quorum has accepted it (")
    assert all(name in told.reason for name in names)
    assert told.reason.endswith("nobody has learned it yet")
    assert told.reads == {Level.ONE: (first,), Level.QUORUM: (told.winner,), Level.ALL: (told.winner,)}
    for name in names:
        acceptor = view(told, name)
        assert acceptor.accepted == ballot_text(told.winner.encode()[:16])
        assert acceptor.accepted_as == told.known_as
        assert acceptor.accepted_ms is not None
        assert 1900 <= acceptor.accepted_ms < 4000
        assert acceptor.learned_as == first
        assert Mend(name, "finishing") in told.mends
    assert Mend(behind, "exchange") in told.mends
    assert "at serial  what is accepted on " in in_words(told)
    assert "at quorum" not in in_words(told)


def test_what_one_has_accepted_is_pending_and_is_finished() -> None:
    world = RegisterWorld(reconcile=True)
    unfinished(world)
    home = world.home("k")
    first = Version.decode(world.put_register(home, "k", "v").order)
    world.settle()
    accepted_by(world, "k", "w", home)
    told = explain(world, "k")
    (name,) = named(world, home)
    assert told.winner == told.known_as == first
    assert told.pending == view(told, name).accepted_as != first
    assert told.reason.startswith(f"chosen: learned at all replicas; accepted at {name} is a later write")
    assert told.mends == (Mend(name, "finishing"),)
    found = told.reads[Level.QUORUM]
    assert found is not None
    assert (len(found), found[-1]) == (2, first)
    assert f"\npending    {told.pending}" in in_words(told)
    # Who reads it finishes it; the version by which it is known stays, the ballot does not.
    other, _ = other_than(home)
    assert world.found_at(home, "k") == b"w" or world.found_at(other, "k") == b"w"
    world.settle()
    after = explain(world, "k")
    assert after.pending is None
    assert after.reason.startswith("chosen: learned at ")
    assert after.known_as == told.pending
    assert after.winner is not None
    assert told.pending is not None
    assert after.winner > told.pending
    assert f"winner     {told.pending}: chosen" in in_words(after)
    assert f"value  {told.pending} " in in_words(after)


def test_a_write_that_is_accepted_anew_is_known_as_before() -> None:
    world = RegisterWorld()
    unfinished(world)
    home = world.home("k")
    accepted_by(world, "k", "w", home)
    first = explain(world, "k").pending
    assert first is not None
    with unlearning():
        assert world.found_at(home, "k") == b"w"  # which has it accepted by all, under another ballot
        world.settle()
    told = explain(world, "k")
    assert told.winner is not None
    assert told.winner > first
    for each in told.replicas.values():
        assert each.acceptor is not None
        assert each.acceptor.accepted == ballot_text(told.winner.encode()[:16])
        assert each.acceptor.accepted_as == told.known_as == first


def test_where_nothing_is_known_to_be_chosen_what_is_accepted_is_told() -> None:
    world = RegisterWorld()
    unfinished(world)
    home = world.home("k")
    accepted_by(world, "k", "w", home)
    told = explain(world, "k")
    assert told.winner is None
    assert told.pending == view(told, *named(world, home)).accepted_as is not None
    assert told.reason.startswith("nothing is known to be chosen; accepted at ")
    assert told.reads[Level.ONE] == (None,)


def test_what_is_accepted_since_an_earlier_start_has_no_age() -> None:
    world = RegisterWorld()
    unfinished(world)
    home = world.home("k")
    accepted_by(world, "k", "w", home)
    world.restart(home)
    unfinished(world)
    world.settle()
    told = explain(world, "k")
    acceptor = view(told, *named(world, home))
    assert acceptor.accepted is not None
    assert acceptor.accepted_ms is None
    assert "this start" in in_words(told)


def test_whose_store_was_lost_does_not_count_until_it_is_taken_in() -> None:
    world = RegisterWorld(reconcile=True)
    world.put_register(0, "k", "v")
    world.settle()
    index = other_than(world.home("k"))[0]
    at, (name,) = world.home("k"), named(world, index)
    world.wipe(index)
    world.start(index)
    seating = world.node(index).certificates.seating
    world.until(lambda: bool(seating.stores))
    told = explain(world, "k", at=at)
    assert view(told, name).role == "unbound"
    assert Mend(name, "binding") in told.mends
    assert "not bound yet" in in_words(told)
    world.until(lambda: bool(seating.out) and world.node(index).state == "up")
    told = explain(world, "k", at=at)
    assert view(told, name).role == "barred"
    assert view(told, name).store == world.node(index).identity.store
    assert Mend(name, "taking in") in told.mends
    assert "not taken in yet" in in_words(told)
    world.until(lambda: not seating.out, 60)
    told = explain(world, "k", at=at)
    assert view(told, name).role == "acceptor"
    assert told.mends == ()


def test_with_too_few_acceptors_no_read_but_one_at_one_finds_anything() -> None:
    world = RegisterWorld()
    world.put_register(0, "k", "v")
    world.settle()
    home = world.home("k")
    for index in other_than(home):
        world.stop(index)
    world.run(2)
    told = explain(world, "k", at=home)
    assert told.winner is not None
    assert told.reason == f"chosen: learned at {', '.join(named(world, home))}"
    assert told.reads == {Level.ONE: (told.winner,), Level.QUORUM: None, Level.ALL: None}


def test_while_seats_are_joint_two_quorums_are_asked_for() -> None:
    world = RegisterWorld(4, replication=3, reconcile=True)
    key = next(f"k{n}" for n in range(100) if 0 in world.replicas(f"k{n}", "cas")[1:])
    home = world.home(key)
    world.put_register(home, key, "v")
    unfinished(world)
    accepted_by(world, key, "w", home)  # so that the old seats are not given up before that is finished
    partition = int.from_bytes(world.row(key, "cas")[:2])
    asked(world, DrainMember(world.member(0).number), home)
    placement = world.node(home).context.placement
    world.until(lambda: len(placement.replicas[partition]) == 4, 60)
    call = world.ask(home, lambda request: Explain(request, "cas", key.encode(), 1000))
    world.settle()
    answer, seats = call.reply(), placement.seats[partition]
    assert isinstance(answer, Explained)
    assert answer.old == [world.member(index).number for index in seats.old]
    assert answer.new == [world.member(index).number for index in seats.new]
    assert answer.old != answer.new
    assert answer.since == seats.since > 0
    told = explain(world, key, at=home)
    assert len(told.replicas) == 4
    assert told.winner is not None
    assert told.pending is not None


def test_it_changes_nothing() -> None:
    world = RegisterWorld()
    unfinished(world)
    stored = world.put_register(0, "k", "v")
    world.settle()
    accepted_by(world, "k", "w", world.home("k"))
    before = [dict(engine.scan(b"", b"\xff" * 8)) for engine in world.engines]
    explain(world, "k", at=1)
    after = [dict(engine.scan(b"", b"\xff" * 8)) for engine in world.engines]
    kept = [{k: v for k, v in each.items() if k[:1] != b"m"} for each in before]
    assert [{k: v for k, v in each.items() if k[:1] != b"m"} for each in after] == kept
    assert stored.outcome == OUTCOME_STORED


# --- what may be answered ---------------------------------------------------------------------------


ROW = AcceptorRow(0, b"s" * 16, ACCEPTOR, b"", b"", 0, -1, b"", b"")


@pytest.mark.parametrize("rule", [rule for rule in Rule if rule.serial])
def test_a_member_that_was_not_heard_has_no_part(rule: Rule) -> None:
    replicas = [ReplicaRow(0, "up", b"", 0), ReplicaRow(1, DOWN, b"", 0)]
    answer = Explained(1, rule.value, 5, replicas, [], [], [], 0, acceptors=[ROW], old=[0, 1], new=[0, 1])
    told = explanation(answer, "cas", b"k", {0: "n1", 1: "n2"})
    assert told.replicas["n2"].acceptor is None
    assert told.reason == "no replica that answers holds it"
    assert told.reads[Level.QUORUM] is None


@pytest.mark.parametrize(
    ("rule", "word", "agreed"),
    [
        (Rule.LAST_WRITE_WINS, "last-write-wins", False),
        (Rule.FIRST_WRITE_WINS, "first-write-wins", False),
        (Rule.REGISTER, "register", False),
        (Rule.FIRST_WRITE_AGREED, "first-write-wins", True),
    ],
)
def test_a_rule_is_told_by_its_word_and_whether_it_is_agreed(rule: Rule, word: str, agreed: bool) -> None:
    answer = Explained(1, rule.value, 5, [ReplicaRow(0, "up", b"", 0)], [], [], [], 0, old=[0], new=[0])
    told = explanation(answer, "b", b"k", {0: "n1"}).as_json()
    assert (told["rule"], told["agreed"]) == (word, agreed)


@pytest.mark.parametrize(("role", "chosen"), [(ACCEPTOR, True), ("barred", False), ("unbound", False)])
def test_only_acceptors_count_for_a_quorum(role: str, chosen: bool) -> None:
    world = RegisterWorld(1)
    blob = Record.seal(world.digester, world.row("k", "cas"), Version(5, 5, 5), b"v").blob[:49]
    has = ROW._replace(accepted=blob, accepted_as=blob[:24], since=4)
    acceptors = [has, has._replace(number=1, role=role), ROW._replace(number=2)]
    replicas = [ReplicaRow(number, "up", b"", 0) for number in range(3)]
    answer = Explained(
        1, "register", 5, replicas, [], [], [], 0, acceptors=acceptors, old=[0, 1, 2], new=[0, 1, 2], since=4
    )
    told = explanation(answer, "cas", b"k", {0: "n1", 1: "n2", 2: "n3"})
    assert (told.winner is not None, told.pending is None) == (chosen, chosen)


def test_an_acceptor_that_is_no_member_makes_no_sense() -> None:
    replicas = [ReplicaRow(9, "up", b"", 0)]
    answer = Explained(1, "register", 5, replicas, [], [], [], 0, acceptors=[ROW._replace(number=9)])
    with pytest.raises(ConnectionLost):
        explanation(answer, "cas", b"k", {0: "n1"})
