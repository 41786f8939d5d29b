"""`basestore topology moves | cancel | replication`, `rebalance`, and `node drain | remove | replace`.

Covers `cli/topology/moves.py`, `cli/topology/nodes.py` and `results/moves.py`.
"""

import json
from typing import Any

import pytest

from basestore.protocol.codec import Message
from basestore.protocol.membership import MoveState, MovesTold
from basestore.repair.seats import Stage, packed
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
    assert "would move:" in shown.stdout
    assert ["n3", "0"] in [
        [line.split()[0], line.split()[-1]] for line in shown.stdout.splitlines()[3:] if line
    ]
    told = json.loads(ask(node, "node", "drain", "n3", "--plan", "-o", "json").stdout)
    assert told["held"]["n3"]["then"] == 0
    assert told["seats"] == sum("n3" in move["replicas"] for move in told["moves"]) > 0
    assert changes(answers) == []


def test_moves_are_a_line_each_and_an_empty_list_when_all_is_done(node: FakeNode, answers: Answers) -> None:
    assert ask(node, "topology", "moves").stdout == "nothing moves, at epoch 1\n"
    empty = json.loads(ask(node, "topology", "moves", "-o", "json").stdout)
    assert empty == {"epoch": 1, "leader": "n2", "unplanned": False, "moves": []}
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


def test_it_is_not_done_while_somebody_is_about_to_leave(node: FakeNode, answers: Answers) -> None:
    late = ask(node, "node", "drain", "n3", "--wait", "--timeout", "100ms")
    assert late.return_value == 4
    assert answers.topology.members[2].standing is Standing.DRAINING


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
