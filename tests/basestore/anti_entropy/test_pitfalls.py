"""What breaks anti-entropy: each rule is switched off on real nodes, in the shortest history known in which
it is all that helps. The history must end well with the rule, and must not without it.

A restored store that keeps its id is a mutant of the simulation ("a rollback goes unnoticed"). There is no
history of nodes here for these, which the model shows (`tests.model.breakages`): "closed stamp of the
exchange's end", "unsure hints treated as copies", "certificates with lost stores", "ghosts dropped before
anything comes".

Covers the rules of `certificates.py`, `closed_stamps.py`, `comparison.py`, `exchange.py` and
`maintenance.py`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

import pytest

from basestore.anti_entropy import certificates
from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.anti_entropy.comparison import Comparison
from basestore.anti_entropy.exchange import Exchange
from basestore.anti_entropy.maintenance import Maintenance
from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.protocol.replication import COPY, DIRECT, Apply
from basestore.repair.exchange import Snapshot
from basestore.repair.version import Record, Version
from basestore.replica.replica import Replica
from tests.worlds.exchanges import begin, kinds, talk, two, write
from tests.worlds.world import World


def mismatches(world: World) -> int:
    return sum(node.metrics.counts["mismatches"] for node in world.running)


def exchange(world: World, a: int, b: int, seconds: float = 0.3) -> None:
    world.node(a).scheduler.wish(b, 0)
    world.run(seconds)


def deliver(world: World, index: int, row: bytes, record: Record, way: int) -> None:
    """A message that was long on its way."""
    source = 1 if index == 0 else 0
    message = Apply(1 << 40, row, record.blob, way, 0)
    node, now = world.node(index), world.now(index)
    node.receive(source, world.links[index, source], [message], now)
    world.settle()


def make(world: World, key: str, stamp: int) -> Record:
    return Record.seal(
        world.digester, world.row(key), Version(stamp, 99, 1), b"v", tombstone=False, expires_ms=0
    )


# --- histories: each raises AssertionError when it ends badly -------------------------------------


def written_during_an_exchange() -> None:
    world = two()
    write(world, 30, "key")
    talk(world)
    write(world, 30, "key", missed_by=1)
    world.node(0).scheduler.wish(1, 0)
    for number in range(30):
        world.set(number % 2, f"key {number}", "newer", Level.ONE)
        world.monotonic += 0.05
        for index in (0, 1):
            world.node(index).tick(world.now(index))
            world.turn()
    world.settle()
    world.run(1)
    talk(world)
    assert not mismatches(world)


def missed_during_an_exchange() -> None:
    """A write that comes to one side alone while an exchange goes on, at any moment of it."""
    for turns in range(12):
        world = two()
        write(world, 10, "key")
        talk(world)
        write(world, 10, "other", missed_by=1)
        begin(world, turns, ticking=(0, 1))
        world.plant(1, "late", "v", world.stamp())
        world.run(0.5)
        talk(world)
        assert not mismatches(world)
        assert world.values("late") == [b"v", b"v"]


def known_to_one_of_three() -> None:
    """n2's clock is slow; it takes what n1 has closed, after it was compared with n1."""
    world = World(3, partitions=1, drift_ms_max=500)
    world.skew_ms[1] = -300
    world.put(0, "key", "v", Level.ALL)
    world.run(4)
    for a, b in ((1, 2), (0, 2), (0, 1)) * 2:
        exchange(world, a, b)
    closed = [world.node(index).summaries.of[0].closed for index in range(3)]
    stamp = closed[1] + 5
    assert stamp < closed[0]
    deliver(world, 1, world.row("late"), make(world, "late", stamp), DIRECT)
    assert world.stored(1, "late") is not None
    exchange(world, 0, 2)
    for index in (0, 2):
        assert world.node(index).summaries.of[0].stable < stamp or world.stored(index, "late") is not None


def duplicate(way: int) -> Callable[[], None]:
    def history() -> None:
        world = World(3, partitions=1, drift_ms_max=200, reconcile=True)
        world.put(0, "key", "v", Level.ALL)
        old = world.stored(0, "key")
        assert old is not None
        world.delete(0, "key")
        world.run(8)
        assert world.values("key") == [None] * 3
        assert all(world.stored(index, "key") is None for index in range(3))
        deliver(world, 2, world.row("key"), old, way)
        assert world.stored(2, "key") is None

    return history


def old_and_missed() -> None:
    """A copy of what is closed and not stable, for n3 stalls it, is taken."""
    world = World(3, partitions=1, drift_ms_max=200, hint_bytes_max=0)
    world.plant(0, "key", "v", world.stamp(0))
    world.run(5)
    exchange(world, 0, 1)
    stored = world.stored(0, "key")
    assert stored is not None
    world.plant(0, "other", "v", world.stamp(-4000))
    other = world.stored(0, "other")
    assert other is not None
    assert world.node(1).summaries.of[0].stable < other.stamp < world.node(1).summaries.of[0].closed
    deliver(world, 1, world.row("other"), other, COPY)
    assert world.stored(1, "other") is not None


