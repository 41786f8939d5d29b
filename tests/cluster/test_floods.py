"""Clients that drip, crowd, flood, lie and take nothing: each costs a node what its bounds say, is closed or
refused definitely, and the polite client beside them has its answers."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from basestore.cluster.outbox import OUTBOX_BYTES_MAX
from basestore.consistency import Level
from basestore.errors import InvalidRequest
from basestore.intake.intake import ALL_UNOPENED_BYTES_MAX
from basestore.protocol.client import Credit, Failed, Get, Set, Shed, Written
from basestore.protocol.codec import encode
from basestore.protocol.envelopes import READ, REQUESTS_MAX, WRITE, enveloped
from basestore.protocol.handshake import CLIENT_HELLO, EarlyHello, Welcome
from basestore.protocol.limits import VALUE_BYTES_MAX
from basestore.server.slots import CLIENTS_MAX, FRAME_S_MAX, HELD_BYTES_MAX
from basestore.storage.rocks import MEMTABLE_BYTES
from basestore.transport.frames import CLIENT_FRAME_BYTES_MAX, pack
from tests.cluster.floods import Flood, Polite, Strangers, drip, many_files, refused_in
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.cluster.wire import Wire, sealed
from tests.worlds.patience import eventually

MIB = 1 << 20
TIMEOUT_S_MAX = 60.0
TIMEOUT_MS = int(TIMEOUT_S_MAX * 1000)
FEW = 2  # requests under way: any machine has more to do than that
ANSWERS = 20
SPARE_BYTES = 64 * MIB  # of what the allocator keeps, and what a turn leaves behind

DRIPPING = 150  # of each kind
BEGUN_BYTES = 100_000
STRANGERS = 2000
GREETED_AT_ONCE = 64
LOG_BYTES_MAX = 10_000
FLOODING = 64
REFUSALS = 200
DEAF = 24
ROUNDS = 3
READ_BYTES = 256 << 10
READ_KEYS = [b"read %d" % number for number in range(32)]

SET = Set(1, "default", b"lie", b"told", Level.ONE.value, TIMEOUT_MS, 0, b"")
ASKED = encode([SET])


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that has nobody else, and soon too much to do."""
    with _lone(tmp_path_factory.mktemp("lone")) as cluster:
        cluster.start()
        yield cluster.nodes[0]


def _lone(path: Path) -> Cluster:
    cluster = Cluster(path, 1, timeout_s_max=TIMEOUT_S_MAX)
    (node,) = cluster
    node.configure(replace(node.config, requests_max=FEW))
    return cluster


def _large(count: int, level: Level) -> list[bytes]:
    """For so many connections: a write of a value of the greatest size, to a key of its own."""
    value = bytes(VALUE_BYTES_MAX)
    return [
        sealed(Set(1, "default", b"flood %d" % number, value, level.value, TIMEOUT_MS, 0, b""))
        for number in range(count)
    ]


def test_who_drips_hello_or_frame_is_closed_and_meanwhile_a_polite_client_is_answered(
    lone: NodeProcess,
) -> None:
    hello = pack([EarlyHello(1, b"", b"", "x" * 60_000)])
    (frame,) = _large(1, Level.ONE)
    before = lone.rss_bytes()
    with ExitStack() as stack, Polite(lone, Level.ONE, TIMEOUT_MS) as polite:
        begun = []
        for _ in range(DRIPPING):
            stranger = stack.enter_context(Wire(lone))
            client = stack.enter_context(Wire.greeted(lone))
            client.send(frame[:BEGUN_BYTES])
            begun += [(stranger, hello), (client, frame[BEGUN_BYTES:])]
        polite.wait_for(ANSWERS)
        assert lone.rss_bytes() - before < DRIPPING * BEGUN_BYTES + SPARE_BYTES
        drip(begun)
        polite.wait_for(ANSWERS)
    for said in ("it was too slow to say hello", "a client did not end a frame within"):
        assert lone.log.count(said) == 1


