"""What `healing.py` plays at full size, with a few thousand records."""

from pathlib import Path

from tests.cluster.healing import alter, delete, load, wipe
from tests.cluster.processes import running


def test_a_wiped_disk_an_altered_record_and_deletes_beside_a_node_that_is_down(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        load(cluster, 3000)
        wipe(cluster, 3000)
        alter(cluster, 7)
        delete(cluster, 1000)
