"""Connections on real sockets, with a node that nobody lets step: who is let in, and who is closed."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from basestore.protocol.codec import Message
from basestore.protocol.frames import FrameReader, pack
from basestore.protocol.handshake import Hello, Refused, Welcome
from basestore.protocol.heartbeats import Identity, Ping, Pong
from basestore.protocol.limits import PROTOCOL
from basestore.server import connections
from basestore.server.connections import Connections
from basestore.server.poller import Poller
from tests.worlds.patience import PATIENCE_S
from tests.worlds.world import World

pytestmark = pytest.mark.trio

CLIENT = Hello(PROTOCOL, b"", b"", "")


class Wire:
    """Whoever connects."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._frames = FrameReader()
        self._heard: list[Message] = []

    async def say(self, *messages: Message) -> None:
        await self.stream.send_all(pack(messages))

    async def hear(self) -> Message | None:
        """The next message; None when the connection has ended."""
        with trio.fail_after(PATIENCE_S):
            while not self._heard and (data := await self.stream.receive_some()):
                self._heard += self._frames.feed(data)
        return self._heard.pop(0) if self._heard else None


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
        return wire


@asynccontextmanager
async def listening() -> AsyncIterator[Listening]:
    world, poller = World(3), Poller()
    served = Connections(world.node(1).config, world.node(1), poller, lambda: None)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, served.accept, listeners))
        nursery.start_soon(poller.run, lambda: None)
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
        assert isinstance(await peer.hear(), Identity)


async def test_a_client_learns_how_long_a_request_may_last() -> None:
    async with listening() as at:
        wire = await at.connect()
        await wire.say(CLIENT)
        welcome = await wire.hear()
        assert isinstance(welcome, Welcome)
        assert welcome.timeout_ms_max == at.node.config.cluster.timeout_ms_max


async def test_who_comes_in_too_great_a_number_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    async with listening() as at:
        first = await at.greeted(CLIENT)
        await at.greeted(CLIENT)
        third = await at.connect()
        assert await third.hear() is None
        await first.stream.aclose()
        while True:  # until its end was noticed, there is no room
            fourth = await at.connect()
            await fourth.say(CLIENT)
            if await fourth.hear():
                return


async def test_a_peer_that_connects_anew_has_lost_its_old_link() -> None:
    async with listening() as at:
        old = await at.greeted(at.hello)
        assert [type(await old.hear()) for _ in range(2)] == [Identity, Ping]
        new = await at.greeted(at.hello)
        assert await old.hear() is None
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
        await client.say(Pong(1, 1))
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