def test_members_that_are_killed_come_back_to_a_node_that_idle_clients_and_strangers_fill(
    tmp_path: Path,
) -> None:
    with many_files(STRANGERS + CLIENTS_MAX + 512), running(tmp_path) as cluster, ExitStack() as stack:
        n1, n2, n3 = cluster
        for _ in range(0, CLIENTS_MAX, GREETED_AT_ONCE):  # they take all slots, and say no more
            wires = [stack.enter_context(Wire(n3)) for _ in range(GREETED_AT_ONCE)]
            for wire in wires:
                wire.say(CLIENT_HELLO)
            assert all(isinstance(wire.hear()[0], Welcome) for wire in wires)
        strangers = stack.enter_context(Strangers(n3, STRANGERS))
        for node in (n1, n2):
            node.kill()
            with (n2 if node is n1 else n1).store(timeout=2.0) as store:
                eventually(partial(_stored, store), "a quorum is there without the one that was killed")
            node.start()
            cluster.wait_linked([node, n3])  # n3 answers that: whoever is idle makes room for who asks
        with n3.store("all") as store:
            assert store.set("after", "the crowd").acknowledged == 3
        assert n3.status() is not None
        print(f"{strangers.came} strangers came")
        assert len(n3.log) < LOG_BYTES_MAX
        assert "Traceback" not in n3.log


def _stored(store: Any) -> bool:
    """Whether a write at QUORUM succeeds."""
    (result,) = store.set_many([("during", "the crowd")])
    return not isinstance(result, Exception)


def test_a_flood_of_large_values_is_refused_within_the_bounds_and_leaves_the_polite_their_turn(
    tmp_path: Path,
) -> None:
    with _lone(tmp_path) as cluster:
        cluster.start()
        (node,) = cluster
        before = node.peak_bytes()
        with Polite(node, Level.ONE, TIMEOUT_MS) as polite, Flood(node, _large(FLOODING, Level.ONE)) as flood:
            eventually(lambda: flood.refused >= REFUSALS and flood.written >= ANSWERS, "some are let in")
            polite.wait_for(ANSWERS)
        growth = node.peak_bytes() - before
        print(f"{flood.sent >> 20} MiB came, {flood.written} were stored: {growth >> 20} MiB more at most")
        assert flood.others == {}
        assert flood.closed == 0
        assert flood.refused > polite.refused  # its share is small, and of that little is lost
        begun = FLOODING * VALUE_BYTES_MAX  # a frame of each that has not ended
        assert growth < ALL_UNOPENED_BYTES_MAX + begun + 2 * MEMTABLE_BYTES + SPARE_BYTES


