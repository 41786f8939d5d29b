"""Atomic batches of real nodes: whoever is killed, each is there whole in the end, or nothing of it is."""

from functools import partial
from pathlib import Path
from threading import Thread

from basestore import sync
from basestore.errors import BasestoreError
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.worlds.patience import eventually

GROUPS, KEYS, KILLS = 4, 4, 3
AT_LEAST = 5  # batches of each group, before a node is killed


class Writer:
    """Writes batch after batch to one group of keys, at one node, until that does not answer. `stored`: the
    number of the last that was; `asked`: of the last that was asked for."""

    def __init__(self, group: int) -> None:
        self.keys = [f"group {group}/{number}" for number in range(KEYS)]
        self.stored = self.asked = 0

    def write(self, node: NodeProcess) -> None:
        with sync.connect(node.endpoint, timeout=2.0) as store:
            while True:
                self.asked += 1
                try:
                    with store.batch(atomic=True) as batch:
                        for key in self.keys:
                            batch.set(key, str(self.asked))
                except BasestoreError:
                    return
                assert batch.receipt is not None
                self.stored = self.asked

    def found(self, node: NodeProcess) -> set[int]:
        """What its keys hold."""
        with sync.connect(node.endpoint) as store:
            return {int(result.text or 0) for result in store.get_many(self.keys).raise_for_errors()}

    def is_whole(self, node: NodeProcess) -> bool:
        (number, *others) = self.found(node)
        return not others and self.stored <= number <= self.asked


def wrote(writers: list[Writer], before: list[int]) -> bool:
    """Whether each has written so much since."""
    return all(each.stored >= was + AT_LEAST for each, was in zip(writers, before, strict=True))


def unfinished(cluster: Cluster) -> int:
    states = [node.status() for node in cluster]
    return sum(1 if state is None else int(state.facts["batch parts unfinished"]) for state in states)


def test_whoever_coordinates_is_killed_and_none_is_left_half_done(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.wait_founded()
        writers = [Writer(group) for group in range(GROUPS)]
        for _ in range(KILLS):
            for node in cluster:
                before = [writer.stored for writer in writers]
                threads = [Thread(target=writer.write, args=(node,)) for writer in writers]
                for thread in threads:
                    thread.start()
                eventually(partial(wrote, writers, before), "all groups are written to")
                node.kill()
                for thread in threads:
                    thread.join()
                node.start()
                cluster.wait_linked()
        eventually(lambda: unfinished(cluster) == 0, "no part of a batch is left")
        for node in cluster:
            assert all(writer.is_whole(node) for writer in writers)
