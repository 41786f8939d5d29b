"""Listening: a task for each connection that comes in, for as long as the listener lives.

A process that runs out of descriptors accepts nobody until it has some again: that is said (once a minute),
and whoever can make room is asked to. It never ends the listener, and fills no log.

Why an address cannot be listened on is said with what to do about it, the state first: a port that somebody
uses, a name that nobody knows and an address of another machine are told apart, and only of the first is it
said that something is to be stopped.
"""

import errno
import socket
from collections.abc import Awaitable, Callable

import trio

PAUSE_S = 0.1
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
Serve = Callable[[trio.SocketStream], Awaitable[None]]
_ADVICE = {
    errno.EADDRINUSE: "something listens there already: stop what uses the port",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address: correct it",
    errno.EACCES: "this user may not listen on that port: use one from 1024 on",
}


def why_not(error: OSError) -> str:
    """What is wrong with an address that could not be listened on, and what to do, in a few words."""
    if isinstance(error, socket.gaierror) or (error.errno or 0) < 0:  # numbers of errors of names
        return f"its name does not resolve ({error.strerror}): correct the name, or write an IP address"
    return _ADVICE.get(error.errno or 0) or str(error)


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