def test_a_flood_of_large_values_breaks_no_link_between_members(tmp_path: Path) -> None:
    with running(tmp_path, timeout_s_max=TIMEOUT_S_MAX) as cluster:
        cluster.wait_founded()  # while an epoch changes, little is held of a flood, and the rest is refused
        n1, *_ = cluster
        before = {node.name: node.peak_bytes() for node in cluster}
        flooding = Flood(n1, _large(FLOODING // 2, Level.QUORUM))
        with Polite(n1, Level.QUORUM, TIMEOUT_MS) as polite, flooding as flood:
            eventually(lambda: flood.written >= 5 * ANSWERS, "some are let in")
            polite.wait_for(ANSWERS)
        growth = {node.name: (node.peak_bytes() - before[node.name]) >> 20 for node in cluster}
        print(f"{flood.sent >> 20} MiB came, {flood.written} were stored: {growth} MiB more at most")
        assert flood.others == {}
        assert flood.closed == 0
        to_members = 2 * OUTBOX_BYTES_MAX
        bound = ALL_UNOPENED_BYTES_MAX + to_members + FLOODING * VALUE_BYTES_MAX // 2 + 2 * MEMTABLE_BYTES
        assert max(growth.values()) << 20 < bound + SPARE_BYTES
        cluster.wait_linked()
        for node in cluster:
            assert "the link to" not in node.log


def test_a_node_that_was_paused_closes_nobody_whose_frames_it_has_not_read(tmp_path: Path) -> None:
    with _lone(tmp_path) as cluster:
        cluster.start()
        (node,) = cluster
        with Flood(node, _large(FLOODING, Level.ONE)) as flood:
            eventually(lambda: flood.written >= ANSWERS, "some are let in")
            node.pause()
            time.sleep(FRAME_S_MAX + 1)  # nothing else ends the time that a frame may take
            node.resume()
            goal = flood.written + flood.refused + REFUSALS
            eventually(lambda: flood.written + flood.refused >= goal, "it goes on")
        assert flood.closed == 0


def test_those_that_never_read_are_read_no_further_and_what_they_held_is_given_back(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1, timeout_s_max=TIMEOUT_S_MAX) as cluster:
        cluster.start()
        (node,) = cluster
        with node.store() as store:
            for key in READ_KEYS:
                store.set(key, bytes(READ_BYTES))
        asked = [
            Get(number, "default", key, Level.ONE.value, TIMEOUT_MS, b"", True)
            for number, key in enumerate(READ_KEYS, 1)
        ]
        before = node.peak_bytes()
        for _ in range(ROUNDS):
            with (
                Polite(node, Level.ONE, TIMEOUT_MS) as polite,
                Flood(node, [sealed(*asked)] * DEAF, deaf=True) as deaf,
            ):
                eventually(partial(_read_no_further, deaf, polite), "nothing more is read")
        growth = node.peak_bytes() - before
        print(f"{ROUNDS} times {DEAF} that read nothing: {growth >> 20} MiB more at most")
        assert growth < HELD_BYTES_MAX + 2 * SPARE_BYTES
        eventually(partial(_nothing_under_way, node), "nothing is under way")


def _read_no_further(deaf: Flood, polite: Polite) -> bool:
    sent = deaf.sent
    polite.wait_for(ANSWERS)
    return deaf.sent == sent > 0


def _nothing_under_way(node: NodeProcess) -> bool:
    with node.store() as store:
        facts = store.node_counters().facts
    return (facts["operations"], facts["operation bytes"]) == ("0", "0")


NO_FRAME = f"requests, not 1 to {REQUESTS_MAX}"  # said once, whatever number it was
LIES = {
    "more requests": (enveloped(ASKED, 1, 2, TIMEOUT_MS, WRITE), "counts other requests than are in it"),
    "no requests": (enveloped(ASKED, 1, 0, TIMEOUT_MS, WRITE), NO_FRAME),
    "too many requests": (
        enveloped(ASKED, 1, REQUESTS_MAX + 1, TIMEOUT_MS, WRITE), NO_FRAME,
    ),
    "other ids": (enveloped(ASKED, 2, 1, TIMEOUT_MS, WRITE), "names other requests than are in it"),
    "another class": (enveloped(ASKED, 1, 1, TIMEOUT_MS, READ), "names another class"),
    "another timeout": (enveloped(ASKED, 1, 1, TIMEOUT_MS + 1, WRITE), "names another timeout"),
    "a shorter length": (enveloped(ASKED[:-1], 1, 1, TIMEOUT_MS, WRITE), "was disconnected"),
    "a length beyond the bound": (
        enveloped(bytes(CLIENT_FRAME_BYTES_MAX + 1), 1, 1, TIMEOUT_MS, WRITE)[:100],
        f"a frame of {CLIENT_FRAME_BYTES_MAX + 1} bytes is announced",
    ),
    "what was changed on its way": (
        bytes([*enveloped(ASKED, 1, 1, TIMEOUT_MS, WRITE)[:-1], 0]), "checksum does not fit its payload",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_whose_envelope_lies_is_disconnected_with_a_sentence_and_nothing_is_done(
    lone: NodeProcess, what: str
) -> None:
    said, sentence = LIES[what]
    with Wire.greeted(lone) as wire:
        wire.send(said)
        assert wire.closes()
    eventually(lambda: sentence in lone.log, "the node says why")
    with lone.store("one") as store:
        assert not store.get(SET.key).found


@pytest.mark.parametrize("timeout_ms", [0, TIMEOUT_MS + 1])
def test_a_timeout_that_is_none_is_an_invalid_request_and_the_connection_goes_on(
    lone: NodeProcess, timeout_ms: int
) -> None:
    with Wire.greeted(lone) as wire:
        wire.say(SET._replace(timeout_ms=timeout_ms))
        failed, *credits = wire.hear()
        assert isinstance(failed, Failed)
        assert failed.code == InvalidRequest.code
        assert all(isinstance(each, Credit) for each in credits)
        assert f"a timeout of {timeout_ms} ms" in failed.text
        wire.say(SET._replace(key=b"true"))
        assert isinstance(wire.hear()[0], Written)


def test_who_ignores_its_window_is_refused_what_there_is_no_room_for_and_nothing_else(
    lone: NodeProcess,
) -> None:
    frames, asked = 100, 50
    with Wire.greeted(lone) as wire:
        wire.send(
            b"".join(
                sealed(*(SET._replace(id=number, key=b"true") for number in range(start, start + asked)))
                for start in range(1, frames * asked, asked)
            )
        )
        heard: list[Any] = []
        while sum(map(refused_in, heard)) + sum(isinstance(each, Written) for each in heard) < frames * asked:
            more = wire.hear()
            assert more, "it was closed"
            heard += more
        refusals = [each for each in heard if isinstance(each, Shed)]
        assert refusals
        assert all(each.window < frames * asked for each in refusals)
        assert any(isinstance(each, Written) for each in heard)
        wire.say(SET._replace(id=frames * asked + 1, key=b"true"))
        assert wire.hear()
