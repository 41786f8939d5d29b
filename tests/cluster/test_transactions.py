"""Transactions and locks of real nodes: whoever dies, or stands still, all of a transaction is done, or
nothing, and its client is told which; and who has lost a lock writes no more under it."""

import signal
import sys
from functools import partial
from pathlib import Path

from basestore.client.coordination.lock_view import LockView
from tests.cluster.bank import BUCKET, COMMITTED, NOT_DONE, Bank
from tests.cluster.dying import dies_at
from tests.cluster.dying_coordinators import MOMENTS, mortal
from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.register_end import finals
from tests.worlds.patience import eventually
from tests.worlds.shell import running

WRITES_LATE = """
trap 'echo ended; exit 0' TERM
echo begun
while [ ! -e "$GO" ]; do sleep 0.01; done
"$PYTHON" -m basestore -e "$NODE" set k late --bucket cas --fence "$BASESTORE_FENCE"
echo "told $?"
while :; do sleep 0.01; done
"""


def intents(node: NodeProcess) -> int:
    """How many rows of a node's store hold one; what it does not say counts as one."""
    status = node.status()
    return 1 if status is None else int(status.facts["transaction intents"])


def test_a_coordinator_is_killed_at_each_of_its_steps(tmp_path: Path) -> None:
    with Cluster(tmp_path) as nodes:
        n1 = nodes.nodes[0]
        mortal(n1)
        nodes.start()
        nodes.wait_founded()
        bank = Bank([node.endpoint for node in nodes], seed=1)
        bank.open_accounts()
        with bank:
            bank.wait_for(5)
            n1.stop()
            for moment in MOMENTS:
                n1.start(dies_at(moment, after=3))
                assert n1.wait() == -signal.SIGKILL, moment
                bank.wait_for(3)
            n1.start()
            nodes.wait_linked()
            bank.wait_for(10)
        for node in nodes:
            eventually(partial(lambda each: not intents(each), node), f"no intent is left on {node.name}")
            assert bank.complaints(finals(node, bank.keys)) == []
        assert all(bank.counts[what] for what in (COMMITTED, NOT_DONE, "audits")), bank.counts


def test_who_stood_still_while_another_took_the_lock_writes_nothing_under_it(tmp_path: Path) -> None:
    with Cluster(tmp_path / "nodes") as nodes:
        nodes.start()
        nodes.wait_founded()
        node, go = nodes.nodes[0], tmp_path / "go"
        told = {"GO": str(go), "PYTHON": sys.executable, "NODE": node.endpoint}
        words = ("-e", node.endpoint, "lock", "jobs", "--seconds", "1s", "--", "sh", "-c", WRITES_LATE)
        with running(*words, env=told) as stopped, node.store() as store:
            stopped.wait_for("begun", stopped.stdout)
            stopped.process.send_signal(signal.SIGSTOP)  # what it runs goes on, and does not know
            try:
                with store.lease("jobs", owner="another") as lease:
                    (held,) = store.locks()
                    assert (held.owner, held.token) == ("another", 2)
                    assert isinstance(held, LockView)
                    assert store.set("k", "in time", bucket=BUCKET, fence=lease)
                    go.touch()
                    assert stopped.wait_for(r"told (\d+)", stopped.stdout)[1] == "5"
            finally:
                stopped.process.send_signal(signal.SIGCONT)
            stopped.wait_for("ended", stopped.stdout)
            assert stopped.end() == 4
            assert any("fenced off" in line for line in stopped.stderr)
            assert any("is lost" in line for line in stopped.stderr)
            assert store.get("k", bucket=BUCKET).value == b"in time"
