"""Nodes whose disks fill up at the same pace: nobody ends, everything is read, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

from tests.cluster.full_disks import REFUSALS
from tests.worlds.small_disk import in_namespace

RESERVE_MIB = 24
TOO_SMALL = "the disk may be full before it is told. Reserve more"
UNTIL_ALL_KNOW = {"ReplicaFailure", "WriteTimeout"}  # a peer is short of space, and this node not yet


def _report(root: Path, nodes: int, disk: int, reserve: int) -> dict[str, Any]:
    words = map(str, (root, nodes, disk, reserve))
    report: dict[str, Any] = json.loads(in_namespace("tests.cluster.full_disks", *words))
    assert report["stored"] > 100
    assert report["running"] == [True] * nodes
    assert report["lost when full"] == report["lost"] == [[]] * nodes
    assert all("Traceback" not in log for log in report["logs"])
    return report


def test_with_a_reserve_a_full_disk_refuses_for_certain_and_a_node_opens_again_on_it(
    tmp_path: Path,
) -> None:
    report = _report(tmp_path, 3, 24, 10)
    assert report["kinds"]["Overloaded"] >= REFUSALS
    assert set(report["kinds"]) <= {"Overloaded", *UNTIL_ALL_KNOW}
    assert all("nothing was done" in text and "disk" in text for text in report["texts"])


def test_a_reserve_of_many_flushes_is_met_before_the_disk_is_full(tmp_path: Path) -> None:
    """One MiB is kept in memory on such a disk before it becomes a table; what is merged needs room, too."""
    report = _report(tmp_path, 1, 96, RESERVE_MIB)
    assert report["lowest"] > RESERVE_MIB << 20 >> 3, "what is written beside leaves some of the reserve"
    assert set(report["kinds"]) == {"Overloaded"}
    assert all("are kept in reserve (disk_reserve_bytes)" in text for text in report["texts"])
    assert report["stored"] > 1000
    (log,) = report["logs"]
    assert " is full" not in log
    assert TOO_SMALL not in log


def test_without_one_a_disk_with_no_room_at_all_ends_no_node_either(tmp_path: Path) -> None:
    report = _report(tmp_path, 3, 24, 0)
    assert "Overloaded" in report["kinds"]
    assert all(TOO_SMALL in log for log in report["logs"])
