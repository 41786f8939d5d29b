"""World: one seed is one history of three replicas and a watcher."""

import random
from collections import Counter

from tests.model.watch.exchange import Exchange
from tests.model.watch.judge import Judge, Violation
from tests.model.watch.store import Record, Store
from tests.model.watch.watcher import Watcher

STEPS = 400
KEYS = "abcde"
MEETING = 2  # fit replicas that a new store compares with before it is fit
PLACES = range(3)


class World:
    def __init__(self, seed: int, counts: Counter[str]) -> None:
        self._lots, self._counts = random.Random(seed), counts
        self._now, self._born, self._origin = 10, 3, 0
        self._lag = self._lots.choice((1, 3, 5))
        self._stores = [Store(number, fit=True) for number in PLACES]
        self._exchange: Exchange | None = None
        self._late: list[tuple[int, int, str, Record]] = []  # since when, to whom
        self._most = self._lots.choice((1, 2, 5))
        self._judge = Judge()
        self.watcher = Watcher(self._judge, counts)
        self._rates = {
            self._write: 30,
            self._deliver_late: 15,
            self._go_on: 60,
            self._drop_lines: 6,
            self._wipe: self._lots.choice((0, 1, 2)),
            self._hear: self._lots.choice((10, 20, 40, 80)),
            self._move: self._lots.choice((1, 4, 12)),
            self._save: 8,
            self._from_token: self._lots.choice((0, 1, 3)),
        }

    def play(self) -> None:
        acts, rates = list(self._rates), list(self._rates.values())
        for act in self._lots.choices(acts, rates, k=STEPS):
            act()
        self._calm()

    # --- the cluster -------------------------------------------------------------------------

    def _write(self) -> None:
        self._now += 1
        self._origin += 1
        key, stamp = self._lots.choice(KEYS), self._now - self._lots.choice((0, 0, 1, 3))
        value = None if self._lots.random() < 0.4 else f"v{self._origin}"
        record = Record((stamp, self._origin % 50), value)
        for place in PLACES:
            if self._lots.random() < 0.6:
                self._deliver(place, key, record, first=True)
            else:
                self._late.append((self._now, place, key, record))

    def _deliver(self, place: int, key: str, record: Record, *, first: bool) -> None:
        store = self._stores[place]
        if store.fit and (store.write(key, record) if first else store.copy(key, record)):
            self._judge.note(key, record)

    def _deliver_late(self) -> None:
        if self._late:
            _, place, key, record = self._late.pop(self._lots.randrange(len(self._late)))
            taken = record.version in self._judge.taken.get(key, {})
            if taken or self._lots.random() < 0.3:
                self._deliver(place, key, record, first=not taken)

    def _go_on(self) -> None:
        """A moment of an exchange, or the first of one."""
        if self._exchange is not None:
            if not self._exchange.go_on():
                self._exchange = None
                self._conclude()
            return
        first, second = self._lots.sample(PLACES, 2)
        stores = self._stores[first], self._stores[second]
        if any(store.fit for store in stores):
            stamp = self._now - self._lag
            self._exchange = Exchange((first, second), stores, (stamp, stamp))

    def _conclude(self) -> None:
        self._counts["exchange"] += 1
        numbers = [store.number for store in self._stores]
        for store in self._stores:
            proofs = {other: each for other, each in store.proofs.items() if each.store == numbers[other]}
            met = sum(self._stores[other].fit for other in proofs)
            if not store.fit and met >= MEETING:
                store.become_fit()
                self._counts["fit"] += 1
            store.proofs = proofs
        pairs = [each.proofs.get(o) for p, each in enumerate(self._stores) for o in PLACES if o != p]
        closed = [each.closed if each is not None else 0 for each in pairs]
        for store in self._stores:
            if store.fit and self._lots.random() < 0.7:
                store.adopt(min(closed))
                if not store.open:
                    store.purge()

    def _drop_lines(self) -> None:
        for place, store in enumerate(self._stores):
            proofs = [store.proofs.get(other) for other in PLACES if other != place]
            if all(proofs):
                store.drop_lines(min(each.mine for each in proofs if each is not None))

    def _wipe(self) -> None:
        """A store is lost, or its seat goes to another: either way there is a new one."""
        if not all(store.fit for store in self._stores):
            return
        place = self._lots.choice(PLACES)
        if self._exchange is not None and place in self._exchange.places:
            self._exchange.end()
            self._exchange = None
        others = [store for at, store in enumerate(self._stores) if at != place]
        self._judge.wiped(self._stores[place], others)
        self._stores[place] = Store(self._born, fit=False)
        self._born += 1
        self._counts["wiped"] += 1

    # --- the watcher -------------------------------------------------------------------------

    def _hear(self) -> None:
        self.watcher.hear(self._most, self._stores, lost=self._lots.random() < 0.1)

    def _move(self) -> None:
        self.watcher.connect(self._lots.choice(self._stores), self._lots.random() < 0.5)

    def _save(self) -> None:
        self.watcher.save()

    def _from_token(self) -> None:
        self.watcher.begin_anew(self._lots.randrange(3))

    def _calm(self) -> None:
        """No more writes: all compare until they hold the same, and the watcher hears the rest."""
        for _ in range(60):
            self._now += 1
            self._go_on()
        for store in self._stores:
            if store.fit:
                self.watcher.connect(store, False)
                for _ in range(40):
                    self.watcher.hear(5, self._stores, lost=False)
                self._judge.end(self.watcher.heard, [store])


def play(seed: int, counts: Counter[str]) -> Violation | None:
    """What was violated, if anything was."""
    try:
        World(seed, counts).play()
    except Violation as violation:
        return violation
    return None
