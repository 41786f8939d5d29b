"""What `basestore status` and `top` show of the metadata group."""

import json
from collections.abc import Sequence
from contextlib import nullcontext

import pytest
from click.testing import CliRunner
from rich.console import Console

from basestore.cli.cluster import status as command
from basestore.cli.cluster.board import board
from basestore.cli.cluster.metadata import notes, summary
from basestore.cli.cluster.samples import View, board_json
from basestore.results.nodes import NodeState, down
from basestore.topology.changes import DrainMember, Rebalance, RemoveMember, SetSetting, TakeBack
from tests.worlds.moving import asked, finish, loaded, number, topology
from tests.worlds.world import World

SINCE = "2020-09-13T12:26:40.000Z"
SINCE_MS = "1600000000000"
DOWN = down("n9", "127.0.0.1:7409", "does not answer")


def state(name: str, role: str = "voter", epoch: str = "7", leader: str = "n1", **more: str) -> NodeState:
    """Of a node that speaks of the group; a blank in a name is written as an underscore."""
    said = {"role": role, "leader": leader, "term": "3", "epoch": epoch, "decided": epoch} | more
    facts = {f"metadata {key.replace('_', ' ')}": text for key, text in said.items()}
    return NodeState(name, "127.0.0.1:7400", "up", 1, 0, {}, facts | {"alive": "n1 n2 n3"})


