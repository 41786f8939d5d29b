"""Real processes: a cluster is upgraded node by node under load, goes back, and is upgraded for good."""

from dataclasses import replace
from pathlib import Path

from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from tests.cluster.load import Load
from tests.cluster.mixed import REST_S, judge, roll
from tests.cluster.processes import Cluster, NodeProcess
from tests.worlds.shell import Finished, invoke


def older(node: NodeProcess) -> None:
    node.configure(replace(node.config, wire_highest=WIRE_LOWEST))


def newer(node: NodeProcess) -> None:
    node.configure(replace(node.config, wire_highest=WIRE_HIGHEST))


def shell(node: NodeProcess, *arguments: str) -> Finished:
    return invoke(*arguments, env={"BASESTORE_ENDPOINTS": node.endpoint})


def levels(cluster: Cluster) -> list[int]:
    return [each["feature_level"] for each in shell(cluster.nodes[0], "status", "-o", "json").json]


def test_a_cluster_is_rolled_forth_and_back_under_load_until_the_upgrade_is_finished(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, n3 = cluster
        for node in cluster:
            older(node)
        cluster.start()
        with Load(cluster, seed=8, rest_s=REST_S) as load:
            roll(cluster, load, newer, [n1, n2])
            refused = shell(n1, "upgrade", "finish")
            assert refused.code == 3
            assert refused.text == "nothing was changed, the feature level is 8:\n"
            assert f"n3 speaks no version above 8, for {n3.path} sets wire_highest: take" in refused.stderr
            roll(cluster, load, older, [n2])
            roll(cluster, load, newer, [n2, n3])
        judge(cluster, load.ledger)
        assert levels(cluster) == [WIRE_LOWEST] * 3
        shown = shell(n1, "status")
        assert shown.text.count("speaks version 8 to 13, feature level 8") == 3
        assert "basestore upgrade finish" in shown.stderr
        not_yet = shell(n1, "set", "k", "v", "-c", "any", "--defer")
        assert not_yet.code == 2
        assert "(all nodes speak it by now)" in not_yet.stderr

        done = shell(n1, "upgrade", "finish", "-o", "json")
        finished = {"finished": True, "feature_level": WIRE_HIGHEST, "behind": [], "following": []}
        assert (done.code, done.json) == (0, finished)
        assert levels(cluster) == [WIRE_HIGHEST] * 3  # all have heard of it
        assert shell(n1, "upgrade", "finish").text.startswith("nothing to finish: every node already is at")
        assert "feature level" not in shell(n1, "status").text
        assert shell(n1, "set", "k", "v", "-c", "any", "--defer").code == 0
        n3.stop()
        older(n3)
        n3.start()
        assert n3.wait() != 0
        assert "this node speaks 8 at most. Nothing was changed. Set [node] wire_highest to 13" in n3.log
        newer(n3)
        cluster.start()
        judge(cluster, load.ledger)
