"""What a link reads in one turn."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count, pairwise

import pytest
import trio

from basestore.cluster.outbox import Outbox
from basestore.protocol.client import Get
from basestore.protocol.envelopes import WRITE, enveloped, seal
from basestore.protocol.operator import Status
from basestore.server import link as module
from basestore.server import poller as polling
from basestore.server.link import Hear, Link
from basestore.server.poller import ROUNDS_MAX, Poller
from basestore.transport.frames import pack
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.trio

PIECE_BYTES = 1024
FRAME = b"".join(seal([Get(1, "default", b"k" * PIECE_BYTES, 2, 1000, b"", True)]))


@asynccontextmanager
async def flooded(flood: bytes, *, sealed: bool = True) -> AsyncIterator[Link]:
    """A link to whose socket all of it has come: a client's, if it is `sealed`."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
    stream = await listener.accept()
    await client.send_all(flood)
    with trio.fail_after(PATIENCE_S):
        while len(await stream.socket.recv(len(flood), trio.socket.MSG_PEEK)) < len(flood):
            pass
    link = Link(stream)
    if sealed:
        link.keep_sealed()
    async with listener, client:
        yield link
    link.close()


async def run(link: Link, hear: Hear, turn: Callable[[], bool]) -> None:
    """Until a turn has seen all that it waits for."""
    poller = Poller()

    def after() -> None:
        if turn():
            nursery.cancel_scope.cancel()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run, Outbox(set()), poller, hear, lambda: None, 1 << 20)
            nursery.start_soon(poller.run, after)
    poller.close()


@pytest.mark.parametrize("pieces", [ROUNDS_MAX // 2, ROUNDS_MAX, 3 * ROUNDS_MAX])
async def test_a_flood_is_read_dry_as_far_as_a_turn_goes(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECEIVE_BYTES", len(FRAME))
    monkeypatch.setattr(polling, "READ_S_MAX", math.inf)
    heard, turns = [0], [0]

    def hear(frames: list[object]) -> list[object]:
        heard[0] += len(frames)
        return []

    def turn() -> bool:
        turns.append(heard[0])
        return heard[0] == pieces

    async with flooded(FRAME * pieces) as link:
        await run(link, hear, turn)
    assert turns[1] == min(pieces, ROUNDS_MAX)
    assert turns[-1] == pieces


async def test_of_a_long_frame_little_is_read_in_a_turn_for_it_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RECEIVE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(polling, "READ_S_MAX", math.inf)
    begun = enveloped(bytes(ROUNDS_MAX * PIECE_BYTES), 1, 1, 1000, WRITE)[:-1]
    kept = [0]

    def turn() -> bool:
        kept.append(link.held)
        return link.held == len(begun)

    async with flooded(begun) as link:
        await run(link, list, turn)
        assert max(after - before for before, after in pairwise(kept)) == 2 * PIECE_BYTES
    assert link.held == 0  # it is closed


async def test_while_more_lies_there_than_is_read_at_once_the_end_of_a_frame_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = count(1.0)
    monkeypatch.setattr(module, "RECEIVE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(polling, "READ_S_MAX", math.inf)
    monkeypatch.setattr(trio, "current_time", lambda: next(now))
    begun = enveloped(bytes(4 * PIECE_BYTES), 1, 1, 1000, WRITE)[:-1]  # four whole pieces and the rest
    since: list[float] = []

    def turn() -> bool:
        since.append(link.partial_since or 0.0)
        return link.held == len(begun)

    async with flooded(begun) as link:
        await run(link, list, turn)
    assert since[:-1] == sorted(set(since))  # another moment for each whole piece
    assert since[-1] == since[-2] > 0.0  # and from then on its rest keeps the node waiting


async def test_a_turn_that_has_read_for_long_leaves_clients_to_the_next_and_hears_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling, "READ_S_MAX", -1.0)
    poller = Poller()
    async with flooded(FRAME) as client, flooded(pack([Status(1)]), sealed=False) as member:
        heard: dict[Link, list[object]] = {client: [], member: []}

        def hear(link: Link, messages: list[object]) -> list[object]:
            heard[link] += messages
            return []

        def turn() -> None:
            if not heard[member]:
                return
            if polling.READ_S_MAX < 0:
                assert heard[client] == []
                assert poller.put_off == client.put_off == 1
                monkeypatch.setattr(polling, "READ_S_MAX", math.inf)
            elif heard[client]:
                assert not client.put_off
                nursery.cancel_scope.cancel()

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for link in (client, member):
                    asked = Outbox(set()), poller, partial(hear, link), lambda: None, 1 << 20
                    nursery.start_soon(link.run, *asked)
                nursery.start_soon(poller.run, turn)
    poller.close()
