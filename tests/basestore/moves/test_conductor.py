"""What the leader proposes, within its bounds, and what members tell it. Covers `moves/conductor.py`,
`moves/reports.py` and `moves/progress.py`."""

from collections import Counter

import pytest

from basestore.errors import InvalidRequest
from basestore.protocol.client import Failed
from basestore.protocol.membership import (
    STALE,
    ChangeTopology,
    MoveReport,
    MoveRow,
    MovesTold,
    ReadMoves,
    ReadTopology,
)
from basestore.repair.seats import Seats, Stage, packed
from basestore.replica.dropped_rows import GivenUpRows
from basestore.storage import keyspace
from basestore.topology.changes import (
    Change,
    DrainMember,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetPlan,
    SetReplication,
    SetSetting,
)
from basestore.topology.entries import Suggestion, encode_entry
from tests.worlds.changing import change, leaders
from tests.worlds.moving import number, topology
from tests.worlds.world import TICK_S, World


def leader(world: World) -> int:
    name = leaders(world)[0]
    return next(at for at, node in enumerate(world.nodes) if node is not None and node.name == name)


def ask(world: World, at: int, of: Change) -> object:
    """What a client is answered who asks a node for it."""
    entry = encode_entry(Suggestion(of, 7, 0, 0))
    call = world.ask(at, lambda request: ChangeTopology(request, entry, 1000, False))
    for _ in range(100):
        if call.done:
            break
        world.run(TICK_S)
    return call.reply()


# --- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "most"), [("moves.at_once", 2), ("moves.at_once_to", 1), ("moves.at_once_from", 1)]
)
def test_no_more_move_at_once_than_the_settings_say(key: str, most: int) -> None:
    world = World(5, replication=3, partitions=16, logged=True)
    assert not change(world, 0, SetSetting(key, str(most))).error
    assert not change(world, 0, DrainMember(number(world, 4))).error
    seen = set[int]()
    for _ in range(600):
        world.run(TICK_S)
        moving = [each for each in topology(world).seats if each.stage is not Stage.STILL]
        to = Counter(each for seats in moving for each in set(seats.new) - set(seats.old))
        of = Counter(each for seats in moving for each in seats.old)
        of_members = to if key == "moves.at_once_to" else of
        seen.add(len(moving) if key == "moves.at_once" else max(of_members.values(), default=0))
    assert max(seen) == most
    assert not topology(world).plan


# --- what is refused before it is decided ------------------------------------------------------------


@pytest.mark.parametrize("dead", [1, 2])
def test_a_member_that_answers_is_not_dead(dead: int) -> None:
    world = World(4, replication=2, partitions=8, logged=True)
    of = (
        RemoveMember(number(world, dead))
        if dead == 1
        else ReplaceMember(number(world, 2), number(world, 3), True)
    )
    answer = ask(world, 0, of)
    assert isinstance(answer, Failed)
    assert answer.code == InvalidRequest.code
    assert f"n{dead + 1} answers, so it is not dead" in answer.text
    own = ask(world, dead, of)
    assert isinstance(own, Failed)
    world.stop(dead)
    world.run(6.0)
    answer = ask(world, 0, RemoveMember(number(world, dead)))
    assert not isinstance(answer, Failed)


@pytest.mark.parametrize(
    "of", [DrainMember(1), RemoveMember(1), ReplaceMember(1, 2, False), Rebalance(), SetReplication(1)]
)
def test_below_the_feature_level_nothing_is_moved(of: Change) -> None:
    world = World(3, logged=True)
    for node in world.running:
        node.feature_level.level = 10
    answer = ask(world, 0, of)
    assert isinstance(answer, Failed)
    assert "nothing can be moved yet: the cluster's feature level is 10, and this needs 11" in answer.text
    assert topology(world).unplanned is False


# --- the plan ----------------------------------------------------------------------------------------


def test_a_plan_that_was_made_before_another_change_counts_for_nothing() -> None:
    world = World(4, replication=2, partitions=4, logged=True)
    before = topology(world)
    raft = world.node(leader(world)).membership.group.raft
    assert raft is not None
    goal = [number(world, 0), number(world, 3)]
    for made_at in (before.epoch - 1, before.epoch + 5):
        late = encode_entry(Suggestion(SetPlan(made_at, [[0, *goal]]), 9 + made_at, 0, 0))
        raft.propose(late)
        world.run(1.0)
        outcome = topology(world).outcome(9 + made_at)
        assert outcome is not None
        assert "the cluster has changed since the plan was made" in outcome.error
    assert topology(world).plan == {}


