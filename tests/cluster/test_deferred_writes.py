"""Real processes: what a busy node has deferred is delivered, whoever died, and its receipt tells when."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from basestore.config import BucketOptions
from basestore.consistency import Level, Outcome
from basestore.results.receipts import Receipt
from tests.cluster.busy import Busy
from tests.cluster.processes import Cluster, NodeProcess, reads_at
from tests.worlds.patience import eventually
from tests.worlds.shell import Finished, invoke


def start(cluster: Any) -> None:
    """Until its nodes know that all of them can read what is deferred."""
    cluster.start()
    for node in cluster:
        eventually(partial(_knows_level, node), "the level is known")


def _knows_level(node: NodeProcess) -> bool:
    with node.store("any") as store:
        return bool(store.node_status().facts["feature level"])


def defer(node: NodeProcess, key: str, value: str, **more: Any) -> Receipt:
    with node.store("any") as store:
        return store.set(key, value, **{"defer": True, **more})


def is_everywhere(node: NodeProcess, receipt: Receipt, timeout_s: float) -> bool:
    with node.store() as store:
        return store.converged(receipt=receipt, timeout=timeout_s).proven


def shell(node: NodeProcess, *arguments: str) -> Finished:
    return invoke(*arguments, env={"BASESTORE_ENDPOINTS": node.endpoint})


def busy(tmp_path: Path, **options: BucketOptions) -> tuple[Cluster, Busy]:
    """A cluster whose first node has too much to do."""
    cluster = Cluster(tmp_path, 3)
    n1, *_ = cluster
    n1.configure(replace(n1.config, bucket_options=options))
    return cluster, Busy(n1)


def test_a_node_killed_right_after_the_receipt_delivers_it_once_it_is_back(tmp_path: Path) -> None:
    cluster, busy_node = busy(tmp_path)
    with cluster:
        start(cluster)
        n1, n2, n3 = cluster
        n2.pause()
        n3.pause()
        receipt = defer(n1, "k", "v")
        assert receipt.outcome is Outcome.DEFERRED
        n1.kill()
        n2.resume()
        n3.resume()
        busy_node.end()
        n1.start()
        cluster.wait_linked()
        assert is_everywhere(n2, receipt, 60)
        for node in cluster:
            assert reads_at(node, [b"k"], Level.ONE) == {b"k": b"v"}
        assert not any(n1.hints().values())


def test_while_one_of_three_is_down_it_is_not_everywhere(tmp_path: Path) -> None:
    cluster, _ = busy(tmp_path)
    with cluster:
        start(cluster)
        n1, n2, n3 = cluster
        n3.kill()
        receipt = defer(n1, "k", "v")
        assert receipt.outcome is Outcome.DEFERRED
        eventually(lambda: reads_at(n2, [b"k"], Level.ONE) == {b"k": b"v"}, "n2 has it")
        assert not is_everywhere(n1, receipt, 3)
        again = defer(n1, "k", "v", repeat=receipt.identity)
        assert again.identity == receipt.identity
        n3.start()
        cluster.wait_linked()
        assert is_everywhere(n1, receipt, 60)
        assert reads_at(n3, [b"k"], Level.ONE) == {b"k": b"v"}


def test_the_shell_says_so_and_shows_what_waits(tmp_path: Path) -> None:
    cluster, busy_node = busy(tmp_path)
    with cluster:
        start(cluster)
        n1, _, n3 = cluster
        n3.kill()
        told = shell(n1, "set", "k", "v", "-c", "any", "--defer")
        assert told.code == 0
        assert told.text.startswith(
            "deferred  the node is overloaded, and keeps it to deliver later  version "
        )
        told = shell(n1, "delete", "k", "-c", "any", "--defer", "-o", "json")
        assert told.code == 0
        assert told.json["outcome"] == "deferred"
        assert set(told.json["replicas"].values()) == {"hinted"}
        eventually(lambda: n1.hints() == {"n1": 0, "n2": 0, "n3": 1}, "n1 has delivered what it can")
        (kept,) = (node for node in shell(n1, "hints", "-o", "json").json if node["node"] == "n1")
        assert [(pile["peer"], pile["deferred"]) for pile in kept["peers"]] == [("n3", 1)]
        assert "DEFERRED" in shell(n1, "hints").text
        (state,) = (each for each in shell(n1, "status", "-o", "json").json if each["node"] == "n1")
        assert state["deferred_hints"] == 1
        assert state["deferred_bytes"] > 0
        assert "1 hint of deferred writes to deliver" in shell(n1, "status").text
        refused = shell(n1, "set", "k", "v", "--defer")
        assert refused.code == 2
        assert "a write at quorum cannot be deferred" in refused.stderr
        busy_node.end()
        told = shell(n1, "set", "k", "v", "-c", "any", "--defer", "-o", "json")
        assert told.json["outcome"] == "stored"


def test_a_bucket_may_have_it_so_for_all_its_writes_at_any(tmp_path: Path) -> None:
    cluster, busy_node = busy(tmp_path, default=BucketOptions(defer=True))
    with cluster:
        start(cluster)
        n1, *_ = cluster
        with n1.store("any") as store:
            told = store.set_many([("a", "1"), ("b", "2")]).raise_for_errors()
            assert {receipt.outcome for receipt in told} == {Outcome.DEFERRED}
            assert store.set("c", "3", consistency="one").outcome is Outcome.STORED
            busy_node.end()
            told = store.set_many([("d", "4"), ("e", "5")], defer=True).raise_for_errors()
            assert {receipt.outcome for receipt in told} == {Outcome.STORED}
            eventually(lambda: store.get("b", consistency="all").value == b"2", "it is delivered")
