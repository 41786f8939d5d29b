"""Exchanges of two nodes that hold one partition: how they are set going, and what must hold after one."""

from basestore.consistency import Level
from basestore.protocol.anti_entropy import (
    Abort,
    Ask,
    Certify,
    Entries,
    Listing,
    Roots,
    Same,
    SameRoots,
    Sums,
    Syn,
    Taken,
    Want,
)
from basestore.protocol.codec import Message
from basestore.repair.digest_tree import MASK, digest_of, due_of, leaf_of
from basestore.repair.version import HEAD_BYTES, RECORD_BYTES_MIN, VERSION_BYTES
from basestore.storage.keyspace import DATA, DUE, LOG, SEQUENCE_BYTES
from tests.worlds.world import World

WORDS = (Syn, Same, Sums, Ask, Listing, Want, Entries, Taken, Certify, Abort, Roots, SameRoots)


def two() -> World:
    """Two nodes that hold one partition, and have compared nothing yet."""
    return World(2, partitions=1, drift_ms_max=200, hint_bytes_max=0)


def talk(world: World, opener: int = 0) -> list[Message]:
    """One exchange, opened by a node; what was said in it."""
    world.log.clear()
    world.node(opener).scheduler.wish(1 - opener, 0)
    world.run(0.3)
    return [sent.message for sent in world.log if isinstance(sent.message, WORDS)]


def begin(world: World, turns: int, ticking: tuple[int, ...] = (0,)) -> None:
    """The first node opens an exchange, and the nodes have so many turns: it may be in the middle then."""
    world.node(0).scheduler.wish(1, 0)
    world.monotonic += 0.05
    for index in ticking:
        world.node(index).tick(world.now(index))
    for _ in range(turns):
        world.turn()


def kinds(said: list[Message]) -> list[type[Message]]:
    return [type(message) for message in said]


def write(world: World, count: int, name: str, *, missed_by: int | None = None) -> None:
    """Writes that a node misses, for the others never learn that it did."""
    if missed_by is not None:
        world.part(0, 1)
    for number in range(count):
        world.set(0 if missed_by != 0 else 1, f"{name} {number}", "value", Level.ONE)
    world.settle()
    if missed_by is not None:
        world.run(1.2)
        world.join(0, 1)
        world.run(0.6)


def check_summaries(world: World, index: int) -> None:
    """What a node's summaries say is what it stores: sums, counts, the log, what is due. Of the log all is
    there that is above the floor, and nothing that does not stand."""
    node, engine = world.node(index), world.engines[index]
    for partition, summary in node.summaries.of.items():
        start, end = partition.to_bytes(2), (partition + 1).to_bytes(2)
        stored = list(engine.scan(DATA + start, DATA + end))
        leaves: dict[int, int] = {}
        log, due = {}, set()
        for key, value in stored:
            row, head = key[1:], value[:HEAD_BYTES]
            leaf = leaf_of(row)
            leaves[leaf] = (leaves.get(leaf, 0) + digest_of(head)) & MASK
            log[int.from_bytes(value[-SEQUENCE_BYTES:])] = head[:VERSION_BYTES] + row
            stamp = due_of(head, int.from_bytes(value[HEAD_BYTES:RECORD_BYTES_MIN]))
            due |= {stamp.to_bytes(8) + row} if stamp else set()
        assert {k: v for k, v in summary.leaves.items() if v} == {k: v for k, v in leaves.items() if v}
        assert summary.root == sum(leaves.values()) & MASK
        assert summary.count == len(stored)
        slots = node.summaries.summary_log.log(partition, 0, summary.sequence)
        lines = dict(slots)
        assert [sequence for sequence, _ in slots] == sorted(lines)
        assert lines.items() <= log.items()
        assert lines.keys() >= {sequence for sequence in log if sequence > summary.floor}
        assert {int.from_bytes(k[3:]) for k, _ in engine.scan(LOG + start, LOG + end)} <= lines.keys()
        assert {k[3:] for k, _ in engine.scan(DUE + start, DUE + end)} == due
        assert summary.purged <= summary.stable <= summary.closed
