"""`basestore topology moves | cancel | replication`, `rebalance`, and `node drain | remove | replace`.

Covers `cli/topology/moves.py`, `cli/topology/nodes.py` and `results/moves.py`.
"""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from basestore.cli.topology.leaving import held_up
from basestore.cli.topology.moves import plan_in_words
from basestore.errors import InvalidRequest, NoLeader
from basestore.protocol.client import Failed
from basestore.protocol.codec import Message
from basestore.protocol.membership import MoveState, MovesTold, ReadTopology
from basestore.repair.seats import Seats, Stage, packed
from basestore.results.hints import HintPile, NodeHints
from basestore.results.moves import Plan, PlannedMove
from basestore.results.topology import ClusterMember, PartitionSeats
from basestore.topology.changes import (
    Change,
    DrainMember,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetReplication,
    Standing,
)
from basestore.topology.entries import decode_entry
from tests.worlds.fakes import FakeNode, fake
from tests.worlds.told_topologies import Answers, ask
from tests.worlds.topologies import cluster, founded

FILLING = MoveState(7, Stage.FILL, 4200, 900, 12, packed((1, 2)), packed((1, 3)), packed((3,)))
WAITING = MoveState(9, Stage.STILL, 0, -1, -1, packed((1, 2)), packed((3, 2)), b"")


def changes(answers: Answers) -> list[Change]:
    return [decode_entry(request.entry).change for request in answers.asked if hasattr(request, "entry")]


@pytest.mark.parametrize(
    ("words", "change", "said"),
    [
        ("node drain n3", DrainMember(3), "n3 is being drained, from epoch 2 on"),
        ("node remove n3 --dead", RemoveMember(3), "n3 is given up for dead, from epoch 2 on"),
        ("rebalance", Rebalance(), "who holds what is planned anew, from epoch 2 on"),
        (
            "topology replication 3",
            SetReplication(3),
            "each partition is to have 3 replicas, from epoch 2 on",
        ),
        ("topology replication 1", SetReplication(1), "each partition is to have 1 replica, from epoch 2 on"),
    ],
)
def test_a_command_is_one_change(
    node: FakeNode, answers: Answers, words: str, change: Change, said: str
) -> None:
    done = ask(node, *words.split())
    assert (done.return_value, done.stdout) == (0, f"{said}\n")
    assert changes(answers) == [change]


def test_a_member_takes_the_place_of_another(node: FakeNode, answers: Answers) -> None:
    answers.topology = founded(cluster(3, replication=1))
    done = ask(node, *["node", "replace", "n3", "--by", "n1", "--dead"])
    assert (done.return_value, done.stdout) == (0, "n1 is to take the place of n3, from epoch 2 on\n")
    assert changes(answers) == [ReplaceMember(3, 1, True)]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("node drain n9", "no member is called 'n9': the cluster has n1, n2, n3"),
        ("node remove n3", "a member that is up is drained, which loses nothing: `basestore node drain n3`"),
        ("node replace n3 --by n3", "a member cannot be replaced by itself"),
        ("node replace n3 --by n1", "name a member that holds none of them"),
        ("topology cancel", "nothing is being moved, nor to be"),
        ("topology cancel 2", "partition 2 is not being moved, nor to be"),
        ("topology cancel 2 2", "a partition is named twice"),
        ("topology replication 4", "4 replicas need as many members that stay, and 3 do"),
        ("topology replication 2", "each partition is to have 2 replicas already"),
        ("rebalance --plan --wait", "--plan does nothing"),
    ],
)
def test_what_cannot_be_ends_with_2_and_a_sentence(
    node: FakeNode, answers: Answers, words: str, error: str
) -> None:
    before = answers.topology
    refused = ask(node, *words.split())
    assert refused.return_value == 2 or refused.exception is not None
    assert error in (refused.stderr + str(refused.exception))
    assert (answers.topology.seats, answers.topology.members) == (before.seats, before.members)


def test_too_few_would_be_left(node: FakeNode) -> None:
    assert ask(node, "node", "drain", "n3").return_value == 0
    refused = ask(node, "node", "drain", "n2")
    assert refused.return_value == 2
    assert "without n2 1 of the members that stay could hold partitions" in refused.stderr