def shown(states: Sequence[NodeState], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    class Store:
        def status(self) -> list[NodeState]:
            return list(states)

    monkeypatch.setattr(command, "open_store", lambda target: nullcontext(Store()))
    return CliRunner().invoke(command.status_command, list(words), standalone_mode=False).output


def test_a_cluster_is_shown_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(4, logged=True)
    world.run(1.0)
    states = [world.state(at) for at in range(4)]
    epoch = world.node(0).membership.group.epoch
    told = shown(states, monkeypatch).splitlines()
    assert told[5] == (
        f"metadata group: n1 leads term 1; epoch {epoch}, in use on n1, n2, n3 and n4; voters n1, n2 and n3; "
        f"following only: n4"
    )
    assert [notes(each, states) for each in states] == [[]] * 4
    first = json.loads(shown(states, monkeypatch, "-o", "json"))[0]
    assert first["metadata"]["role"] == "leader"
    assert first["metadata"]["epochs"] == dict.fromkeys(("n1", "n2", "n3", "n4"), epoch)
    assert not [name for name in first if name.startswith("metadata_")]


def test_one_node() -> None:
    told = summary([state("n1", "leader", voters="n1")])
    assert told == "metadata group: n1 leads term 3; epoch 7, in use on n1; voters n1"


def test_without_a_leader_is_said_since_when_and_what_that_means() -> None:
    alone = state("n2", leader="", no_leader_since_ms=SINCE_MS)
    assert summary([DOWN, alone]) == (
        f"metadata group: no leader is known since {SINCE}: data are served, changes of what the cluster is "
        f"are refused; term 3; epoch 7, in use on n2"
    )
    assert notes(alone, [DOWN, alone]) == []


def test_a_node_that_knows_no_leader_while_others_do_says_so() -> None:
    states = [state("n1", "leader"), state("n2", leader="", term="4", no_leader_since_ms=SINCE_MS)]
    assert notes(states[1], states) == [
        "knows of no leader of the metadata group: changes are refused through n2"
    ]
    assert summary(states).startswith("metadata group: n1 leads term 3;")


def test_of_two_that_say_they_lead_the_later_term_counts() -> None:
    states = [state("n1", "leader"), state("n2", "leader", leader="n2", term="4")]
    assert summary(states).startswith("metadata group: n2 leads term 4;")


def test_a_node_that_lags_is_noted_and_is_not_among_those_that_use_the_epoch() -> None:
    behind = {"behind_n2": f"2 {SINCE_MS}", "behind_n3": f"1 {SINCE_MS}"}
    states = [state("n1", "leader", **behind), state("n2", epoch="5"), state("n3", epoch="6")]
    assert "epoch 7, in use on n1;" in f"{summary(states)};"
    assert notes(states[0], states) == []
    assert notes(states[1], states) == [f"uses epoch 5, 2 entries behind since {SINCE}"]
    assert notes(states[2], states) == [f"uses epoch 6, 1 entry behind since {SINCE}"]


def test_a_node_that_has_no_epoch_yet_is_behind_all() -> None:
    states = [state("n1", "leader"), state("n2", "none", epoch="", leader="")]
    assert notes(states[1], states) == ["uses no epoch of the metadata group yet, 7 is decided"]
    assert "in no group yet: n2" in summary(states)


def test_a_voter_that_the_leader_does_not_hear_is_noted_where_it_stands() -> None:
    states = [state("n1", "leader", silent_n9=SINCE_MS), DOWN]
    assert notes(DOWN, states) == [f"a voter that n1 has not heard since {SINCE}"]


def test_who_is_not_taken_in_yet_is_noted_and_what_not_to_do_before() -> None:
    states = [state("n1", "leader", untaken="n2"), state("n2", "learner")]
    assert notes(states[1], states) == [
        "a voter on another store than before, not taken in yet: restart no other node before that"
    ]
    assert notes(states[0], states) == []


def test_after_a_cancel_it_is_said_for_whom_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    world = loaded(4)
    world.stop(3)
    asked(world, SetSetting("moves.at_once", "1"))
    asked(world, RemoveMember(number(world, 3)))
    asked(world, TakeBack([]))
    world.run(1.0)
    held = sum(number(world, 3) in seats.old for seats in topology(world).seats)
    assert held > 0
    states = [world.state(at) for at in range(3)]
    words = f"n4 is dead, and holds {held} partitions: nothing is planned; `basestore rebalance`"
    assert words in shown(states, monkeypatch)
    assert json.loads(shown(states, monkeypatch, "-o", "json"))[0]["metadata"]["stranded"] == {
        "n4": {"standing": "dead", "partitions": held}
    }
    asked(world, Rebalance())
    finish(world)
    assert "nothing is planned" not in shown([world.state(at) for at in range(3)], monkeypatch)


def test_of_one_that_is_drained_what_was_cancelled_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    world = loaded(4)
    asked(world, SetSetting("moves.at_once", "1"))
    asked(world, DrainMember(number(world, 3)))
    first = next(at for at, seats in enumerate(topology(world).seats) if number(world, 3) in seats.old)
    while first not in topology(world).plan:
        world.run(0.05)
    last = max(topology(world).plan)
    asked(world, TakeBack([last]))
    world.run(0.1)
    words = "n4 is being drained, and holds 1 partition: nothing is planned; `basestore rebalance`"
    assert words in shown([world.state(0)], monkeypatch)


def test_an_older_node_is_unknown_and_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    older = NodeState("n2", "127.0.0.1:7401", "up", 1, 0, {}, {"alive": "n1 n2"})
    assert older.metadata is None
    told = summary([state("n1", "leader"), older])
    assert told == (
        "metadata group: n1 leads term 3; epoch 7, in use on n1; unknown of n2, where nothing is said of it"
    )
    assert summary([older]) == "metadata group: unknown, for no node that answers says anything of it"
    assert json.loads(shown([older], monkeypatch, "-o", "json"))[0]["metadata"] is None
    assert board_json([View(older)])["nodes"][0]["metadata"] is None


def test_before_there_is_a_group_is_said_why() -> None:
    world = World(2, logged=False)
    assert summary([world.state(0), world.state(1)]) == (
        "metadata group: there is no metadata group yet, for not all members were heard to speak version 10 "
        "of the wire. See `basestore status`: start the members that are missing, upgrade those that speak "
        "less, and try again"
    )


def test_where_no_node_answers_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert summary([DOWN]) == ""
    assert len(shown([DOWN], monkeypatch).splitlines()) == 2


def test_status_notes_it_in_the_row_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    told = shown([state("n1", "leader"), state("n2", epoch="5")], monkeypatch).splitlines()
    assert told[2].endswith("uses epoch 5, 2 entries behind")


def test_top_shows_the_same() -> None:
    states = [state("n1", "leader"), state("n2", epoch="5"), DOWN]
    paper = Console(width=200, color_system=None)
    with paper.capture() as capture:
        paper.print(board([View(each) for each in states], "", 200))
    told = [line.rstrip() for line in capture.get().splitlines()]
    assert summary(states) in told
    assert "n2 at 127.0.0.1:7400: uses epoch 5, 2 entries behind" in told
    first = board_json([View(each) for each in states])["nodes"]
    assert first[0]["metadata"]["leader"] == "n1"
    assert first[2]["metadata"] is None