def expired_by_one_clock() -> None:
    world = World(2, partitions=1, drift_ms_max=500, hint_bytes_max=0)
    world.skew_ms[1] = 300
    world.set(0, "key", "v", Level.ALL, ttl_s=1.0)
    world.settle()
    talk(world)
    world.run(0.45)
    assert len(kinds(talk(world))) == 2
    assert not mismatches(world)


def purged_by_one_side() -> None:
    world = two()
    world.set(0, "key", "v", Level.ALL)
    world.settle()
    world.delete(0, "key", Level.ALL)
    world.settle()
    for _ in range(4):
        world.run(1)
        talk(world)
    assert not mismatches(world)


def wiped() -> None:
    world = World(3, partitions=1, drift_ms_max=200, reconcile=True)
    world.put(0, "key", "v", Level.ALL)
    world.run(6)
    world.wipe(2)
    world.start(2)
    world.run(4)
    assert world.values("key") == [b"v"] * 3


def vanished() -> None:
    """A disk has lost what is stable; the other side still has it."""
    world = two()
    write(world, 5, "key")
    for _ in range(4):
        world.run(1)
        talk(world)
    world.engines[1].apply({b"r" + world.row("key 3"): None})
    world.engines[1].sync()
    world.node(1).replica.marks.clear()
    world.node(1).maintenance.examine(0)
    world.run(1)
    talk(world)
    assert world.values("key 3") == [b"value"] * 2


def store_replaced_behind_ones_back() -> None:
    """Of five, n4 passes a write to n2, which is wiped and recovers from the others. n4 knows nothing of it,
    passes the write to these too, and has old claims of all."""
    world = World(5, replication=5, partitions=1)
    world.skew_ms[3] = -1500
    world.run(10)
    pairs = [(a, b) for a in range(5) for b in range(a)]
    for a, b in pairs * 2:
        exchange(world, a, b, 0.05)
    own = world.node(3).summaries.of[0].closed
    stamp = own + 5
    deliver(world, 3, world.row("key"), make(world, "key", stamp), DIRECT)
    assert world.stored(3, "key") is not None
    world.skew_ms[3] = 0
    world.run(2)
    exchange(world, 3, 1)
    assert world.stored(1, "key") is not None
    world.part(1, 3)
    world.wipe(1)
    world.start(1)
    world.run(6)
    assert world.node(1).identity.counts
    assert world.stored(1, "key") is None
    for other in (0, 2, 4):
        exchange(world, 3, other)
    assert world.node(3).summaries.of[0].stable < stamp or world.stored(1, "key") is not None


def stores_not_agreed_on() -> None:
    """n1 has yet to hear that n2 has started over."""
    world = two()
    other = patch.object(
        world.node(0).certificates, "stores", lambda member: world.node(1).identity.store + bytes(16)
    )
    with other:
        talk(world)
    assert not mismatches(world)


def starts_while_an_only_copy_is_kept() -> None:
    """Nothing is closed until all have named their only copies, or the lag is over."""
    world = World(4, replication=3, partitions=1, drift_ms_max=200)
    outsider = world.outsider("key")
    replicas = world.replicas("key")
    world.run(4)
    for replica in replicas:
        world.restart(replica)
        world.part(replica, outsider)
    world.run(0.5)
    before = [world.node(replica).summaries.of[0].closed for replica in replicas]
    exchange(world, replicas[0], replicas[1])
    assert [world.node(replica).summaries.of[0].closed for replica in replicas] == before
    world.run(4)
    exchange(world, replicas[0], replicas[1])
    assert world.node(replicas[0]).summaries.of[0].closed > before[0]


def moved_rows_are_known() -> None:
    world = two()
    write(world, 10, "before")
    talk(world)
    write(world, 50, "meanwhile", missed_by=1)
    talk(world)
    write(world, 1, "again", missed_by=1)
    talk(world)
    assert world.node(1).summaries.of[0].count == 61
    assert [node.metrics.counts["records_unneeded"] for node in world.running] == [0, 0]
    assert sum(node.metrics.counts["records_sent"] for node in world.running) == 51


# --- breakages ------------------------------------------------------------------------------------

# private: the rules below stand in these; what they are without one is the subject
_apply, _take_over, _conclude = Replica.apply, Replica.take_over, Exchange._conclude
_snapshot, _compare, _purge, _work = (
    # private: the same
    Exchange._snapshot, Comparison.compare, Exchange._purge, Maintenance._purge,
)  # fmt: skip