def test_what_would_move_is_shown_and_not_done(node: FakeNode, answers: Answers) -> None:
    shown = ask(node, "node", "drain", "n3", "--plan")
    assert shown.return_value == 0
    assert " would move, how much is copied for that is not known:" in shown.stdout
    lines = [line.split() for line in shown.stdout.splitlines() if line]
    assert ["FROM", "TO", "PARTITIONS", "RECORDS", "BYTES"] in lines
    assert all(line[-2:] == ["unknown", "unknown"] for line in lines if line[0] == "n3" and len(line) == 5)
    assert [line[-1] for line in lines if line[0] == "n3" and len(line) == 3] == ["0"]
    told = json.loads(ask(node, "node", "drain", "n3", "--plan", "-o", "json").stdout)
    assert told["held"]["n3"]["then"] == 0
    assert told["seats"] == sum("n3" in move["replicas"] for move in told["moves"]) > 0
    assert (told["records"], told["bytes"]) == (None, None)
    assert changes(answers) == []


def test_about_how_much_would_move_is_what_members_know_of_what_they_hold(
    node: FakeNode, answers: Answers
) -> None:
    answers.records = {1: 1234, 2: 1230, 3: 7}
    told = json.loads(ask(node, "node", "drain", "n3", "--plan", "-o", "json").stdout)
    assert {move["records"] for move in told["moves"]} <= {1234, 1230}
    assert told["records"] == sum(move["records"] for move in told["moves"]) > 0
    assert sum(flow["records"] for flow in told["flows"]) == told["records"]
    assert {flow["from"] for flow in told["flows"]} == {"n3"}
    assert told["bytes"] is None
    shown = ask(node, "node", "drain", "n3", "--plan").stdout
    about = f"{float('{:.2g}'.format(told['records'])):,.0f}"
    assert f"for which about {about} records are copied, of a size that is not known" in shown


def test_a_plan_is_shown_with_what_is_known_of_it() -> None:
    moves = (
        PlannedMove(1, ("n1", "n2"), ("n1", "n3"), 1000),
        PlannedMove(2, ("n2", "n1"), ("n3", "n1"), 234),
        PlannedMove(3, ("n1", "n2"), ("n1", "n2", "n3"), None),
        PlannedMove(4, ("n1", "n2", "n3"), ("n1", "n3"), 99),
    )
    plan = Plan(7, moves, 3, {"n1": (4, 4), "n2": (4, 1), "n3": (1, 4)}, "", 100)
    assert plan_in_words(plan).splitlines() == [
        "3 replicas of 4 partitions would move, how much is copied for that is not known:",
        "",
        "FROM  TO  PARTITIONS  RECORDS  BYTES",
        "-     n3  1           unknown  unknown",
        "n2    -   1           0        0 bytes",
        "n2    n3  2           1,200    121 KiB",
        "",
        "MEMBER  HOLDS  WILL HOLD",
        "n1      4      4",
        "n2      4      1",
        "n3      1      4",
    ]
    known = replace(plan, moves=moves[:2])
    assert "2 partitions would move, for which about 1,200 records are copied, 121 KiB:" in plan_in_words(
        known
    )


def test_moves_are_a_line_each_and_an_empty_list_when_all_is_done(node: FakeNode, answers: Answers) -> None:
    assert ask(node, "topology", "moves").stdout == "nothing moves, at epoch 1\n"
    empty = json.loads(ask(node, "topology", "moves", "-o", "json").stdout)
    assert empty == {"epoch": 1, "leader": "n2", "unplanned": False, "moves": [], "stranded": {}}
    answers.moves = [[FILLING, WAITING]]
    lines = ask(node, "topology", "moves").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["7", "fill", "4s", "12", "n1", "n2", "n1", "n3", "n3"],
        ["9", "waits", "0ms", "-", "n1", "n2", "n3", "n2", "-"],
    ]
    told = json.loads(ask(node, "topology", "moves", "-o", "json").stdout)
    assert told["moves"][0] == {
        "partition": 7, "stage": "fill", "stage_s": 4.2, "replicas": ["n1", "n2"], "to": ["n1", "n3"],
        "records": 900, "left": 12, "waits_for": ["n3"],
    }  # fmt: skip
    assert (told["moves"][1]["records"], told["moves"][1]["left"]) == (None, None)


