"""Real processes: the answer of a first write is lost with a node that stands still; repeated as itself at
another, its writer learns that it stands."""

import os
import signal
from pathlib import Path

import pytest

import basestore
import basestore.sync
from tests.worlds.shell import cluster


def test_a_first_write_whose_answer_was_lost_is_told_that_it_stands(tmp_path: Path) -> None:
    with cluster(tmp_path / "data", "--durability", "memory") as three:
        endpoints = [three.endpoint(1), three.endpoint(2)]
        with basestore.sync.connect(endpoints) as store:
            store.set("warm", "x")
            os.kill(three.up.pids["n1"], signal.SIGSTOP)
            try:
                with pytest.raises(basestore.RequestFailed) as lost:
                    store.set("ticket", "ada", bucket="once", timeout=1)
            finally:
                os.kill(three.up.pids["n1"], signal.SIGCONT)
            assert not lost.value.definite
            identity = lost.value.identity
            assert identity is not None
            assert str(identity) in str(lost.value)
            again = store.set("ticket", "ada", bucket="once", repeat=identity, timeout=10)
            assert again.outcome is basestore.Outcome.STORED
            assert again.identity.proposal == identity.proposal
            later = store.set("ticket", "ada", bucket="once")
            assert later.outcome is basestore.Outcome.LOST
            assert store.set("ticket", "ada", bucket="once", repeat=str(identity)).outcome is again.outcome
