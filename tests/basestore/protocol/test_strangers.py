"""A node is told anything at all, in messages of the right form: it refuses, and goes on.

Covers the checks of `basestore/protocol` and the handlers of `basestore/node.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.batches.part import Part, part_row
from basestore.consistency import Level, Outcome
from basestore.protocol.anti_entropy import (
    Abort,
    Ask,
    Certify,
    Entries,
    Going,
    KnownLosses,
    Listing,
    LossRow,
    Roots,
    Same,
    SameRoots,
    Sums,
    Syn,
    Taken,
    Want,
    check_losses,
)
from basestore.protocol.client import Commit, Delete, Get, Scan, Set, Watch, WriteBatch
from basestore.protocol.codec import Message
from basestore.protocol.feeds import Fed, Follow, MarkRow, More, PositionRow, Unfollow, UnservedRow
from basestore.protocol.groups import (
    AppliedGroups,
    ApplyGroup,
    AskPart,
    GetMany,
    HeldGroup,
    HoldPart,
    PartTold,
    ReadGroup,
    WriteMany,
    singly,
)
from basestore.protocol.handshake import Goodbye
from basestore.protocol.heartbeats import Confirmed, Ping, Pong, Remembered, StoreClaim
from basestore.protocol.limits import ProtocolError
from basestore.protocol.membership import (
    OF_RAFT,
    AskMoves,
    AskRead,
    At,
    Base,
    ChangeTopology,
    Finished,
    Lacking,
    MoveReport,
    MovesTold,
    ReadAt,
    ReadHistory,
    ReadMoves,
    ReadTopology,
    Suggest,
)
from basestore.protocol.operator import (
    Counters,
    Explain,
    FinishUpgrade,
    HintsOf,
    Inspect,
    Inspected,
    PairRow,
    PartitionRow,
    Reach,
    Replay,
    Status,
    Survey,
    Trace,
    Traced,
    TracedHint,
)
from basestore.protocol.registry import NUMBERS
from basestore.protocol.replication import (
    Accept,
    AcceptorRow,
    Applied,
    Apply,
    Forward,
    ForwardDone,
    Held,
    HeldDigest,
    Hinted,
    Learn,
    Moved,
    Peek,
    Prepare,
    Promised,
    Range,
    Read,
    ReadRange,
    Refused,
    Rejected,
    Settled,
    Superseded,
)
from basestore.repair.runs import encode_runs
from basestore.repair.version import Record, Version
from tests.worlds.messages import KINDS, messages_of
from tests.worlds.world import WALL_MS, World, number_of, travel

WORLD = World(3)
ROW = WORLD.row("k")
BLOB = Record.seal(WORLD.digester, ROW, Version(5, 5, 5), b"v").blob
big = st.sampled_from([0, 1, 2, -1, 3, 1 << 40, (1 << 63), (1 << 64) - 1, -(1 << 64)])
ids = st.integers(0, 8).map(lambda n: (1 << 40) + n) | big
blobs = st.sampled_from([b"", b"x", b"x" * 24, b"\xff" * 60, BLOB, BLOB[:-1], BLOB[:40]]) | st.binary(
    max_size=60
)
rows = st.sampled_from(
    [b"", b"\0", b"\0\0\7", ROW, ROW[:4], b"\xff" + ROW[1:], ROW[:2] + b"\xff" + ROW[3:]]
) | st.binary(max_size=12)
ballots = st.sampled_from([bytes(16), b"\xff" * 16, BLOB[:16], b"b"])
PART = part_row(int.from_bytes(ROW[:2]), b"proposal")


def _part(value: bytes) -> bytes:
    """A record that is sealed as one of a part."""
    version = Version((WALL_MS + 900_000) << 16, 5, 1)
    return Record.seal(WORLD.digester, PART, version, value, intent=True).blob


_sound = Part(bytes(8), (int.from_bytes(ROW[:2]),), (), ()).encode()
part_rows = st.just(PART)
part_records = st.sampled_from([_part(_sound), _part(_sound[:-1]), _part(b""), _part(_sound + b"x" * 9)])
stores = st.sampled_from([b"", b"s" * 16])
texts = st.sampled_from(["", "default", "once", "x" * 100, "\x00"])
flags = st.booleans()
exchanges = st.sampled_from([0, 1, 2]) | big  # 0 and 1: those that are open
parts = st.integers(1, 3)
partitions = st.integers(0, 4)
numbers = st.sampled_from([0, 1, 2, -1, 5, (1 << 64) - 1, -(1 << 64)])
leaves = st.sampled_from([b"", b"\xff\xff", b"\0\1", b"\0"])
members = st.sampled_from([number_of(0), number_of(1), number_of(2), 0, -1])
told = st.lists(st.integers(0, 3) | big, max_size=6)
runs = st.sampled_from([b"\0", encode_runs({5: [(5, 5)]}), encode_runs({0: [(0, 1 << 63)]})]) | blobs
entries = st.lists(st.tuples(rows, blobs, st.just(b"") | blobs), max_size=2).map(lambda of: [*sum(of, ())])
pairs = st.lists(st.tuples(ids, st.integers(0, 3)), max_size=3).map(lambda of: [*sum(of, ())])
losses = st.builds(LossRow, partitions, members, parts, parts, big, big)
sound_losses = st.lists(losses.filter(lambda loss: not check_losses([loss])), max_size=3)


def columns(count: int, *of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[list[Any], ...]]:
    """Of these lengths, or now and then of another."""
    return st.tuples(*(st.lists(each, min_size=count, max_size=count) | st.just([0]) for each in of))


stamps = st.sampled_from([0, 1, 1 << 40, (1 << 64) - 1, -1])
sides = (numbers, stamps, stamps, st.sampled_from([0, 7, -1]))
roots = st.integers(1, 3).flatmap(
    lambda count: st.builds(
        lambda number, stores, held, roots, side, claims: Roots._make(
            (number, stores, held[0], roots, held[1], *side, claims)
        ),
        parts, blobs, columns(count, partitions, numbers),
        st.sampled_from([bytes(16 * count), bytes(15)]), columns(count, *sides),
        st.sampled_from([[], [0, 3, 1 << 40, 0], [count, 3, 0, 0]]),
    )
)  # fmt: skip
same_roots = st.integers(0, 3).flatmap(
    lambda count: st.builds(
        lambda number, side: SameRoots._make((number, list(range(count)), *side, [])),
        parts, columns(count, *sides),
    )
)  # fmt: skip


def several(strategy: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(strategy, min_size=count, max_size=count)


SAID: dict[type[Any], st.SearchStrategy[Any]] = {
    Set: st.builds(Set, ids, texts, rows, blobs, big, big, big, blobs),
    Delete: st.builds(Delete, ids, texts, rows, big, big, blobs),
    Get: st.builds(Get, ids, texts, rows, big, big, blobs, flags, flags, big),
    WriteMany: st.integers(1, 4).flatmap(
        lambda n: st.builds(
            WriteMany,
            several(ids, n),
            texts,
            several(rows, n),
            several(blobs, n),
            big,
            big,
            several(st.binary(min_size=8, max_size=8), n),
            big,
            st.just(False),
        )
    ),
    GetMany: st.integers(1, 4).flatmap(
        lambda n: st.builds(GetMany, several(ids, n), texts, several(rows, n), big, big)
    ),
    Scan: st.builds(Scan, ids, texts, rows, rows, big, big, big),
    Status: st.builds(Status, ids),
    Explain: st.builds(Explain, ids, texts, rows, big),
    HintsOf: st.builds(HintsOf, ids),
    Replay: st.builds(Replay, ids, flags),
    Survey: st.builds(Survey, ids, texts, rows, big, big, big, flags, sound_losses, big),
    Counters: st.builds(Counters, ids),
    FinishUpgrade: st.builds(FinishUpgrade, ids),
    Apply: st.builds(Apply, ids, rows, blobs, big, big),
    Applied: st.builds(Applied, st.lists(ids, max_size=4), blobs, st.integers(0, 9)),
    Superseded: st.builds(Superseded, ids, blobs),
    ApplyGroup: st.builds(ApplyGroup, ids, big, st.lists(rows, max_size=3), st.lists(blobs, max_size=3)),
    AppliedGroups: st.builds(AppliedGroups, pairs, st.lists(ids, max_size=3), blobs, st.integers(0, 9)),
    WriteBatch: st.integers(1, 4).flatmap(
        lambda n: st.builds(
            WriteBatch,
            ids,
            st.integers(0, 9),
            big,
            st.sampled_from([bytes(8), b"drawn it", bytes(40), b"\1" * 40]),
            flags,
            several(texts, n),
            several(rows, n),
            several(st.integers(1, 2), n),
            several(blobs, n),
            several(big, n),
        )
    ),
    HoldPart: st.builds(HoldPart, ids, rows | part_rows, blobs | part_records, st.binary(max_size=16), big),
    AskPart: st.builds(AskPart, ids, rows | part_rows, st.just(b"") | ballots, flags, big),
    PartTold: st.builds(PartTold, ids, st.integers(0, 4), big, st.binary(max_size=16), blobs),
    ReadGroup: st.builds(ReadGroup, ids, big, st.lists(rows, max_size=3), flags, flags),
    HeldGroup: st.builds(HeldGroup, ids, st.lists(blobs, max_size=3)),
    Rejected: st.builds(Rejected, ids, texts, flags),
    Moved: st.builds(Moved, ids, big),
    Read: st.builds(Read, ids, rows, big, flags, flags, flags),
    Held: st.builds(Held, ids, blobs, big, flags, accepted=blobs),
    HeldDigest: st.builds(HeldDigest, ids, blobs, big, flags),
    Prepare: st.builds(Prepare, ids, rows, ballots, big),
    Promised: st.builds(Promised, ids, blobs, flags, big, big),
    Accept: st.builds(Accept, ids, rows, blobs, st.just(b"") | ballots, big),
    Refused: st.builds(Refused, ids, ballots),
    Learn: st.lists(st.tuples(rows, ballots), max_size=3).map(
        lambda of: Learn([row for row, _ in of], [ballot for _, ballot in of])
    ),
    Peek: st.builds(Peek, ids, rows, big),
    Commit: st.integers(1, 4).flatmap(
        lambda n: st.builds(
            Commit,
            ids,
            big,
            several(texts, n),
            several(rows, n),
            several(st.integers(0, 2), n),
            several(st.sampled_from([b"", bytes(24)]), n),
            several(blobs, n),
            several(big, n),
        )
    ),
    Forward: st.builds(
        Forward,
        ids,
        rows,
        blobs,
        big,
        flags,
        st.integers(-1, 6),
        blobs,
        st.sampled_from([b"p" * 8, b"p" * 32, b""]),
        flags,
        flags,
        big,
        st.sampled_from([b"", b"b" * 16]),
        flags,
    ),
    ForwardDone: st.builds(
        ForwardDone,
        ids,
        st.integers(-1, 4),
        blobs,
        blobs,
        blobs,
        big,
        told,
        st.integers(-1, 15),
        texts,
        st.lists(texts, max_size=2),
        blobs,
    ),
    ReadRange: st.builds(ReadRange, ids, st.lists(big, max_size=3), rows, rows, rows, big, big, big, flags),
    Range: st.builds(Range, ids, st.lists(rows | blobs, max_size=4), flags, told, st.lists(rows, max_size=2)),
    Ping: st.builds(
        Ping,
        big,
        big,
        flags,
        blobs,
        st.integers(0, 9),
        st.lists(big, max_size=5),
        flags,
        big,
        big,
        big,
        st.integers(-1, 11),
        st.integers(-1, 11),
    ),
    Pong: st.builds(Pong, big, big),
    StoreClaim: st.builds(StoreClaim, blobs, blobs, big, flags, flags),
    Remembered: st.builds(Remembered, blobs, blobs, big, flags),
    Confirmed: st.builds(Confirmed, blobs, blobs, big),
    Trace: st.builds(Trace, ids, rows),
    Traced: st.builds(
        Traced,
        ids,
        st.sampled_from(["up", "damaged", "nonsense"]),
        st.sampled_from([b"", BLOB[:49]]) | blobs,
        st.lists(st.builds(TracedHint, members, st.integers(-1, 4), st.just(BLOB[:41]) | blobs), max_size=2),
        big,
        st.lists(st.builds(Reach, members, big, big), max_size=2),
        big,
        acceptor=st.lists(
            st.builds(
                AcceptorRow,
                members,
                blobs,
                st.sampled_from(["acceptor", "nonsense"]),
                st.sampled_from([b"", BLOB[:16]]) | blobs,
                st.sampled_from([b"", BLOB[:49]]),
                big,
                big,
                st.sampled_from([b"", BLOB[:24]]),
                st.just(b"") | blobs,
            ),
            max_size=2,
        ),
    ),
    Inspect: st.builds(Inspect, ids, big, big, big, flags, sound_losses),
    Inspected: st.builds(
        Inspected,
        ids,
        st.sampled_from(["up", "nonsense"]),
        texts,
        texts,
        texts,
        big,
        big,
        big,
        st.just([1] * 5) | told,
        st.lists(st.builds(PartitionRow, big, big, big, big, big, blobs), max_size=2),
        st.lists(st.builds(PairRow, big, members, big, big, big), max_size=2),
        told,
        told,
        told,
        st.lists(losses, max_size=2),
    ),
    Settled: st.builds(Settled, ids, big, flags),
    Hinted: st.builds(Hinted, ids, rows, blobs, blobs),
    Syn: st.builds(Syn, exchanges, partitions, blobs, numbers, numbers, big, numbers, big, flags, big, told),
    Same: st.builds(Same, exchanges, parts, numbers, numbers, big, flags, big, told),
    Sums: st.builds(Sums, exchanges, parts, flags, blobs, blobs | st.just(bytes(8 * 64))),
    Ask: st.builds(Ask, exchanges, parts, numbers, numbers, numbers, flags, leaves),
    Listing: st.builds(Listing, exchanges, parts, numbers, numbers, numbers, flags, leaves, runs, flags),
    Want: st.builds(Want, exchanges, parts, runs, flags),
    Entries: st.builds(Entries, exchanges, parts, st.lists(rows | blobs, max_size=4) | entries, flags),
    Taken: st.builds(Taken, exchanges, parts),
    Certify: st.builds(Certify, exchanges, parts, blobs, numbers, big, big, told),
    Abort: st.builds(Abort, exchanges, texts),
    Going: st.builds(Going, exchanges),
    Roots: roots,
    SameRoots: same_roots,
    KnownLosses: st.builds(KnownLosses, st.lists(losses, max_size=3)),
    Watch: st.builds(Watch, ids, texts, rows, texts, ids, flags, big, big),
    Follow: st.builds(
        Follow,
        ids,
        blobs,
        rows,
        st.lists(st.builds(PositionRow, partitions | big, blobs | stores, big, big), max_size=3),
    ),
    Fed: st.builds(
        Fed,
        ids,
        stores,
        st.lists(rows | blobs, max_size=4),
        st.lists(st.builds(MarkRow, partitions | big, big, big, big, flags), max_size=2),
        st.lists(st.builds(UnservedRow, partitions | big, texts), max_size=2),
    ),
    More: st.builds(More, ids),
    Unfollow: st.builds(Unfollow, ids),
    Goodbye: st.builds(Goodbye, texts),
    **{kind: messages_of(kind) for kind in (*OF_RAFT, At, Lacking, Base, Suggest, AskRead, ReadAt)},
    **{kind: messages_of(kind) for kind in (ReadTopology, ReadHistory, ChangeTopology)},
    **{kind: messages_of(kind) for kind in (Finished, MoveReport, AskMoves, MovesTold, ReadMoves)},
}


# The requests of clients have the numbers from 10 on, their answers those from 20 on.
OTHERS = (
    Watch,
    WriteMany,
    GetMany,
    Commit,
    WriteBatch,
    FinishUpgrade,
    ReadTopology,
    ReadHistory,
    ChangeTopology,
    ReadMoves,
)
FROM_CLIENTS = [kind for kind in SAID if 10 <= NUMBERS[kind] < 20 or kind in OTHERS]
FROM_PEERS = [kind for kind in SAID if kind not in FROM_CLIENTS]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FROM_CLIENTS])
def test_a_client_may_only_say_what_clients_say(kind: type[Any]) -> None:
    world = World(1)
    client = world.clients[0]
    assert client is not None
    message = kind._make([None] * len(kind._fields))
    assert world.node(0).receive_client(client.outbox, [message], world.now(0)) is message
    world.settle()
    assert client.answers == {}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in FROM_PEERS])
def test_a_peer_may_only_say_what_peers_say(kind: type[Any]) -> None:
    world = World(3)
    message = kind._make([None] * len(kind._fields))
    assert world.node(0).receive(1, world.links[0, 1], [message], world.now(0)) is message


def test_what_came_before_the_refused_message_was_still_done() -> None:
    world = World(1)
    client = world.clients[0]
    assert client is not None
    written = Set(1, "default", b"k", b"v", Level.ONE, 1000, 0, b"")
    refused = Ping(1, 1, True, b"g", 1, [], False, 0, 0, 0)
    assert world.node(0).receive_client(client.outbox, [written, refused], world.now(0)) is refused
    world.settle()
    assert world.values("k") == [b"v"]


def still_works(world: World, at: int) -> None:
    assert world.put(at, "afterwards", "v").outcome is Outcome.STORED
    assert world.look(at, "afterwards").value == b"v"


def busy_world() -> World:
    """A world in which node 0 waits for answers of every kind."""
    world = World(3)
    world.plant(0, "k", "v", world.stamp())
    world.put(1, "l", "v", Level.ALL)
    world.spoil(0, "l")
    world.stop(2)
    world.settle()
    world.put(0, "hinted", "v", Level.ONE)
    world.hold(0, 1)
    world.start(2)
    for call in (world.set(0, "k", "w"), world.get(0, "k"), world.scan(0), world.get(0, "l", Level.ONE)):
        assert not call.done
    world.set(0, "k", "w", bucket="once")
    world.ask(0, lambda r: Explain(r, "default", b"k", 1000))
    calm = {world.row(key)[1]: key for key in map(str, range(20)) if world.row(key)[1] != world.row("l")[1]}
    (opened, first), (asked, second), *_ = calm.items()  # partitions without a damaged record
    for at in (0, 1):
        world.plant(at, first, f"{at}", world.stamp(at))
        world.plant(at, second, f"{at}", world.stamp(at))
    world.node(0).scheduler.wish(1, opened)
    world.node(1).scheduler.wish(0, asked)
    world.run(0.3)
    assert world.node(0).exchanges.count == 2
    return world


def grouped_world() -> World:
    """A world in which node 0 waits for answers to groups, and of what it has named."""
    world = World(3)
    partitions = sorted(world.node(0).summaries.of)
    for number in range(20):
        world.put(0, f"{number}", "v", Level.ALL)
    for partition in partitions:
        world.node(0).scheduler.wish(1, partition)
    world.run(4)
    world.hold(0, 1)
    world.hold(1, 0)
    world.log.clear()
    world.node(0).exchanges.roots.ask(1, partitions, 1)
    world.settle()
    assert world.sent(Roots)
    for level in (Level.QUORUM, Level.ALL):
        asked = [Set(0, "default", b"%d" % key, b"w", level, 800, 0, b"proposal") for key in range(2)]
        reads = [Get(0, "default", b"%d" % key, level, 800, b"", True) for key in range(2, 4)]
        world.ask_together(0, [*asked, *reads])
        world.node(0).step(world.now(0))
    names = [type(message) for message in world.links[0, 1].messages]
    assert [names.count(kind) for kind in (ApplyGroup, ReadGroup)] == [2, 2]
    return world


def named(world: World, message: Message) -> Message:
    """The message, about what is open if it is about one of those that are numbered so."""
    exchanges = world.node(0).exchanges
    # private: a peer would know their numbers
    opened = [number for _, number in sorted(exchanges._open)]
    exchange = getattr(message, "exchange", 2)
    if isinstance(message, SameRoots) and message.number == 1:
        # private: a peer would know that number, too
        return message._replace(number=exchanges.roots._number)
    return message._replace(exchange=opened[exchange]) if 0 <= exchange < len(opened) else message


@settings(max_examples=150)
@given(st.lists(st.one_of([SAID[kind] for kind in FROM_CLIENTS]), max_size=8))
def test_no_request_of_a_client_stops_a_node(said: list[Message]) -> None:
    world = World(3)
    stranger = world.node(0).open_client()
    asked = 0
    for message in said:  # every answer must find its request
        count = len(getattr(message, "ids", "1"))
        numbers, asked = [*range(asked, asked + count)], asked + count
        many = isinstance(message, WriteMany | GetMany)
        renamed = message._replace(ids=numbers) if many else message._replace(id=numbers[0])
        assert world.node(0).receive_client(stranger, [renamed], world.now(0)) is None
    world.run(0.2)
    answers = stranger.take()
    world.monotonic += 700  # every deadline passes
    for index in range(3):
        for other in range(index):
            world.link(index, other)
    world.run(0.3)
    answers += stranger.take()
    assert sorted(answer.id for answer in singly(answers)) == list(range(asked))
    still_works(world, 0)


@pytest.mark.parametrize("busy", [busy_world, grouped_world])
@settings(max_examples=150)
@given(said=st.lists(st.one_of([SAID[kind] for kind in FROM_PEERS]), max_size=8))
def test_no_word_of_a_peer_stops_a_node(busy: Callable[[], World], said: list[Message]) -> None:
    world = busy()
    for message in [named(world, message) for message in said]:
        node = world.node(0)
        try:
            assert node.receive(1, world.links[0, 1], travel([message]), world.now(0)) is None
        except ProtocolError:  # the connection is closed for it, and made anew
            world.link(0, 1)
        node.step(world.now(0))
    world.release(0, 1)
    world.run(0.5)
    world.look(0, "k", Level.ONE)
