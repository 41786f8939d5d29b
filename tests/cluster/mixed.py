"""python -m tests.cluster.mixed COMMIT: nodes of that commit and of this checkout in one cluster.

Where both speak a common version of the wire, three nodes are rolled from that commit to this checkout, back
and forth again, one by one and under load: no acknowledged write may be missing, and no request may fail
otherwise than for the node that is just being stopped. What was before version 8 cannot join: then both logs
must say so, the others must go on, and what they stored must be there once all are upgraded.

`roll` is what the tests do with `wire_highest` in one checkout. Takes the git history and tar.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from basestore.config_file import dump
from basestore.consistency import Level
from tests.cluster.load import Ledger, Load
from tests.cluster.processes import SERVE, Cluster, NodeProcess, reads_at
from tests.worlds.patience import eventually
from tests.worlds.shell import ROOT, Finished, invoke

WRITES = 50  # between two steps
REST_S = 0.2  # of a writer, between its writes
KEYS = 40
# What a caller may be told while a node is being stopped or is away: that nothing was done, or a timeout.
EXPECTED = {"Unavailable", "Overloaded", "Unreachable", "WriteTimeout"}
# What each release since numbers are given to members understands of a configuration.
SETTINGS = (
    "id",
    "key",
    "replication",
    "partitions",
    "timeout_ms_max",
    "number",
    "name",
    "address",
    "directory",
)

Become = Callable[[NodeProcess], None]


def roll(cluster: Cluster, load: Load, become: Become, nodes: Iterable[NodeProcess] = ()) -> None:
    """Stop nodes one by one, let each become another release, and start it."""
    for node in nodes or cluster.nodes:
        load.wait_for(WRITES)
        node.stop()
        become(node)
        node.start()
        cluster.wait_linked()
    load.wait_for(WRITES)


def judge(cluster: Cluster, ledger: Ledger) -> None:
    """AssertionError unless all that was acknowledged is there, and nothing failed that should not have."""
    assert ledger.errors.keys() <= EXPECTED, ledger.errors
    for node in cluster:
        assert ledger.complaints(node, Level.QUORUM) == []
        assert "Traceback" not in node.log


def upgraded(node: NodeProcess) -> None:
    """Let it run this checkout."""
    node.command, node.environment = (sys.executable, "-m", "basestore", *SERVE), {}
    node.configure(node.config)


class Checkout:
    """The files of a commit."""

    def __init__(self, commit: str, tree: Path) -> None:
        tree.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "x"], cwd=tree, input=archive.stdout, check=True)
        self.command = (sys.executable, "-P", "-m", "basestore")  # -P: not what lies where this is run
        self.environment = {"PYTHONPATH": str(tree)}

    @property
    def joins(self) -> bool:
        """Whether it has versions of the wire: all that do have a common one."""
        told = [sys.executable, "-P", "-c", "from basestore.protocol.limits import WIRE_HIGHEST"]
        environment = {**os.environ, **self.environment}
        return not subprocess.run(told, env=environment, capture_output=True, check=False).returncode

    def become(self, node: NodeProcess) -> None:
        """Let a node run it."""
        node.command, node.environment = (*self.command, *SERVE), self.environment
        lines = dump(node.config).splitlines()
        node.path.write_text("\n".join(each for each in lines if each.startswith(("[", *SETTINGS))))

    def shell(self, node: NodeProcess, *arguments: str) -> Finished:
        """Its command line."""
        environment = {**self.environment, "BASESTORE_ENDPOINTS": node.endpoint}
        return invoke(*arguments, env=environment, command=self.command)


def mix(cluster: Cluster, older: Checkout) -> str:
    """Both speak a common version."""
    cluster.start()
    with Load(cluster, seed=13, rest_s=REST_S) as load:
        for become in (upgraded, older.become, upgraded):
            roll(cluster, load, become)
    judge(cluster, load.ledger)
    done = invoke("upgrade", "finish", env={"BASESTORE_ENDPOINTS": cluster.nodes[0].endpoint})
    assert done.code == 0, done
    return (
        f"rolled forth and back: {load.stored} writes stored, errors {dict(load.ledger.errors)}; {done.text}"
    )


def part(cluster: Cluster, older: Checkout) -> str:
    """There is no common version: n1 is upgraded, cannot join, and goes back; then all are."""
    n1, n2, n3 = cluster
    for node in cluster:
        node.start()
    eventually(lambda: older.shell(n2, "status").text.count(" up ") == 3, "all are up")
    for at in range(KEYS):
        assert older.shell(n2, "set", f"k{at}", f"{at}", "-c", "all" if at % 2 else "quorum").code == 0
    n1.stop()
    upgraded(n1)
    n1.start()
    eventually(
        lambda: re.search("n[23] closed the connection at the first word: it may", n1.log), "n1 says so"
    )
    eventually(lambda: re.search("n1 refuses: protocol version .* is not spoken", n2.log), "n2 says so")
    assert older.shell(n2, "set", "k0", "meanwhile").code == 0
    for node in cluster:
        if node.running:
            node.stop()
        upgraded(node)
    cluster.start()
    wanted = {f"k{at}".encode(): f"{at}".encode() if at else b"meanwhile" for at in range(KEYS)}
    for node in cluster:
        assert reads_at(node, sorted(wanted), Level.QUORUM) == wanted
    told = [line for node in (n1, n2, n3) for line in node.log.splitlines() if "WARNING" in line]
    return "\n".join(["it cannot join, and both logs say so; nothing was lost:", *dict.fromkeys(told)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.mixed", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("commit")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="basestore-mixed-") as root:
        older = Checkout(given.commit, Path(root) / "older")
        with Cluster(Path(root) / "nodes") as cluster:
            for node in cluster:
                older.become(node)
            print(mix(cluster, older) if older.joins else part(cluster, older))
    return 0


if __name__ == "__main__":
    sys.exit(main())
