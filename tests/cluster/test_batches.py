"""Atomic batches of real nodes: whoever is killed, each is there whole in the end, or nothing of it is."""

import signal
from functools import partial
from pathlib import Path
from threading import Thread

from basestore import sync
from basestore.errors import BasestoreError
from tests.cluster.dying_batches import BEGUN, MOMENTS, mortal
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.worlds.patience import eventually
from tests.worlds.shell import Finished, invoke

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


# --- a file that is one batch ------------------------------------------------------------------------


def load(node: NodeProcess, file: Path, *words: str) -> Finished:
    return invoke("import", "--atomic", str(file), "-e", node.endpoint, "--timeout", "2s", *words)


def rows(file: Path, value: str, count: int = 20) -> list[str]:
    """Into this file; returns their keys."""
    keys = [f"{value}/{at}" for at in range(count)]
    file.write_text("".join(f'{{"key":"{key}","value":"{value}"}}\n' for key in keys))
    return keys


def held(node: NodeProcess, keys: list[str]) -> set[str | None]:
    """What they hold."""
    with node.store() as store:
        return {result.text for result in store.get_many(keys).raise_for_errors()}


def test_the_same_command_follows_the_batch_of_a_coordinator_that_was_killed_at_any_step(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "nodes") as cluster:
        n1, n2, _ = cluster
        mortal(n1)
        cluster.start()
        cluster.wait_founded()
        n1.stop()
        for moment in MOMENTS:
            n1.start({"DIES_AT": moment})
            cluster.wait_linked()
            file = tmp_path / f"{moment}.ndjson"
            keys, kept = rows(file, moment), tmp_path / f"{moment}.ndjson.basestore-batch"
            stopped = load(n1, file)
            assert n1.wait() == -signal.SIGKILL, moment
            assert stopped.code == 4, stopped.stderr
            assert "Give the same command again" in stopped.stderr
            if moment == BEGUN:
                again = load(n2, file)
                assert again.code == 4, again.stderr
                assert "nothing is found of it" in again.stderr
                assert held(n2, keys) == {None}
                assert load(n2, file, "--restart").code == 0
            else:
                eventually(lambda: load(n2, file).code == 0, f"{moment}: it is followed to its end")  # noqa: B023
            assert held(n2, keys) == {moment}
            assert not kept.exists()
        n1.start()
        cluster.wait_linked()
        eventually(lambda: unfinished(cluster) == 0, "no part of a batch is left")


def test_what_no_batch_may_be_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    keys = rows(file, "refused")
    with running(tmp_path / "nodes", 1) as cluster:
        cluster.wait_founded()
        (node,) = cluster
        eventually(lambda: load(node, file, "--bucket", "cas").code != 3, "the bucket is made")
        for words, told in (
            (("-c", "one"), "an atomic batch at level one: too few replicas would hold it"),
            (("-c", "any"), "an atomic batch at level any: too few replicas would hold it"),
            (("--bucket", "cas"), "bucket 'cas' takes no atomic batches"),
            (("--bucket", "none"), "'none'"),
        ):
            refused = load(node, file, *words)
            assert refused.code == 2, refused.stderr
            assert told in refused.stderr
            assert not file.with_name(f"{file.name}.basestore-batch").exists()
        assert held(node, keys) == {None}
