"""Group commit: when a sync is asked for at once."""

import pytest

from basestore.cluster.outbox import Outbox
from basestore.protocol.replication import Applied
from basestore.replica import group_commit as group_commits
from basestore.replica.group_commit import GroupCommit
from basestore.storage.memory import MemoryEngine


def staged(*, waits: bool = True) -> GroupCommit:
    """One row, stored and not durable, for which nobody waits."""
    commit = GroupCommit(MemoryEngine(), b"", waits=waits)
    commit.stage(b"k", b"v")
    commit.commit()
    return commit


def test_what_nobody_waits_for_is_not_urgent_though_it_is_not_durable() -> None:
    commit = staged()
    assert commit.durable_sequence < commit.sequence
    assert not commit.urgent


@pytest.mark.parametrize("waits", [True, False])
def test_an_answer_is_urgent_where_it_waits(waits: bool) -> None:
    for surely in (False, True):
        commit, outbox = GroupCommit(MemoryEngine(), b"", waits=waits), Outbox(set())
        commit.stage(b"k", b"v")
        commit.ack(outbox, 7, b"k", surely=surely)
        commit.commit()
        assert commit.urgent == (waits or surely)
        assert bool(outbox.messages) != commit.urgent
        commit.durable(commit.sequence)
        assert not commit.urgent
        assert len(outbox.messages) == 1


def test_an_answer_that_shows_what_nobody_waited_for_is_urgent_now() -> None:
    commit, outbox = staged(), Outbox(set())
    commit.reply(outbox, Applied([7], b"", 1), b"other")
    assert len(outbox.messages) == 1, "it shows something else"
    commit.reply(outbox, Applied([8], b"", 1), b"k")
    assert len(outbox.messages) == 1
    assert commit.urgent


def test_so_is_an_action_and_whatever_there_is_too_much_of(monkeypatch: pytest.MonkeyPatch) -> None:
    commit, done = staged(waits=False), list[int]()
    commit.when_durable(lambda: done.append(1))
    commit.commit()
    assert commit.urgent
    monkeypatch.setattr(group_commits, "UNSYNCED_BYTES_MAX", 0)
    assert staged().urgent
