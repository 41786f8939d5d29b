"""A world of model replicas: chance decides who does what next, and what is lost, late or comes twice.

One seed is one history. Messages of a session come in order or not at all, as on a connection; all
others wait in a pool from which any may come next, and some stay to come again.
"""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from basestore.repair.rule import Rule
from tests.model.coordinator import DEADLINE, Coordinator, Write
from tests.model.doubt import doubt_all
from tests.model.judge import Judge
from tests.model.record import KEYS, STAMPS, Record, covers
from tests.model.replica import LAG, Answer, Replica, Way
from tests.model.session import Session, Side

PHASE = 200  # steps
POOL_MAX = 120
ROUNDS_MAX = 12  # of healing

Shown = tuple[Record | None, int]  # what a replica holds of a key, and its store id


class Delivery(NamedTuple):
    """A record for a replica, of a coordinator that waits for the answer, or of a reader."""

    place: int
    key: int
    record: Record
    way: Way
    holders: frozenset[int]
    coordinator: Coordinator | None


class ModelWorld:
    """`places` replicas, some coordinators, readers and faults."""

    def __init__(self, seed: int, rule: Rule, places: int, counts: Counter[str], *, corrupt: bool) -> None:
        self.random = random.Random(f"{seed} {rule.value} {places}")
        self.rule = rule
        self.places = places
        self.quorum = places // 2 + 1
        self.counts = counts
        self.now = 1000
        self.store_ids = places
        self.replicas = [Replica(place, list(range(places)), rule, counts) for place in range(places)]
        self.coordinators = [Coordinator(origin, places) for origin in range(4)]
        self.judge = Judge(self.replicas, rule, counts)
        self.pool: list[Callable[[], None]] = []
        self.sessions: list[Session] = []
        self.awake: dict[int, int] = {}  # when a forgetful replica may begin to recover
        self.corrupt = corrupt

    def draw(self) -> tuple[list[Callable[[], None]], list[float]]:
        """Every phase has its own mixture."""
        pairs = self.places * (self.places - 1) / 6  # as many as of three
        common: dict[Callable[[], None], float] = {
            self.write: 6, self.deliver: 30, self.expire: 5, self.read: 3, self.heartbeat: 8,
            self.send_hint: 8, self.write_back: 2,
            self.open: 4 * pairs, self.step: 35 * pairs, self.sync: 24 * pairs,
            self.gossip: 8 * pairs, self.settle: 3 * pairs, self.hello: 1,
        }  # fmt: skip
        faults: dict[Callable[[], None], float] = {
            self.cut: 0.8, self.crash: 0.4, self.crash_coordinator: 0.3, self.lose: 0.25, self.back_up: 0.5,
            partial(doubt_all, self): 0.1,
            self.drift: 0.5, self.corrupt_row: 0.2 if self.corrupt else 0,
        }  # fmt: skip
        calm = self.random.random() < 0.5
        weights = [weight * self.random.choice((0.3, 1, 1, 2)) for weight in common.values()]
        weights += [0 if calm else weight * self.random.choice((0, 0, 1, 5)) for weight in faults.values()]
        return [*common, *faults], weights

    def run(self, steps: int) -> None:
        for _ in range(0, steps, PHASE):
            events, weights = self.draw()
            for event in self.random.choices(events, weights, k=PHASE):
                self.now += 1
                event()
                self.judge.look()
        self.heal()

    def anyone(self) -> Replica:
        return self.random.choice(self.replicas)

    def put_in_pool(self, message: Callable[[], None]) -> None:
        self.pool.append(message)
        if len(self.pool) > POOL_MAX:
            self.pool.pop(self.random.randrange(POOL_MAX // 2))

    # Clients

    def write(self) -> None:
        coordinator = self.random.choice(self.coordinators)
        stamp = coordinator.stamp(self.now)
        value: int | None = stamp
        expiry = 0
        if self.rule is Rule.LAST_WRITE_WINS:
            kind = self.random.random()
            value = None if kind < 0.35 else stamp
            expiry = stamp + self.random.randrange(100) * STAMPS if kind > 0.8 else 0
        write = Write(
            self.random.choice(KEYS), Record(stamp, value, expiry), self.now, self.random.random() < 0.3
        )
        coordinator.pending[stamp] = write
        unreachable = self.random.choice((0, 0.2, 0.2, 0.9))
        for place in range(self.places):
            if self.random.random() >= unreachable:
                self.send(Delivery(place, write.key, write.record, Way.DIRECT, frozenset(), coordinator))

    def send(self, delivery: Delivery) -> None:
        self.put_in_pool(partial(self.arrive, delivery))

    def arrive(self, delivery: Delivery) -> None:
        place, key, record, way, holders, coordinator = delivery
        replica = self.replicas[place]
        answer = replica.take(key, record, way, holders)
        if answer is not None and coordinator is not None:
            reply = partial(self.hear, coordinator, record.stamp, place, replica.id, answer)
            replica.promise(partial(self.put_in_pool, reply))

    def hear(self, coordinator: Coordinator, stamp: int, place: int, store_id: int, answer: Answer) -> None:
        pending = stamp in coordinator.pending
        write = coordinator.hear(stamp, place, store_id, answer)
        if write is None:
            return
        if pending and self.now - write.born <= DEADLINE and len(write.holders) >= self.quorum:
            self.counts["acknowledged"] += 1
            self.judge.acknowledge(write)
        self.counts["hint late"] += len(write.late) > 0 and answer is Answer.CLOSED

    def expire(self) -> None:
        for coordinator in self.coordinators:
            self.judge.kept += coordinator.expire(self.now)

    def send_hint(self) -> None:
        coordinator = self.random.choice(self.coordinators)
        if deliverable := coordinator.deliverable(late=self.random.random() < 0.1):
            write, place = self.random.choice(deliverable)
            self.counts[f"hint sent: {write.way.value}"] += 1
            self.send(
                Delivery(place, write.key, write.record, write.way, frozenset(write.holders), coordinator)
            )

    def heartbeat(self) -> None:
        coordinator = self.random.choice(self.coordinators)
        replica = self.anyone()
        named = coordinator.oldest_only_copy()
        if named is None:
            replica.named.pop(coordinator.origin, None)
        else:
            replica.named[coordinator.origin] = (named, self.now)

    def read(self) -> None:
        """Two replicas say what they hold, once that is durable; the one behind gets a copy."""
        key = self.random.choice(KEYS)
        found: dict[int, Shown] = {}
        for replica in self.random.sample(self.replicas, 2):
            if not replica.store.forgetful:
                shown = (replica.held(key), replica.id)
                replica.promise(partial(self.found, key, found, replica.place, shown))

    def found(self, key: int, found: dict[int, Shown], place: int, shown: Shown) -> None:
        found[place] = shown
        if len(found) < 2:
            return
        (one, (a, a_id)), (two, (b, b_id)) = found.items()
        for target, theirs, record, holder in ((one, a, b, b_id), (two, b, a, a_id)):
            if record is not None and not covers(self.rule, theirs, record):
                self.counts["read repaired"] += 1
                self.send(Delivery(target, key, record, Way.COPY, frozenset({holder}), None))

    def deliver(self) -> None:
        for _ in range(3):
            if self.pool:
                self.deliver_one()

    def deliver_one(self) -> None:
        recent = self.random.random() < 0.8
        index = self.random.randrange(max(0, len(self.pool) - 12) if recent else 0, len(self.pool))
        message = self.pool[index] if self.random.random() < 0.1 else self.pool.pop(index)
        if self.random.random() < 0.95:
            message()

    # Replicas among themselves

    def hello(self) -> None:
        self.greet(*self.random.sample(range(self.places), 2))

    def greet(self, one: int, two: int) -> None:
        """A connection: both learn the other's present store id, and end sessions with an older one."""
        for me, peer in ((one, two), (two, one)):
            if self.replicas[me].learn(peer, self.replicas[peer].id):
                self.end_sessions(me, peer)

    def end_sessions(self, place: int, peer: int | None = None) -> None:
        for session in self.sessions:
            side = session.sides.get(place)
            if side is not None and not side.over and peer in (None, side.peer):
                self.counts["session broken off"] += 1
                side.close()

    def open(self) -> None:
        one, two = self.random.sample(range(self.places), 2)
        forgetful = [replica.place for replica in self.replicas if replica.store.forgetful]
        if forgetful and one not in forgetful and self.random.random() < 0.5:
            two = self.random.choice(forgetful)
        asleep = any(self.now < self.awake.get(place, 0) for place in (one, two))
        paired = any({one, two} == set(session.places) for session in self.sessions)
        if asleep or (paired and self.random.random() < 0.9):
            return
        self.begin(one, two)

    def begin(self, one: int, two: int) -> Session:
        self.greet(one, two)
        for place, peer in ((one, two), (two, one)):
            self.end_sessions(place, peer)
        session = Session(one, two)
        for place, peer in ((one, two), (two, one)):
            session.sides[place] = Side(
                self.replicas[place], peer, opener=place == one, needed=self.needed(), post=session.post
            )
        self.sessions.append(session)
        self.counts["session opened"] += 1
        session.sides[one].open(self.now)
        return session

    def needed(self) -> int:
        """With how many whole peers a forgetful replica must be certified: one in each quorum."""
        return self.places - self.quorum + 1

    def step(self) -> None:
        if self.sessions:
            session = self.random.choice(self.sessions)
            self.advance(session)
            if session.over:
                self.sessions.remove(session)

    def advance(self, session: Session) -> None:
        if not session.queue:
            return
        place, message = session.queue.popleft()
        side = session.sides[place]
        if not side.over:
            side.receive(message, self.now)
            self.inspect(session)

    def inspect(self, session: Session) -> None:
        one, two = (session.sides[place] for place in session.places)
        for side, other in ((one, two), (two, one)):
            self.judge.concluded(side)
            if side.certificate is not None:
                self.judge.certified(side, other)
                side.certificate = None
                self.counts["certificate"] += 1

    def gossip(self) -> None:
        """A replica's claim goes to another, with any delay, in any order."""
        one, two = self.random.sample(self.replicas, 2)
        self.put_in_pool(partial(two.claims.__setitem__, one.place, one.claim()))

    def settle(self) -> None:
        self.anyone().settle()

    def sync(self) -> None:
        self.anyone().sync()
        for session in self.sessions:
            self.inspect(session)

    def write_back(self) -> None:
        self.anyone().write_back()

    # Faults

    def cut(self) -> None:
        """A side no longer hears the other; the other may."""
        if self.sessions:
            session = self.random.choice(self.sessions)
            session.sides[self.random.choice(session.places)].close()

    def crash(self) -> None:
        replica = self.anyone()
        self.counts["crash"] += 1
        self.counts["crash in a session"] += bool(replica.snapshots)
        self.end_sessions(replica.place)
        if self.random.random() < 0.5:
            replica.write_back()
        replica.crash()
        if self.random.random() < 0.3:
            self.counts["certificates lost"] += 1
            replica.store.certificates.clear()

    def crash_coordinator(self) -> None:
        coordinator = self.random.choice(self.coordinators)
        self.counts["writes lost with their coordinator"] += len(coordinator.pending)
        coordinator.crash()

    def back_up(self) -> None:
        replica = self.anyone()
        if not replica.store.forgetful:
            replica.backup = replica.disk.copy()

    def lose(self) -> None:
        """A disk, or all since a backup, as long as enough whole replicas are left to recover from."""
        replica = self.anyone()
        others = [other for other in self.replicas if other is not replica]
        whole = [other for other in others if not (other.store.forgetful or other.disk.forgetful)]
        if replica.store.forgetful or len(whole) < self.needed():
            return
        image = replica.backup if self.random.random() < 0.6 else None
        self.counts["rollback" if image else "disk lost"] += 1
        self.end_sessions(replica.place)
        replica.lose(image, self.store_ids)
        self.store_ids += 1
        self.awake[replica.place] = self.now + self.rest()

    def rest(self) -> int:
        """How long a new store waits before it recovers: writes that count the old one must have ended."""
        return DEADLINE + 1

    def drift(self) -> None:
        self.anyone().skew = self.random.randrange(-15, 15)
        self.random.choice(self.coordinators).skew = self.random.randrange(-15, 15)

    def corrupt_row(self) -> None:
        """A row vanishes, or an older version is back, and nothing tells."""
        replica = self.anyone()
        if replica.store.rows and not replica.store.forgetful:
            self.judge.corrupted = True
            self.counts["corrupted"] += 1
            key = self.random.choice(list(replica.store.rows))
            older = replica.backup.rows.get(key)
            if older is None:
                del replica.store.rows[key]
            else:
                replica.store.rows[key] = older

    # The end

    def heal(self) -> None:
        """Faults end, clocks agree, and every message comes, the stale ones too."""
        for session in self.sessions:
            session.close()
        self.sessions.clear()
        self.counts = self.judge.counts = Counter()  # what healing exercises does not count
        for replica in self.replicas:
            replica.skew, replica.counts = 0, self.counts
        for _ in range(ROUNDS_MAX):
            self.now += LAG + DEADLINE
            self.expire()
            for coordinator in self.coordinators:
                coordinator.crash()
                for write, place in coordinator.deliverable(late=False) + coordinator.deliverable(late=True):
                    holders = frozenset(write.holders)
                    self.send(Delivery(place, write.key, write.record, write.way, holders, coordinator))
            self.random.shuffle(self.pool)
            self.exchange()
        waiting = {stamp for coordinator in self.coordinators for stamp in coordinator.hints}
        self.judge.end(waiting)

    def exchange(self) -> None:
        """Everything under way arrives, all pairs have a session, and all gossip."""
        pool, self.pool = self.pool, []
        for message in pool:
            message()
            self.judge.look()
        self.sync_all()
        for one in range(self.places):
            for two in range(self.places):
                if one != two:
                    self.complete(self.begin(one, two))
        self.sessions.clear()
        for replica in self.replicas:
            for other in self.replicas:
                other.claims[replica.place] = replica.claim()
        for replica in self.replicas:
            replica.settle()
        self.judge.look()
        self.sync_all()

    def complete(self, session: Session) -> None:
        while not session.over:
            self.sync_all()
            if not session.queue:
                session.close()
            while session.queue:
                self.advance(session)
                self.judge.look()

    def sync_all(self) -> None:
        for replica in self.replicas:
            replica.sync()
        for session in self.sessions:
            self.inspect(session)
        for message in self.pool:
            message()
        self.pool.clear()
