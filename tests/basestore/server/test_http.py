"""The HTTP port alone: requests of every kind, and clients that are slow, mad or too many."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from basestore.server import http
from basestore.server.http import HEAD_BYTES_MAX, TEXT, Page, line, serve_pages
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.trio

HUGE = b"x" * (32 << 20)


def huge() -> Page:
    return Page(200, TEXT, (HUGE for _ in range(1)))


PAGES = {"/good": lambda: line(200, "good"), "/bad": lambda: line(503, "not yet"), "/huge": huge}


@asynccontextmanager
async def serving(watch: Callable[[trio.SocketListener], None] = lambda _: None) -> AsyncIterator[int]:
    """The pages above on a port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    watch(listeners[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_pages, listeners, PAGES)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def everything(stream: trio.SocketStream) -> bytes:
    """What comes until the end of the connection."""
    heard = b""
    with trio.fail_after(PATIENCE_S):
        async for data in stream:
            heard += data
    return heard


async def say(port: int, said: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the answer to these bytes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(said)
        head, _, body = (await everything(stream)).partition(b"\r\n\r\n")
        return head, body


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"good\n"),
        (b"GET /good?a=b HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"good\n"),
        (b"GET /good HTTP/1.0\r\n\r\n", b"200 OK", b"good\n"),
        (b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n", b"503 Service Unavailable", b"not yet\n"),
        (b"HEAD /good HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b""),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"404 Not Found",
            b"there is no / here; there is /good, /bad, /huge\n",
        ),
        (
            b"POST /good HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            b"405 Method Not Allowed",
            b"only GET and HEAD are understood here\n",
        ),
    ],
)
async def test_each_request_has_its_answer(said: bytes, status: bytes, body: bytes) -> None:
    async with serving() as port:
        head, heard = await say(port, said)
        assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert heard == body
        assert b"Connection: close" in head


async def test_a_wrong_method_is_told_the_right_ones() -> None:
    async with serving() as port:
        head, _ = await say(port, b"DELETE /good HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"Allow: GET, HEAD" in head


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\0\1\2\3 nonsense\r\n\r\n", b"400"),
        (b"GET /good HTTP/1.1\r\n\r\n", b"400"),  # HTTP/1.1 without a host
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),  # TLS
        (b"GET /" + b"x" * (2 * HEAD_BYTES_MAX) + b" HTTP/1.1\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * HEAD_BYTES_MAX, b"431"),
    ],
)
async def test_what_makes_no_sense_or_never_ends_is_refused(said: bytes, status: bytes) -> None:
    async with serving() as port:
        head, body = await say(port, said)
        assert head.startswith(b"HTTP/1.1 " + status)
        assert body.startswith(b"that is not a request that is understood here")


async def test_a_body_that_nobody_reads_does_not_take_the_answer_away() -> None:
    async with serving() as port:
        said = b"GET /good HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000
        assert (await say(port, said))[1] == b"good\n"


async def test_who_leaves_in_the_middle_is_forgotten() -> None:
    async with serving() as port:
        for said in (b"", b"GET /go", b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(said)
            await stream.aclose()
        assert (await say(port, b"GET /good HTTP/1.0\r\n\r\n"))[1] == b"good\n"


class Slow:
    """Somebody who says something and does no more: he has half a second, whoever comes later has long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._accepted = trio.Event()
        self.cut_off = trio.Event()

    def watch(self, listener: trio.SocketListener) -> None:
        """Note when the first connection is accepted, and when the server closes it."""
        accept = listener.accept

        async def accept_and_note() -> trio.SocketStream:
            stream = await accept()
            if not self._accepted.is_set():
                self._note_end(stream)
                self._accepted.set()
            return stream

        self._monkeypatch.setattr(listener, "accept", accept_and_note)

    def _note_end(self, stream: trio.SocketStream) -> None:
        aclose = stream.aclose

        async def close_and_note() -> None:
            try:
                await aclose()
            finally:
                self.cut_off.set()

        self._monkeypatch.setattr(stream, "aclose", close_and_note)

    @asynccontextmanager
    async def says(self, said: bytes, port: int) -> AsyncIterator[trio.SocketStream]:
        self._monkeypatch.setattr(http, "CONVERSATION_S_MAX", 0.5)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(said)
            await self._accepted.wait()
            await trio.testing.wait_all_tasks_blocked()  # his half second has begun
            self._monkeypatch.setattr(http, "CONVERSATION_S_MAX", PATIENCE_S)
            yield stream


async def test_who_is_slow_to_ask_is_cut_off_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    async with serving(slow.watch) as port, slow.says(b"GET /good HTTP/1.1\r\nHost", port) as stream:
        assert (await say(port, b"GET /good HTTP/1.0\r\n\r\n"))[1] == b"good\n"
        assert await everything(stream) == b""


async def test_who_is_slow_to_read_is_cut_off_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, said = Slow(monkeypatch), b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(slow.watch) as port, slow.says(said, port) as stream:
        assert (await say(port, b"GET /good HTTP/1.0\r\n\r\n"))[1] == b"good\n"
        heard = b""
        with trio.fail_after(PATIENCE_S):
            await slow.cut_off.wait()  # not reading until then is what is tested
            try:
                async for data in stream:
                    heard += data
            except trio.BrokenResourceError:
                pass  # reset, which is as good as an end
        assert len(heard) < len(HUGE)


async def test_who_comes_in_too_great_a_number_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)
    async with serving() as port:
        first = await trio.open_tcp_stream("127.0.0.1", port)
        second = await trio.open_tcp_stream("127.0.0.1", port)
        async with first, second, await trio.open_tcp_stream("127.0.0.1", port) as third:
            assert await everything(third) == b""
            await first.send_all(b"GET /good HTTP/1.0\r\n\r\n")
            assert b"good" in await everything(first)
