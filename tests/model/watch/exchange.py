"""Exchange: snapshots of two replicas, what each takes of the other's, and the proof; in four moments between
which anything may happen."""

from tests.model.watch.store import Held, Proof, Store


class Exchange:
    """Between the stores at two places. `broken`: it comes to nothing."""

    def __init__(self, places: tuple[int, int], stores: tuple[Store, Store], closed: tuple[int, int]) -> None:
        self.places, self.stores = places, stores
        stable = max(store.stable for store in stores if store.fit)
        for store, stamp in zip(stores, closed, strict=True):
            if store.fit:
                store.adopt(stable)
                store.purge()
            store.close(stamp)
            store.open += 1
        self._heard = stable
        self._rows: list[dict[str, Held]] = [dict(store.rows) for store in stores]
        self._at = [store.sequence for store in stores]
        self._closed = [store.closed for store in stores]
        self._ends = [0, 0]
        self._moments = [self._merge_first, self._merge_second, self._prove_first, self._prove_second]

    def go_on(self) -> bool:
        """The next moment; whether there is another."""
        self._moments.pop(0)()
        if not self._moments:
            self.end()
        return bool(self._moments)

    def end(self) -> None:
        for store in self.stores:
            store.open -= 1

    def _merge(self, to: int) -> None:
        mine, others = self.stores[to], self._rows[1 - to]
        for key, held in others.items():
            mine.take(key, held.record)
        if not mine.fit:  # what it alone holds was purged by the other
            for key, held in list(mine.rows.items()):
                if key not in others and held.record.version[0] <= self._heard:
                    del mine.rows[key]
                    mine.sequence += 1
                    mine.gone = mine.gone.with_also(self._heard, mine.sequence)
            mine.adopt(self._heard)
        self._ends[to] = mine.sequence

    def _merge_first(self) -> None:
        self._merge(0)

    def _merge_second(self) -> None:
        self._merge(1)

    def _prove(self, at: int) -> None:
        other = 1 - at
        self.stores[at].proofs[self.places[other]] = Proof(
            self.stores[other].number, self._at[at], self._at[other], self._ends[other], self._closed[at]
        )

    def _prove_first(self) -> None:
        self._prove(0)

    def _prove_second(self) -> None:
        self._prove(1)