# --- reports -----------------------------------------------------------------------------------------


def test_a_report_counts_on_its_link_and_under_its_entry_alone() -> None:
    world = World(3, logged=True)
    node = world.node(leader(world))
    other = next(peer for peer in node.peers.others)
    seats = Seats(50, Stage.FILL, (1, 2), (1, 3))
    row = MoveRow(0, 50, True, packed([other.number]), 3)
    reports = node.moves.reports
    reports.hear(other.index, other.outbox, MoveReport([row]), world.now(0))
    assert reports.of(other.index, 0, seats) == row
    assert reports.of(other.index, 1, seats) is None
    assert reports.of(other.index, 0, seats._replace(since=51)) is None
    newer = row._replace(fit=False, since=51)
    reports.hear(other.index, other.outbox, MoveReport([newer]), world.now(0))
    assert reports.of(other.index, 0, seats) is None
    reports.hear(other.index, other.outbox, MoveReport([row]), world.now(0))
    world.run(1.0)
    node.link(other.index, world.now(0))
    assert reports.of(other.index, 0, seats) is None


def test_what_moves_is_told_by_any_node_as_the_leader_has_it() -> None:
    world = World(4, replication=3, partitions=8, logged=True)
    for count in range(30):
        world.put(0, f"key {count}", "v")
    world.stop(2)
    assert not change(world, 0, DrainMember(number(world, 3))).error
    world.run(5.0)
    told = []
    for at in (0, 1, 3):
        call = world.ask(at, lambda request: ReadMoves(request, 1000))
        world.run(1.2)
        answer = call.reply()
        assert isinstance(answer, MovesTold)
        told.append(answer)
    assert {answer.leader for answer in told} == {number(world, leader(world))}
    rows = {row.partition: row for row in told[0].rows}
    assert rows
    assert all(row.awaited == packed([number(world, 2)]) for row in rows.values() if row.stage)
    assert any(row.records > 0 for row in rows.values())
    assert all(row.stage_ms >= 1000 for row in rows.values() if row.stage)


def test_without_a_leader_the_node_says_what_it_knows() -> None:
    world = World(3, logged=True)
    for at in (1, 2):
        world.stop(at)
    world.run(8.0)
    call = world.ask(0, lambda request: ReadMoves(request, 1000))
    world.run(2.0)
    answer = call.reply()
    assert isinstance(answer, MovesTold)
    assert (answer.leader, answer.rows) == (-1, [])


@pytest.mark.parametrize("timeout_ms", [0, 1001])
def test_whoever_waits_for_an_answer_says_how_long_within_the_clusters_bound(timeout_ms: int) -> None:
    world = World(1, logged=True, timeout_ms_max=1000)
    for ask_for in (
        lambda request: ReadMoves(request, timeout_ms),
        lambda request: ReadTopology(request, STALE, timeout_ms),
    ):
        call = world.ask(0, ask_for)
        world.settle()
        answer = call.reply()
        assert isinstance(answer, Failed)
        assert "timeout_ms_max, 1000 ms: ask for less" in answer.text


# --- rows of what was given up -----------------------------------------------------------------------


def test_rows_that_were_given_up_go_after_a_crash_too() -> None:
    world = World(4, replication=3, partitions=8, logged=True)
    for count in range(60):
        world.put(0, f"key {count}", "v")
    node = world.node(3)
    held = set(node.summaries.of)
    rows = len(list(world.engines[3].scan(*keyspace.records())))
    assert rows
    given_up = GivenUpRows(node.group_commit, node.replica, 8)
    assert given_up.pending == {}  # it holds all that it has rows of
    for partition in held:
        node.summaries.of.pop(partition)
    again = GivenUpRows(node.group_commit, node.replica, 8)
    assert set(again.pending) <= held
    assert again.pending
    gone = 0
    while (looked_at := again.purge(7)) is not None:
        gone += looked_at - 1
        node.summaries.summary_log.write()
        node.group_commit.commit()
    assert gone == rows
    assert not list(world.engines[3].scan(*keyspace.records()))


def test_what_is_given_back_is_not_dropped() -> None:
    world = World(3, replication=3, partitions=2, logged=True)
    world.put(0, "key", "v")
    node = world.node(0)
    given_up = GivenUpRows(node.group_commit, node.replica, 2)
    summary = node.summaries.of.pop(0)
    given_up.look([0, 1])
    assert set(given_up.pending) == {0}
    node.summaries.of[0] = summary
    given_up.look([])
    assert given_up.purge(10) is None