def test_after_a_cancel_it_is_said_for_whom_nothing_is_planned(node: FakeNode, answers: Answers) -> None:
    held = sum(3 in seats.old for seats in answers.topology.seats)
    assert ask(node, "node", "remove", "n3", "--dead").return_value == 0
    assert ask(node, "topology", "moves").stderr == ""  # a plan is to be made
    assert ask(node, "topology", "cancel").return_value == 0
    told = ask(node, "topology", "moves")
    words = f"n3 is dead, and holds {held} partitions: nothing is planned; `basestore rebalance` has others"
    assert (told.stdout, told.stderr) == ("nothing moves, at epoch 3\n", f"{words} take its place\n")
    told = json.loads(ask(node, "topology", "moves", "-o", "json").stdout)
    assert told["stranded"] == {"n3": {"standing": "dead", "partitions": held}}
    assert ask(node, "rebalance").return_value == 0
    assert ask(node, "topology", "moves").stderr == ""


def test_no_more_lines_than_one_reads_but_all_of_them_if_wished(node: FakeNode, answers: Answers) -> None:
    answers.moves = [[FILLING._replace(partition=number) for number in range(50)]]
    assert ask(node, "topology", "moves").stdout.splitlines()[-1] == "and 30 partitions more: -v"
    assert len(ask(node, "topology", "moves", "-v").stdout.splitlines()) == 51


def test_waiting_ends_with_0_once_all_is_done(node: FakeNode, answers: Answers) -> None:
    answers.moves = [[FILLING], [WAITING], []]
    done = ask(node, "rebalance", "--wait", "--timeout", "1m")
    assert done.return_value == 0
    assert done.stderr == "all is done, at epoch 2\n"
    assert sum(type(request).__name__ == "ReadMoves" for request in answers.asked) == 3


def test_waiting_ends_with_4_when_it_is_not_done_in_time(node: FakeNode, answers: Answers) -> None:
    answers.moves = [[FILLING]]
    late = ask(node, "rebalance", "--wait", "--timeout", "100ms")
    assert late.return_value == 4
    assert "It is not done yet, and goes on by itself" in late.stderr
    assert "fill" in late.stdout


class Electing(Answers):
    """One whose group is about to elect a leader: so many questions of its topology it cannot answer yet."""

    def __init__(self, unanswered: int) -> None:
        super().__init__(founded())
        self.unanswered = unanswered

    def __call__(self, request: Any) -> Message | None:
        if isinstance(request, ReadTopology) and self.unanswered:
            self.unanswered -= 1
            return Failed(request.id, NoLeader.code, "nobody leads", b"", [])
        return super().__call__(request)


def test_who_waits_waits_for_a_leader_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basestore.cli.topology.moves.LOOK_S", 0.0)
    with fake(answer=Electing(2)) as node:
        done = ask(node, "rebalance", "--wait", "--timeout", "1m")
    assert done.return_value == 0
    assert done.stderr.splitlines() == ["nobody leads; waiting on"] * 2 + ["all is done, at epoch 2"]
    with fake(answer=Electing(1)) as node:
        assert ask(node, "rebalance").return_value == 3
        assert ask(node, "rebalance").return_value == 0
    with fake(answer=Electing(1_000_000)) as node:
        late = ask(node, "rebalance", "--wait", "--timeout", "100ms")
    assert late.return_value == 3


def test_it_is_not_done_while_somebody_is_about_to_leave(node: FakeNode, answers: Answers) -> None:
    late = ask(node, "node", "drain", "n3", "--wait", "--timeout", "100ms")
    assert late.return_value == 4
    assert answers.topology.members[2].standing is Standing.DRAINING


class Leaver:
    """In place of a store: of a cluster in which n3 is drained and holds nothing any more."""

    def __init__(self, hints: NodeHints, *holding: str) -> None:
        self.asked, self._hints = list[str | None](), hints
        members = [ClusterMember(3, "n3", "127.0.0.1:7402", "", 1, "draining")]
        self._topology = SimpleNamespace(members=members, partitions=[PartitionSeats(holding)])

    def topology(self, *, mode: str) -> Any:
        return self._topology

    def hints(self, *, node: str) -> list[NodeHints]:
        self.asked.append(node)
        return [self._hints]


