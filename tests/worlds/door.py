"""Door: an endpoint that leads to a node, and lets a client's first request through when it is told to."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from basestore.config import parse_address
from tests.worlds.patience import PATIENCE_S

RECEIVE_BYTES = 64 << 10


@contextmanager
def door(address: str, first: Callable[[], None]) -> Iterator[str]:
    """For one connection. `first` is called once its client has been greeted and asks for something, before
    the node hears of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)

        def lead() -> None:
            client, _ = listener.accept()
            with client, socket.create_connection(parse_address(address)) as node:
                back = threading.Thread(target=_carry, args=(node, client))
                back.start()
                node.sendall(client.recv(RECEIVE_BYTES))  # the hello: a client waits for what is said to it
                asked = client.recv(RECEIVE_BYTES)
                first()
                node.sendall(asked)
                _carry(client, node)
                back.join(PATIENCE_S)

        leading = threading.Thread(target=lead)
        leading.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            leading.join(PATIENCE_S)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(RECEIVE_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
