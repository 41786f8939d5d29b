"""Connections on real sockets, with a node that nobody lets step: who is let in, and who is closed."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from basestore.consistency import Level
from basestore.errors import Overloaded, ReadTimeout
from basestore.protocol.client import Failed, Get, Set
from basestore.protocol.codec import Message, encode
from basestore.protocol.envelopes import ADMIN, enveloped, seal
from basestore.protocol.frames import FrameReader, pack
from basestore.protocol.handshake import Goodbye, Hello, Refused, Welcome
from basestore.protocol.heartbeats import Ping, Pong, StoreClaim
from basestore.protocol.limits import PROTOCOL
from basestore.protocol.operator import NodeStatus, Status
from basestore.server import connections, slots
from basestore.server.clock import instant
from basestore.server.connections import Connections
from basestore.server.poller import Poller
from tests.worlds.patience import PATIENCE_S
from tests.worlds.world import World

pytestmark = pytest.mark.trio

CLIENT = Hello(PROTOCOL, b"", b"", "")
STATUS = Status(7)
SLOW = Get(8, "default", b"k", Level.ONE, 1000, b"", True)  # its own replica is not stepped


class Wire:
    """Whoever connects."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._frames = FrameReader()
        self._heard: list[Message] = []
        self.sealing = False

    async def say(self, *messages: Message) -> None:
        await self.stream.send_all(b"".join(seal(messages)) if self.sealing else pack(messages))

    async def hear(self) -> Message | None:
        """The next message; None when the connection has ended."""
        with trio.fail_after(PATIENCE_S):
            while not self._heard and (data := await self.stream.receive_some()):
                self._heard += self._frames.feed(data)
        return self._heard.pop(0) if self._heard else None

    async def ends(self) -> bool:
        """Whether the connection ends, after whatever else is said."""
        while await self.hear():
            pass
        return True


class Listening:
    """The second of three nodes, whose connections are served on a port."""

    def __init__(self, world: World, port: int, served: Connections) -> None:
        self.node = world.node(1)
        self.served = served
        self.hello = Hello(PROTOCOL, world.cluster.id, world.cluster.digest, "n1")
        self.wires: list[Wire] = []
        self._port = port

    async def connect(self) -> Wire:
        self.wires.append(Wire(await trio.open_tcp_stream("127.0.0.1", self._port)))
        return self.wires[-1]

    async def greeted(self, hello: Hello) -> Wire:
        """One that was let in."""
        wire = await self.connect()
        await wire.say(hello)
        assert isinstance(await wire.hear(), Welcome)
        wire.sealing = not hello.sender
        return wire


async def tick(served: Connections) -> None:
    while True:
        await trio.sleep(0.02)
        served.close_stalled()


@asynccontextmanager
async def listening() -> AsyncIterator[Listening]:
    world, poller = World(3), Poller()
    served = Connections(world.node(1).config, world.node(1), poller, lambda: served.send())
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, served.accept, listeners))
        nursery.start_soon(poller.run, served.send)
        nursery.start_soon(tick, served)
        at = Listening(world, listeners[0].socket.getsockname()[1], served)
        yield at
        for wire in at.wires:
            await wire.stream.aclose()
        nursery.cancel_scope.cancel()
    poller.close()


async def test_a_client_and_a_peer_are_let_in_and_served() -> None:
    async with listening() as at:
        await at.greeted(CLIENT)
        peer = await at.greeted(at.hello)
        assert isinstance(await peer.hear(), StoreClaim)


async def test_a_client_learns_how_long_a_request_may_last() -> None:
    async with listening() as at:
        wire = await at.connect()
        await wire.say(CLIENT)
        welcome = await wire.hear()
        assert isinstance(welcome, Welcome)
        assert welcome.timeout_ms_max == at.node.config.cluster.timeout_ms_max


async def test_a_client_that_is_idle_makes_room_for_another_and_one_too_many_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "slots_for", lambda members: (2, 2))
    async with listening() as at:
        first, second = await at.greeted(CLIENT), await at.greeted(CLIENT)
        third = await at.connect()
        await third.say(CLIENT)
        refused = await third.hear()
        assert isinstance(refused, Refused)
        assert "too many clients are connected" in refused.reason
        monkeypatch.setattr(slots, "IDLE_S_MIN", 0.0)
        await second.say(STATUS)  # the other one is idle longer
        assert isinstance(await second.hear(), NodeStatus)
        await at.greeted(CLIENT)
        assert await first.hear() is None
        await second.say(STATUS)
        assert isinstance(await second.hear(), NodeStatus)
    assert len([each for each in caplog.records if "make room" in each.getMessage()]) == 1


