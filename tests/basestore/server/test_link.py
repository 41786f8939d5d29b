"""What a link reads in one turn."""

import pytest
import trio

from basestore.cluster.outbox import Outbox
from basestore.protocol.client import Get
from basestore.protocol.envelopes import seal
from basestore.server import link as module
from basestore.server.link import RECEIVES_MAX, Link
from basestore.server.poller import Poller
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.trio

PIECE_BYTES = 1024
FRAME = b"".join(seal([Get(1, "default", b"k" * PIECE_BYTES, 2, 1000, b"", True)]))


@pytest.mark.parametrize("pieces", [RECEIVES_MAX // 2, RECEIVES_MAX, 3 * RECEIVES_MAX])
async def test_a_flood_is_read_dry_as_far_as_a_turn_goes(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECEIVE_BYTES", len(FRAME))
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
    stream = await listener.accept()
    flood = FRAME * pieces
    await client.send_all(flood)
    with trio.fail_after(PATIENCE_S):
        while len(await stream.socket.recv(len(flood), trio.socket.MSG_PEEK)) < len(flood):
            pass
    link, poller, heard, turns = Link(stream), Poller(), [0], [0]
    link.keep_sealed()

    def hear(frames: list[object]) -> list[object]:
        heard[0] += len(frames)
        return []

    def turn() -> None:
        turns.append(heard[0])
        if heard[0] == pieces:
            nursery.cancel_scope.cancel()

    with trio.fail_after(PATIENCE_S):
        async with listener, client, trio.open_nursery() as nursery:
            nursery.start_soon(link.run, Outbox(set()), poller, hear, lambda: None, 1 << 20)
            nursery.start_soon(poller.run, turn)
    assert turns[1] == min(pieces, RECEIVES_MAX)
    assert turns[-1] == pieces
    link.close()
    poller.close()
