"""Interleavings: the shortest histories known in which one rule of the protocol is all that helps.

Chance meets most of what `breakages` leaves out within seconds, but these want three or four rare
things in one order. Each is harmless to the whole protocol, and a violation without its rule.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from basestore.repair.rule import Rule
from tests.model.coordinator import Write
from tests.model.doubt import lose_all
from tests.model.record import STAMPS, Record
from tests.model.replica import LAG, Answer, Store, Way
from tests.model.world import ModelWorld

KEY = 7


class Stage(ModelWorld):
    """A world in which nothing happens by chance."""

    def __init__(self, places: int) -> None:
        super().__init__(0, Rule.LAST_WRITE_WINS, places, Counter(), corrupt=False)
        self.coordinator = self.coordinators[0]

    def record(self, ticks: int, *, tombstone: bool = False) -> Record:
        """Written that many ticks ago."""
        stamp = (self.now - ticks) * STAMPS
        return Record(stamp, None if tombstone else stamp)

    def deliver_to(self, place: int, record: Record, way: Way = Way.DIRECT, *holders: int) -> Answer | None:
        answer = self.replicas[place].take(KEY, record, way, holders)
        self.replicas[place].sync()
        self.judge.look()
        return answer

    def certify(self, *pairs: tuple[int, int]) -> None:
        for one, two in pairs:
            self.complete(self.begin(one, two))

    def certify_all(self) -> None:
        self.certify(*((one, two) for one in range(self.places) for two in range(one)))

    def settle_at(self, place: int) -> None:
        """It hears all present claims."""
        for replica in self.replicas:
            self.replicas[place].claims[replica.place] = replica.claim()
        self.replicas[place].settle()
        self.judge.look()

    def wipe(self, place: int) -> None:
        self.replicas[place].lose(None, self.store_ids)
        self.store_ids += 1

    def request(self, record: Record) -> Write:
        write = Write(KEY, record, self.now, any_level=False)
        self.coordinator.pending[record.stamp] = write
        return write


def hint_of_a_store_that_was_replaced_behind_ones_back() -> None:
    """Of five, 1 alone has a write. 3 has closed beyond it with 0, 2 and 4. 1 is wiped, recovers from these.
    3 knows nothing of it, takes the write as a copy, and meets 1 first."""
    stage = Stage(5)
    record = stage.record(0)
    stage.deliver_to(1, record)
    holder = stage.replicas[1].id
    stage.now += 2 * LAG
    stage.certify((3, 0), (3, 2), (3, 4))
    stage.wipe(1)
    stage.certify((1, 0), (1, 2), (1, 4))
    stage.certify((1, 0), (1, 2), (1, 4), (0, 2), (0, 4), (2, 4))
    assert stage.deliver_to(3, record, Way.COPY, holder) is Answer.APPLIED
    stage.certify((3, 1))
    for place in range(5):
        stage.settle_at(place)
    stage.heal()


def deleted_for_good(stage: Stage) -> Store:
    """A value, and then its purged delete, on all three. Returns an older store of 1, that has the value."""
    for place in range(3):
        stage.deliver_to(place, stage.record(300))
    older = stage.replicas[1].disk.copy()
    delete = stage.record(0, tombstone=True)
    for place in range(3):
        stage.deliver_to(place, delete)
    stage.now += 2 * LAG
    stage.certify_all()
    stage.certify_all()
    for place in range(3):
        stage.settle_at(place)
    stage.sync_all()
    assert stage.replicas[0].held(KEY) is None
    return older


def one_older_among_stores_in_doubt() -> None:
    """All are in doubt, and one has from before what the others have purged. It meets one, then all."""
    stage = Stage(3)
    older = deleted_for_good(stage)
    lose_all(stage, [stage.replicas[0].disk, older, stage.replicas[2].disk])
    stage.certify((0, 1), (1, 2), (0, 2), (0, 1), (1, 2))
    stage.judge.look()
    stage.heal()


def stable_stamp_heard_in_doubt() -> None:
    """0 alone knows that a write is stable. 1, which lacks it, hears so, and 0 loses all. 2 has the write."""
    stage = Stage(3)
    older = stage.replicas[1].disk.copy()
    record = stage.record(0)
    write = stage.request(record)
    for place in range(3):
        answer = stage.deliver_to(place, record)
        assert answer is not None
        stage.hear(stage.coordinator, record.stamp, place, place, answer)
    stage.now += 2 * LAG
    write.holders.update(range(3))
    stage.judge.acknowledge(write)
    stage.certify_all()
    stage.settle_at(0)
    stage.sync_all()
    lose_all(stage, [stage.replicas[0].disk, older, stage.replicas[2].disk])
    session = stage.begin(0, 1)
    stage.sync_all()
    while session.queue and not stage.replicas[1].store.stable:
        stage.advance(session)
    session.close()
    stage.sessions.clear()
    stage.sync_all()
    lose_all(stage, [None, stage.replicas[1].disk, stage.replicas[2].disk])
    stage.certify((1, 2))
    stage.heal()


def taken_behind_ones_back() -> None:
    """1 and 2 are older. 2 opens a session with 1, which meets 0 first, and drops what is purged."""
    stage = Stage(3)
    older = deleted_for_good(stage)
    lose_all(stage, [stage.replicas[0].disk, older, replace(older.copy(), ids=[0, 1, 2])])
    session = stage.begin(2, 1)
    stage.sync_all()
    stage.complete(stage.begin(0, 1))
    stage.sync_all()
    stage.complete(session)
    stage.judge.look()
    stage.heal()


def copy_of_what_a_lost_store_had() -> None:
    """2 alone applies a delete, and is wiped. 0 settles beyond it. Then its hint reaches 1."""
    stage = Stage(3)
    value, delete = stage.record(200), stage.record(0, tombstone=True)
    for place in range(3):
        stage.deliver_to(place, value)
    stage.deliver_to(2, delete)
    holder = stage.replicas[2].id
    stage.now += 2 * LAG
    stage.wipe(2)
    stage.certify_all()
    stage.certify_all()
    stage.settle_at(0)
    stage.deliver_to(1, delete, Way.COPY, holder)
    stage.heal()


def hint_of_what_was_superseded() -> None:
    """1 misses a write, and so does 0; 2 has a newer one instead, which 0 has yet to get."""
    stage = Stage(3)
    old, newer = stage.record(80), stage.record(10)
    stage.certify_all()  # closed between the two
    write = stage.request(old)
    stage.deliver_to(2, newer)
    answer = stage.deliver_to(2, old, Way.UNSURE)
    assert answer is Answer.SUPERSEDED
    stage.hear(stage.coordinator, old.stamp, 2, stage.replicas[2].id, answer)
    stage.deliver_to(1, old, write.way, *write.holders)
    stage.settle_at(0)
    stage.heal()


def store_replaced_behind_ones_back() -> None:
    """Of five, 3 passes a write to 1, which is wiped and recovers from 0, 2 and 4. 3 knows nothing of it,
    passes the write to these too, and has old claims of all."""
    stage = Stage(5)
    stage.replicas[3].skew = -40
    stage.certify_all()
    record = stage.record(LAG + 20)
    stage.deliver_to(3, record)
    stage.settle_at(3)
    stage.replicas[3].skew = 0
    stage.certify((3, 1))
    stage.wipe(1)
    stage.certify((1, 0), (1, 2), (1, 4), (3, 0), (3, 2), (3, 4))
    stage.replicas[3].settle()
    stage.judge.look()
    stage.heal()


def claim_of_a_lost_store() -> None:
    """1 has a fast clock and is wiped. The new store takes what the old one's claim excluded."""
    stage = Stage(3)
    stage.replicas[1].skew = 40
    stage.certify_all()
    claim = stage.replicas[1].claim()
    stage.wipe(1)
    stage.replicas[1].skew = 0
    stage.certify((1, 0), (1, 2))
    stage.replicas[0].skew = stage.replicas[2].skew = 40
    stage.certify_all()
    stage.deliver_to(1, stage.record(LAG - 20))
    stage.settle_at(0)
    stage.replicas[0].claims[1] = claim
    stage.replicas[0].settle()
    stage.judge.look()
    stage.heal()


