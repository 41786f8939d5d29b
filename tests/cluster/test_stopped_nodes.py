"""Nodes that are stopped under load: whoever has asked gets an answer, or is told that nothing was done."""

import threading
from collections import Counter
from functools import partial
from pathlib import Path

from basestore import sync
from basestore.errors import BasestoreError
from tests.cluster.processes import TIMEOUT_S, Cluster
from tests.worlds.patience import eventually

THREADS = 8


class Callers:
    """Threads that write, each over a store of its own, to one node first."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.outcomes: Counter[str] = Counter()
        self.unknown: list[str] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]

    def _run(self, number: int) -> None:
        with sync.connect([node.endpoint for node in self._cluster], timeout=TIMEOUT_S) as store:
            turn = 0
            while not self._ended.is_set():
                turn += 1
                items = [(f"key {number} {at}", f"{turn}") for at in range(16)]
                for result in store.set_many(items):
                    self.outcomes[type(result).__name__] += 1
                    if isinstance(result, BasestoreError) and not result.definite:
                        self.unknown.append(repr(result))

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more writes have had their answers."""
        wanted = self.outcomes.total() + more
        eventually(lambda: self.outcomes.total() >= wanted, f"{more} writes are answered")


def test_a_node_that_is_stopped_under_load_leaves_no_request_unknown(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        n1, n2, _ = cluster
        with Callers(cluster) as callers:
            for node in (n1, n2, n1):  # the callers' own, then a replica of what they write
                callers.wait_for(2000)
                node.stop()
                callers.wait_for(1000)
                node.start()
                eventually(partial(node.says, "up"), f"{node.name} is up again")
        assert callers.unknown == []
        assert callers.outcomes["Receipt"] > 4000
        assert "Traceback" not in n1.log + n2.log