def pile(peer: str, *, only: int = 0, late: int = 0) -> HintPile:
    return HintPile(peer, True, only + late, 9, only, late, None, {})


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        (NodeHints("n3", 7, ()), []),
        (
            NodeHints("n3", 7, (pile("n1", late=2), pile("n2", only=1))),
            ["leaves once 2 late hints of its are decided: basestore hints replay --late --node n3"],
        ),
        (
            NodeHints("n3", 7, (pile("n1", only=2), pile("n2", only=1), pile("n4"))),
            ["leaves once 3 writes that it alone keeps, for n1 and n2, are delivered: see basestore hints"],
        ),
        (
            NodeHints("n3", None, (), "connection refused"),
            [
                "does not answer (connection refused): it leaves once it has said that it keeps no write "
                "that nobody else has; if it is lost for good: basestore node remove n3 --dead"
            ],
        ),
    ],
)  # fmt: skip
def test_what_a_member_that_is_to_leave_waits_for_is_said(hints: NodeHints, words: list[str]) -> None:
    assert list(held_up(cast("Any", Leaver(hints, "n1")))) == [
        f"n3 holds nothing any more, and {each}" for each in words
    ]
    holding = Leaver(hints, "n1", "n3")
    assert list(held_up(cast("Any", holding))) == []
    assert holding.asked == [], "moves say what these wait for"


def test_of_one_that_has_left_just_then_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*, node: str) -> list[NodeHints]:
        raise InvalidRequest(f"no member is called {node}")

    leaver = Leaver(NodeHints("n3", 7, ()), "n1")
    monkeypatch.setattr(leaver, "hints", nobody)
    assert list(held_up(cast("Any", leaver))) == []


def test_it_is_said_by_moves_and_by_who_waits_for_their_end(node: FakeNode, answers: Answers) -> None:
    seats = tuple(Seats.still((1, 2)) for _ in answers.topology.seats)
    answers.topology = replace(answers.topology, seats=seats)
    assert ask(node, "topology", "moves").stderr == ""
    late = ask(node, "node", "drain", "n3", "--wait", "--timeout", "1ms")
    told = ask(node, "topology", "moves")
    for said in (late.stderr, told.stderr):
        assert "n3 holds nothing any more, and does not answer" in said
    assert late.stderr.count("waiting on") == 1


def test_an_answer_that_makes_no_sense_says_so(node: FakeNode, answers: Answers) -> None:
    answers.moves = [[FILLING._replace(stage=7)]]
    assert "Error" in ask(node, "topology", "moves").stderr


def test_of_a_plan_with_too_few_zones_that_is_said(node: FakeNode, answers: Answers) -> None:
    answers.topology = founded(cluster(4, zones=2, replication=2))
    told = ask(node, "topology", "replication", "3", "--plan").stdout
    assert "there are 2 zones for 3 replicas" in told


class Leaderless(Answers):
    """One that knows of no leader."""

    def __call__(self, request: Any) -> Message | None:
        answer = super().__call__(request)
        return answer._replace(leader=-1) if isinstance(answer, MovesTold) else answer


def test_without_a_leader_that_is_said() -> None:
    leaderless = Leaderless(founded())
    leaderless.moves = [[WAITING]]
    with fake(answer=leaderless) as node:
        assert "No leader is reached" in ask(node, "topology", "moves").stderr


def test_who_stops_waiting_is_told_that_it_goes_on(
    node: FakeNode, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    answers.moves = [[FILLING]]
    monkeypatch.setattr("basestore.cli.topology.moves.time.sleep", interrupted)
    done = ask(node, "rebalance", "--wait")
    assert isinstance(done.exception, click.Abort)
    assert "It goes on by itself: see `basestore topology moves`" in done.stderr
    assert "may have been decided" not in done.stderr


def test_moves_that_are_under_way_can_be_waited_for(node: FakeNode, answers: Answers) -> None:
    answers.moves = [[FILLING], []]
    done = ask(node, "topology", "moves", "--wait")
    assert (done.return_value, done.stdout) == (0, "")
    assert "all is done" in done.stderr
    answers.moves = [[FILLING]]
    done = ask(node, "topology", "moves", "--wait", "--timeout", "0.1")
    assert done.return_value == 4
    assert "7" in done.stdout