async def test_strangers_and_clients_take_no_member_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "slots_for", lambda members: (2, 1))
    async with listening() as at:
        await at.greeted(CLIENT)
        strangers = [await at.connect() for _ in range(4)]  # they say nothing
        peer = await at.greeted(at.hello)
        assert isinstance(await peer.hear(), StoreClaim)
        assert await strangers[0].hear() is None


async def test_a_frame_that_was_begun_must_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "FRAME_S_MAX", 0.1)
    async with listening() as at:
        slow, idle = await at.greeted(CLIENT), await at.greeted(CLIENT)
        await slow.stream.send_all(pack([STATUS])[:-1])
        assert await slow.hear() is None
        await idle.say(STATUS)
        assert await idle.hear()


async def test_of_clients_that_hold_too_much_together_the_one_that_holds_most_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "CLIENT_BYTES_MAX", 1 << 20)
    frame = b"".join(seal([Set(1, "default", b"k", bytes(1 << 20), 2, 1000, 0, b""), STATUS]))
    async with listening() as at:
        most, less = await at.greeted(CLIENT), await at.greeted(CLIENT)
        await less.stream.send_all(frame[: 300 << 10])
        await most.stream.send_all(frame[: 900 << 10])
        assert await most.hear() is None
        await less.stream.send_all(frame[300 << 10 :])
        assert await less.hear()


async def test_who_is_told_goodbye_gets_its_answers_and_what_it_asks_later_is_refused_definitely() -> None:
    async with listening() as at:
        client, peer = await at.greeted(CLIENT), await at.greeted(at.hello)
        assert isinstance(await peer.hear(), StoreClaim)
        assert isinstance(await peer.hear(), Ping)
        await client.say(SLOW, STATUS)
        assert isinstance(await client.hear(), NodeStatus)
        at.node.turn.begin(instant())  # so the other one is under way
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.served.say_goodbye)
            assert isinstance(await client.hear(), Goodbye)
            assert isinstance(await peer.hear(), Goodbye)
            await client.say(STATUS)
            refused = await client.hear()
            assert isinstance(refused, Failed)
            assert (refused.id, refused.code) == (STATUS.id, Overloaded.code)
            late = await at.connect()
            await late.say(CLIENT)
            assert isinstance(await late.hear(), Refused)
            now = instant()
            at.node.operations.tick(now._replace(monotonic=now.monotonic + 2))
            at.served.send()
            answer = await client.hear()
            assert isinstance(answer, Failed)
            assert (answer.id, answer.code) == (SLOW.id, ReadTimeout.code)


async def test_a_goodbye_waits_for_no_answer_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "GOODBYE_S_MAX", 0.3)
    async with listening() as at:
        client = await at.greeted(CLIENT)
        await client.say(SLOW)
        with trio.fail_after(PATIENCE_S):
            await at.served.say_goodbye()


async def test_a_peer_that_connects_anew_has_lost_its_old_link() -> None:
    async with listening() as at:
        old = await at.greeted(at.hello)
        assert [type(await old.hear()) for _ in range(2)] == [StoreClaim, Ping]
        new = await at.greeted(at.hello)
        assert await old.ends()
        assert await new.hear()


async def test_a_peer_whose_outbox_ran_over_loses_its_link() -> None:
    async with listening() as at:
        peer = await at.greeted(at.hello)
        assert await peer.hear()
        outbox = at.node.peers.all[0].outbox
        while outbox.put(Pong(1, 1), 1 << 20):
            pass
        at.served.send()
        while await peer.hear():
            pass  # what was in it; then the end


async def test_who_says_what_is_not_for_him_to_say_is_closed() -> None:
    async with listening() as at:
        client = await at.greeted(CLIENT)
        await client.stream.send_all(enveloped(encode([Pong(1, 1)]), 1, 1, 0, ADMIN))
        assert await client.hear() is None


async def test_the_same_refusal_is_not_logged_over_and_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with listening() as at:
        for name in ("n3", "n3", "nobody", "n3"):
            stranger = await at.connect()
            await stranger.say(at.hello._replace(sender=name))
            assert isinstance(await stranger.hear(), Refused)
            assert await stranger.hear() is None
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(" was refused")[0] for line in told] == [
        "n2: a connection was closed: n3",
        "n2: a connection was closed: nobody",
    ]
