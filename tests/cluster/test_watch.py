"""Watchers of real nodes: kill -9 of whoever tells them, and resumption at another, miss nothing."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from basestore import sync
from basestore.errors import BasestoreError
from basestore.results.receipts import Change, Gap, Progress
from tests.cluster.processes import Cluster, running

WAIT_S = 60.0


class Watching(threading.Thread):
    """Follows all that is written, at the first of these endpoints and then at the others."""

    def __init__(self, endpoints: list[str], token: str | None = None) -> None:
        super().__init__(daemon=True)
        self._endpoints, self.token, self._from = endpoints, token, token
        self.held: dict[bytes, tuple[bytes, bytes | None]] = {}
        self.gaps = 0
        self.begun, self._stopped = threading.Event(), False
        self._told = threading.Condition()
        self.stable = 0

    def run(self) -> None:
        with sync.connect(self._endpoints, timeout=2.0) as store:
            for event in store.watch(token=self._from, patience=WAIT_S):
                with self._told:
                    self._take(event)
                    self._told.notify_all()
                if self._stopped:
                    return

    def _take(self, event: Change | Progress | Gap) -> None:
        if isinstance(event, Change):
            known = self.held.get(event.key)
            if known is None or known[0] < event.order:
                self.held[event.key] = event.order, event.value
        elif isinstance(event, Gap):
            self.gaps += 1
        else:
            self.token, self.stable = event.token, event.stable
            self.begun.set()

    def wait_for(self, values: dict[bytes, bytes | None]) -> None:
        """Until it was told all of these."""
        with self._told:
            done = self._told.wait_for(lambda: self.values.items() >= values.items(), WAIT_S)
        lacking = {key for key, value in values.items() if self.values.get(key, b"?") != value}
        assert done, f"not told: {sorted(lacking)[:5]}"

    def wait_for_stable(self, stamp: int) -> None:
        with self._told:
            assert self._told.wait_for(lambda: self.stable >= stamp, WAIT_S), "no mark came that far"

    @property
    def values(self) -> dict[bytes, bytes | None]:
        return {key: value for key, (_, value) in self.held.items()}

    def stop(self) -> None:
        """It ends with the next that it is told: a write is."""
        self._stopped = True
        with sync.connect(self._endpoints, timeout=2.0) as store:
            store.set("the end", "")
        self.join(WAIT_S)
        assert not self.is_alive()


def writes(cluster: Cluster, endpoints: list[str], first: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """What was acknowledged at a quorum."""
    with sync.connect(endpoints, timeout=2.0) as store:
        for number in range(first, first + count):
            key, value = b"k%d" % (number % 50), b"%d" % number
            while True:
                with suppress(BasestoreError):
                    store.set(key, value)
                    break
            yield key, value


def test_the_replica_that_tells_is_killed_and_another_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, n3 = cluster
        watching = Watching([n1.endpoint, n2.endpoint, n3.endpoint])
        watching.start()
        assert watching.begun.wait(WAIT_S)
        wanted: dict[bytes, bytes | None] = dict(writes(cluster, [n2.endpoint], 0, 200))
        watching.wait_for(wanted)
        n1.kill()
        wanted |= dict(writes(cluster, [n2.endpoint, n3.endpoint], 200, 200))
        watching.wait_for(wanted)
        n1.start()
        cluster.wait_linked()
        with sync.connect(n1.endpoint) as store:
            receipt = store.delete("k7")
        wanted[b"k7"] = None
        watching.wait_for(wanted)
        assert receipt.version is not None
        watching.wait_for_stable(receipt.version.stamp)
        watching.stop()
        assert watching.gaps == 0


def test_another_process_goes_on_from_a_token_at_another_node(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, n3 = cluster
        first = Watching([n1.endpoint])
        first.start()
        assert first.begun.wait(WAIT_S)
        wanted: dict[bytes, bytes | None] = dict(writes(cluster, [n2.endpoint], 0, 100))
        first.wait_for(wanted)
        first.stop()
        n1.kill()
        later: dict[bytes, bytes | None] = dict(writes(cluster, [n2.endpoint], 100, 60))
        second = Watching([n3.endpoint], first.token)
        second.start()
        second.wait_for(later)
        second.stop()
        assert second.gaps == 0


def test_who_does_not_iterate_is_sent_nothing_and_holds_up_nobody(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, _ = cluster
        with sync.connect(n1.endpoint) as store:
            idle = store.watch(everything=True)
            assert next(idle) is not None
            wanted = dict(writes(cluster, [n2.endpoint], 0, 300))
            told = {}
            for event in idle:
                if isinstance(event, Change):
                    told[event.key] = event.value
                if told.items() >= wanted.items():
                    break
