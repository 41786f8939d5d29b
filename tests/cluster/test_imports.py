"""An import that was stopped, and disks that are lost before it goes on: with real processes."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.processes import running as nodes_running
from tests.worlds.patience import eventually
from tests.worlds.shell import Finished, invoke, running

ROWS = 3000


def _stopped_import(tmp_path: Path, node: NodeProcess) -> Path:
    """The file of an import that was killed once some of its rows were stored."""
    file = tmp_path / "rows.ndjson"
    file.write_text("".join(f'{{"key":"row {at:06}","value":"{at}"}}\n' for at in range(ROWS)))
    progress = tmp_path / "rows.ndjson.basestore-progress"
    with running("import", str(file), "-e", node.endpoint) as first:
        eventually(progress.exists, "a batch is acknowledged")
        first.end(signal.SIGKILL)
    assert progress.exists(), "the import was too fast to be killed"
    return file


def _import(file: Path, node: NodeProcess, *options: str) -> Finished:
    return invoke("import", str(file), "-e", node.endpoint, "-o", "json", *options)


def _lose(cluster: Cluster, lost: int) -> None:
    """The disks of so many nodes, the last ones."""
    gone = cluster.nodes[-lost:]
    for node in gone:
        node.kill()
        shutil.rmtree(node.directory)
    cluster.start()


@pytest.mark.parametrize(("nodes", "lost"), [(1, 1), (3, 3), (3, 2)])
def test_an_import_does_not_go_on_behind_rows_that_went_with_disks(
    tmp_path: Path, nodes: int, lost: int
) -> None:
    with nodes_running(tmp_path, nodes) as cluster:
        n1 = cluster.nodes[0]
        file = _stopped_import(tmp_path, n1)
        _lose(cluster, lost)
        if lost < nodes:  # two came back one by one: what is lost is noted, and an operator accepts it
            accepted = invoke("repair", "--accept-loss", "-e", n1.endpoint)
            assert accepted.code == 0, accepted.stderr
        for _ in range(2):
            refused = _import(file, n1)
            assert refused.code == 4, refused.stderr
            assert refused.json["complete"] is False
            assert "may be gone with a disk" in refused.stderr
            assert "--restart" in refused.stderr
            assert "goes on behind" not in refused.stderr
        anew = _import(file, n1, "--restart")
        assert (anew.code, anew.json["stored"], anew.json["complete"]) == (0, ROWS, True), anew.stderr
        assert invoke("scan", "row", "--keys-only", "-e", n1.endpoint).text.count("\n") == ROWS


@pytest.mark.parametrize("back", [False, True], ids=["a member is away", "it has recovered from a lost disk"])
def test_a_loss_that_a_quorum_can_spare_does_not_keep_an_import_from_going_on(
    tmp_path: Path, back: bool
) -> None:
    with nodes_running(tmp_path) as cluster:
        n1, _, n3 = cluster
        file = _stopped_import(tmp_path, n1)
        if back:
            _lose(cluster, 1)
        else:
            n3.kill()
            eventually(lambda: n1.alive() == {"n1", "n2"}, "n1 notices")
        done = _import(file, n1)
        assert (done.code, done.json["stored"], done.json["complete"]) == (0, ROWS, True), done.stderr
        assert "Going on at line" in done.stderr
        assert not os.path.exists(f"{file}.basestore-progress")
