"""Listening: a task for each connection that comes in, for as long as the listener lives.

A process that runs out of descriptors accepts nobody until it has some again: that is said (once a minute),
and whoever can make room is asked to. It never ends the listener, and fills no log.
"""

import errno
from collections.abc import Awaitable, Callable

import trio

PAUSE_S = 0.1
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def serve_connections(
    listeners: list[trio.SocketListener],
    serve: Serve,
    exhausted: Callable[[OSError], object],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until cancelled. `exhausted` is told why nobody can be accepted just now."""

    async def accept(listener: trio.SocketListener) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in EXHAUSTED:
                        raise
                    exhausted(error)
                    await trio.sleep(PAUSE_S)
                else:
                    nursery.start_soon(serve, stream)

    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(accept, listener)
        task_status.started()