def backup_of_an_older_store() -> None:
    """1 alone has a write, is backed up, wiped and recovered. 2 settles beyond the write, 0 not yet."""
    stage = Stage(3)
    stage.deliver_to(1, stage.record(0))
    backup = stage.replicas[1].disk.copy()
    stage.wipe(1)
    stage.now += 2 * LAG
    stage.certify_all()
    stage.certify_all()
    stage.settle_at(2)
    stage.replicas[1].lose(backup, stage.store_ids)
    stage.certify((1, 0))
    stage.heal()


def recovery_broken_off() -> None:
    """0 has something newer than what is stable. 1 is wiped, recovers from 2, and begins to from 0."""
    stage = Stage(3)
    old = stage.record(0)
    for place in range(3):
        stage.deliver_to(place, old)
    stage.now += 2 * LAG
    stage.certify_all()
    stage.settle_at(0)
    stage.deliver_to(0, stage.record(0))
    stage.wipe(1)
    stage.certify((1, 2))
    session = stage.begin(0, 1)
    stage.sync_all()
    while not session.sides[0].wanted:
        stage.advance(session)
    session.close()
    stage.sessions.clear()
    stage.certify((1, 2))
    stage.heal()


def recovery_from_one() -> None:
    """0 and 1 acknowledge a write, 1 is wiped and recovers from 2."""
    stage = Stage(3)
    record = stage.record(0)
    write = stage.request(record)
    for place in (0, 1):
        answer = stage.deliver_to(place, record)
        assert answer is not None
        stage.hear(stage.coordinator, record.stamp, place, place, answer)
    assert len(write.holders) == 2
    stage.wipe(1)
    stage.certify((1, 2))
    stage.judge.look()
    stage.heal()


def recovery_during_a_write() -> None:
    """A write is acknowledged by 0's old store, and by 1 once 0 has recovered without it."""
    stage = Stage(3)
    record = stage.record(0)
    stage.request(record)
    stage.deliver_to(0, record)
    stage.hear(stage.coordinator, record.stamp, 0, 0, Answer.APPLIED)
    stage.wipe(0)
    stage.now += stage.rest()
    stage.certify((0, 1), (0, 2))
    stage.deliver_to(1, record)
    stage.hear(stage.coordinator, record.stamp, 1, 1, Answer.APPLIED)
    stage.heal()


INTERLEAVINGS: list[Callable[[], None]] = [
    hint_of_a_store_that_was_replaced_behind_ones_back,
    one_older_among_stores_in_doubt,
    stable_stamp_heard_in_doubt,
    taken_behind_ones_back,
    copy_of_what_a_lost_store_had,
    hint_of_what_was_superseded,
    store_replaced_behind_ones_back,
    claim_of_a_lost_store,
    backup_of_an_older_store,
    recovery_broken_off,
    recovery_from_one,
    recovery_during_a_write,
]