def unguarded(stamp: str) -> Callable[..., None]:
    def apply(self: Any, outbox: Outbox, message: Apply, wall_ms: int) -> None:
        summary = self.summaries.of[int.from_bytes(message.row[:2])]
        kept = getattr(summary, stamp)
        setattr(summary, stamp, 0)
        _apply(self, outbox, message, wall_ms)
        setattr(summary, stamp, kept)

    return apply


def all_direct(self: Any, outbox: Outbox, message: Apply, wall_ms: int) -> None:
    _apply(self, outbox, message._replace(way=DIRECT), wall_ms)


def no_exemption(self: Any, row: bytes, record: Record) -> None:
    if record.stamp > self.summaries.of[int.from_bytes(row[:2])].stable:
        _take_over(self, row, record)


def at_the_end(self: Any, comparison: Comparison, **kinds: Any) -> Any:
    comparison.snapshot.sequence = self._summary.sequence
    return _conclude(self, comparison, **kinds)


def by_the_clock(self: Any, **kinds: Any) -> Snapshot:
    shot = _snapshot(self, **kinds)
    for _, stored in self._local.replica.scan(b"r", b"s", 1000):
        record = Record(stored[:-8])
        if 0 < record.expires_ms <= self.now.wall_ms:
            shot.root -= int.from_bytes(record.head[-17:-1])
    return shot


def only_one_purges(self: Any) -> Any:
    # private: a breakage of one side alone asks which side it is on
    if self._certificates._peers.me == 0:
        yield from _purge(self)


def only_one_keeps_up(self: Any, *more: Any) -> Any:
    # private: the same
    return _work(self, *more) if self._identity._config.name == "n1" else None


def drop(self: Any, listing: Any, purged: int) -> Any:
    return _compare(self, listing, self._summaries.of[self._partition].stable)


PITFALLS: dict[str, tuple[Callable[[], None], Callable[[], list[AbstractContextManager[Any]]]]] = {
    "no copy on write": (
        written_during_an_exchange,
        lambda: [patch.object(Snapshot, "note", lambda *_: None)],
    ),
    "sequence of the exchange's end": (
        missed_during_an_exchange,
        # private: the rule that is switched off
        lambda: [patch.object(Exchange, "_conclude", at_the_end)],
    ),
    "stable from the own claim only": (
        known_to_one_of_three,
        lambda: [patch.object(certificates, "stable_stamp", lambda own, *_: own)],
    ),
    "no closed guard": (duplicate(DIRECT), lambda: [patch.object(Replica, "apply", unguarded("closed"))]),
    "copies unguarded": (duplicate(COPY), lambda: [patch.object(Replica, "apply", unguarded("stable"))]),
    "copies treated as direct": (old_and_missed, lambda: [patch.object(Replica, "apply", all_direct)]),
    "expiry by local clocks": (
        expired_by_one_clock,
        # private: the rule that is switched off
        lambda: [patch.object(Exchange, "_snapshot", by_the_clock)],
    ),
    "no purge before the snapshot": (
        purged_by_one_side,
        lambda: [
            # private: the rule that is switched off
            patch.object(Exchange, "_purge", only_one_purges),
            # private: the rule that is switched off
            patch.object(Maintenance, "_purge", only_one_keeps_up),
        ],
    ),
    "exchanges guarded by stable": (wiped, lambda: [patch.object(Replica, "take_over", no_exemption)]),
    "the higher stable stamp wins by deletion": (
        vanished,
        lambda: [patch.object(Comparison, "compare", drop)],
    ),
    "certificates of any tag": (
        store_replaced_behind_ones_back,
        lambda: [patch.object(Certificates, "tag", lambda *_: 0)],
    ),
    "stores not agreed on": (
        stores_not_agreed_on,
        # private: the rule that is switched off
        lambda: [patch.object(Exchange, "_agree_on_stores", lambda *_: None)],
    ),
    "closed before only copies are heard of": (
        starts_while_an_only_copy_is_kept,
        # private: the rule that is switched off
        lambda: [patch.object(ClosedStamps, "_has_listened", lambda *_: True)],
    ),
    "rows sent back to whom they came from": (
        moved_rows_are_known,
        lambda: [patch.object(Certificates, "known_to", lambda *_: {})],
    ),
}


@pytest.mark.parametrize("name", PITFALLS)
def test_with_its_rule_the_history_ends_well(name: str) -> None:
    PITFALLS[name][0]()


@pytest.mark.parametrize("name", PITFALLS)
def test_without_its_rule_it_does_not(name: str) -> None:
    history, breakage = PITFALLS[name]
    with ExitStack() as stack:
        for each in breakage():
            stack.enter_context(each)
        with pytest.raises(AssertionError):
            history()
