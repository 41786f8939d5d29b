"""Progress: what a leader sends to one follower, and when."""

import pytest

from basestore.consensus import progress as progress_module
from basestore.consensus.progress import Progress
from tests.worlds.raft_stage import Stage, voter


def replicating(match: int) -> Progress:
    progress = Progress(match, 0.0)
    progress.held(match, match)
    return progress


def test_a_probe_is_sent_once_until_it_is_answered_or_time_passes() -> None:
    progress = Progress(4, 0.0)
    assert not progress.may_send(4)
    assert progress.may_send(5)
    progress.sent(1)
    assert not progress.may_send(5)
    progress.beat()
    assert (progress.may_send(5), progress.next) == (True, 5)


def test_who_has_answered_nothing_since_the_beat_before_is_sent_nothing_until_it_does() -> None:
    progress = replicating(4)
    progress.sent(3)
    progress.beat()  # whatever had been heard was before that
    progress.sent(3)
    progress.beat()
    assert (progress.may_send(7), progress.next) == (False, 5)
    progress.answered(2, 1.0)
    progress.held(4, 7)
    assert (progress.may_send(7), progress.next, progress.round, progress.contact_s) == (True, 5, 2, 1.0)


def test_who_is_known_to_follow_is_sent_ahead_of_the_answers_up_to_a_bound() -> None:
    progress, far = replicating(4), progress_module.AHEAD_MAX
    progress.sent(far)
    assert (progress.next, progress.may_send(5 + far)) == (5 + far, False)
    progress.held(5, 5 + far)
    assert progress.may_send(5 + far)


def test_what_is_not_answered_by_the_next_beat_is_sent_again() -> None:
    progress = replicating(4)
    progress.sent(3)
    progress.beat()
    assert (progress.next, progress.probing) == (5, True)


def test_a_snapshot_is_not_sent_again_before_it_is_answered_or_time_passes() -> None:
    progress = replicating(4)
    progress.sent_snapshot()
    assert not progress.may_send(9)
    progress.beat()
    assert progress.may_send(9)


def test_going_back_is_to_where_the_follower_says() -> None:
    progress = Progress(9, 0.0)
    progress.sent(1)
    assert progress.missed(4)
    assert (progress.next, progress.may_send(9)) == (4, True)


@pytest.mark.parametrize("hint", [2, 4, 10, 900])
def test_old_news_of_what_is_missing_send_nobody_back(hint: int) -> None:
    progress = replicating(4)
    progress.sent(5)
    assert not progress.missed(hint)
    assert (progress.next, progress.probing) == (10, False)


def test_no_more_is_held_than_the_leader_has_and_never_less_than_before() -> None:
    progress = Progress(4, 0.0)
    progress.held(900, 6)
    assert (progress.match, progress.next) == (6, 7)
    progress.held(2, 6)
    assert (progress.match, progress.next) == (6, 7)


def test_a_learner_that_answers_each_heartbeat_has_caught_up_however_far_they_are_apart() -> None:
    stage = Stage()
    stage.do("found 1\nlearner 2\nelect 1\nfeed 1 2\nwait 0.5\ntick 1\ndeliver")
    for pause in (0.5, 0.6, 0.9, 0.6):  # a node that rests is ticked now and then
        stage.do(f"wait {pause}\ntick 1")
        assert stage.rafts[1].caught_up(voter(2))
        stage.do("deliver")
    stage.do("wait 0.6\ntick 1\ndrop\nwait 0.6\ntick 1")
    assert not stage.rafts[1].caught_up(voter(2))
