"""HTTP: a few pages for machines that watch a node, on a port of their own.

GET and HEAD, one request a connection, everything bounded: who is slow, sends too much or comes in
too great a number loses its connection, and nothing else waits for it. A page is made in parts, and
between two parts the node goes on. The grammar of HTTP/1.1 is h11's.

It refuses everything that changes something: there is nothing here that a request could set going.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

import h11
import trio

from basestore.server.listening import serve_connections

CONNECTIONS_MAX = 32
CONVERSATION_S_MAX = 10.0
HEAD_BYTES_MAX = 8 << 10
PARTING_S_MAX = 1.0
PARTING_BYTES_MAX = 64 << 10
RECEIVE_BYTES = 4 << 10
PATH_CHARACTERS_SHOWN = 64
TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """What is answered: an HTTP status, a media type, and the body in parts."""

    status: int
    media: str
    parts: Iterable[bytes]


Pages = Mapping[str, Callable[[], Page]]


def line(status: int, text: str) -> Page:
    """A page of one line."""
    return Page(status, TEXT, [text.encode() + b"\n"])


async def serve_pages(listeners: list[trio.SocketListener], pages: Pages) -> None:
    """Answer requests for `pages`, by path, until cancelled."""
    connections = 0

    async def accept(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        try:
            if connections <= CONNECTIONS_MAX:
                with trio.move_on_after(CONVERSATION_S_MAX), suppress(trio.BrokenResourceError):
                    await _converse(stream, pages)
        finally:
            connections -= 1
            await trio.aclose_forcefully(stream)

    await serve_connections(listeners, accept, lambda error: None)


async def _converse(stream: trio.SocketStream, pages: Pages) -> None:
    """Hear one request and answer it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    head = False
    try:
        request = await _hear(connection, stream)
        if request is None:
            return
        head = request.method == b"HEAD"
        page = _choose(request, pages)
    except h11.RemoteProtocolError as error:
        page = line(error.error_status_hint, f"that is not a request that is understood here: {error}")
    parts = []
    for part in page.parts:
        # Whole before it is sent, for its length goes first; the node gets its turn between two parts.
        parts.append(part)
        await trio.lowlevel.checkpoint()
    await stream.send_all(_answer(connection, page, b"".join(parts), head=head))
    await _part(stream)


async def _hear(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    """The request's head; None when none comes. h11.RemoteProtocolError when it makes no sense."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
        else:
            return event if isinstance(event, h11.Request) else None


def _choose(request: h11.Request, pages: Pages) -> Page:
    if request.method not in (b"GET", b"HEAD"):
        return line(405, "only GET and HEAD are understood here")
    path = request.target.decode("ascii", "replace").partition("?")[0]
    if path not in pages:
        known = ", ".join(pages)
        return line(404, f"there is no {path[:PATH_CHARACTERS_SHOWN]} here; there is {known}")
    return pages[path]()


def _answer(connection: h11.Connection, page: Page, body: bytes, *, head: bool) -> bytes:
    headers = [
        ("Content-Type", page.media),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    if page.status == 405:
        headers.append(("Allow", "GET, HEAD"))
    reason = HTTPStatus(page.status).phrase
    events: list[h11.Event] = [h11.Response(status_code=page.status, reason=reason, headers=headers)]
    if not head:
        events.append(h11.Data(data=body))
    events.append(h11.EndOfMessage())
    return b"".join(connection.send(event) or b"" for event in events)


async def _part(stream: trio.SocketStream) -> None:
    """Hear out what is still coming, up to a bound (lingering close, RFC 9112, 9.6): closed on unread
    data, the connection would be reset, and the answer with it."""
    await stream.send_eof()
    heard = 0
    with trio.move_on_after(PARTING_S_MAX):
        while heard < PARTING_BYTES_MAX and (data := await stream.receive_some(RECEIVE_BYTES)):
            heard += len(data)
