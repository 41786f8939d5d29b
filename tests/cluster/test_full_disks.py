"""Three nodes whose disks fill up at the same pace: nobody ends, everything is read, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

from tests.cluster.full_disks import REFUSALS
from tests.worlds.small_disk import in_namespace

UNTIL_ALL_KNOW = {"ReplicaFailure", "WriteTimeout"}  # a peer is short of space, and this node not yet


def _report(root: Path, reserve: int) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(in_namespace("tests.cluster.full_disks", str(root), str(reserve)))
    assert report["stored"] > 100
    assert report["running"] == [True] * 3
    assert report["lost when full"] == report["lost"] == [[]] * 3
    assert all("Traceback" not in log for log in report["logs"])
    return report


def test_with_a_reserve_a_full_disk_refuses_for_certain_and_a_node_opens_again_on_it(
    tmp_path: Path,
) -> None:
    report = _report(tmp_path, 10 << 20)
    assert report["kinds"]["Overloaded"] >= REFUSALS
    assert set(report["kinds"]) <= {"Overloaded", *UNTIL_ALL_KNOW}
    assert all("nothing was done" in text and "disk" in text for text in report["texts"])


def test_without_one_a_disk_with_no_room_at_all_ends_no_node_either(tmp_path: Path) -> None:
    report = _report(tmp_path, 0)
    assert "Overloaded" in report["kinds"]
