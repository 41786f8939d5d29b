"""Conversations of a few Raft objects, held against the text files in `transcripts`.

A file holds commands (`> elect 1`, see tests/worlds/raft_stage.py) and what came of each. `pytest --update`
plays the commands anew; what then differs is reviewed as a change of code is.
"""

import pytest

from tests.worlds.raft_stage import Stage
from tests.worlds.transcripts import hold


@pytest.fixture(autouse=True)
def played(request: pytest.FixtureRequest) -> Stage:
    """The stage, after all commands of the file that has the test's name."""
    name = request.node.originalname.removeprefix("test_")
    file = request.path.parent / "transcripts" / f"{name}.txt"
    stage, lines = Stage(), list[str]()
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("> "):
            lines += [line, *stage.do(line[2:])]
        elif not line.startswith("  "):
            lines.append(line)
    hold(file, lines, update=request.config.getoption("--update"))
    return stage


def test_a_leader_is_elected_and_entries_are_decided(played: Stage) -> None:
    assert {raft.commit for raft in played.rafts.values()} == {3}


def test_an_isolated_voter_asks_and_disturbs_nobody(played: Stage) -> None:
    assert {raft.term for raft in played.rafts.values()} == {1}


def test_a_leader_that_hears_nobody_steps_down_and_follows_the_next(played: Stage) -> None:
    assert played.rafts[1].leader == played.rafts[2].me


def test_a_conflicting_suffix_is_replaced_back_to_where_logs_agree(played: Stage) -> None:
    logs = [[raft.log.entry(index) for index in range(1, 5)] for raft in played.rafts.values()]
    assert logs[0] == logs[1] == logs[2]


def test_voters_change_one_by_one(played: Stage) -> None:
    assert [voter.number for voter in sorted(played.rafts[4].voters)] == [1, 2, 4]


def test_a_learner_is_fed_and_counts_for_nothing(played: Stage) -> None:
    assert played.rafts[1].commit == 1


def test_a_snapshot_stands_for_what_was_compacted(played: Stage) -> None:
    assert played.rafts[3].log.base.last == 3


def test_a_leader_that_is_removed_leads_until_that_is_decided(played: Stage) -> None:
    assert not played.rafts[1].leads


def test_who_is_to_go_stands_while_only_it_has_that_entry(played: Stage) -> None:
    assert played.rafts[1].leads
    assert not played.rafts[2].votes


def test_a_consistent_read_waits_for_a_round_that_began_after_it(played: Stage) -> None:
    assert played.answers == {(1, 1): 2, (1, 2): 2, (1, 3): -1}


def test_a_default_read_rests_on_the_lease_and_falls_back(played: Stage) -> None:
    assert played.answers == {(1, 1): 1, (1, 2): 1}


def test_what_is_decided_may_be_learned_from_anyone(played: Stage) -> None:
    assert played.rafts[3].commit == played.rafts[2].commit


def test_a_vote_and_entries_count_once_they_are_durable(played: Stage) -> None:
    assert played.rafts[1].log.last == 2  # not 3
    assert played.rafts[2].commit == 1
