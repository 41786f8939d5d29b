"""Dialling, for the blocking client: the first of several endpoints that answers, by a deadline.

As in RFC 8305 ("Happy Eyeballs") the next candidate is begun when the one before has failed, or has not
answered within a head start: among the addresses of one name (`dial`) and among endpoints (`Race`).

To look up a name cannot be broken off. So each endpoint is tried in a thread of its own, which ends when that
does; a caller waits only as long as it likes, and who comes later waits for the same race: however many call,
an endpoint is tried once at a time.
"""

import os
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, Protocol, TypeVar

from basestore.config import parse_address
from basestore.errors import ConfigurationError
from basestore.protocol.limits import ProtocolError
from basestore.transport.endpoints import NO_CONNECTION, SILENT

CONNECT_S_MAX = 3.0  # that one attempt to connect to one endpoint may take
HEAD_START_S = 0.25  # of an endpoint (or address), before the next one is tried too


def dial(endpoint: str, deadline: float) -> socket.socket:
    """A connected socket that does not block; OSError when there is none by the deadline."""
    try:
        host, port = parse_address(endpoint)
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ConfigurationError, ValueError) as wrong:  # what a node has told need be no address
        raise OSError(str(wrong)) from wrong
    failure = OSError("its name has no address")
    trying = selectors.DefaultSelector()
    try:
        while addresses or trying.get_map():
            if addresses:
                failure = _begin(trying, addresses.pop(0)) or failure
            left_s = deadline - monotonic()
            if left_s <= 0:
                raise TimeoutError(NO_CONNECTION)
            if not trying.get_map():
                continue
            for key, _ in trying.select(min(left_s, HEAD_START_S) if addresses else left_s):
                attempt = key.fileobj
                assert isinstance(attempt, socket.socket)
                trying.unregister(attempt)
                error = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not error:
                    attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return attempt
                attempt.close()
                failure = OSError(error, os.strerror(error))
        raise failure
    finally:
        for key in list(trying.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        trying.close()


def _begin(trying: selectors.BaseSelector, candidate: tuple[int, int, int, str, object]) -> OSError | None:
    """Begin to connect to an address; what is wrong with it, if that is known at once."""
    family, kind, protocol, _, address = candidate
    try:
        attempt = socket.socket(family, kind, protocol)
    except OSError as error:  # this machine may lack the family
        return error
    attempt.setblocking(False)
    try:
        attempt.connect(address)  # type: ignore[arg-type]
    except BlockingIOError:
        pass
    except OSError as error:
        attempt.close()
        return error
    trying.register(attempt, selectors.EVENT_WRITE)
    return None


class Closable(Protocol):
    """What a race is run for."""

    endpoint: str

    def leave(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Race(Generic[C]):
    """An attempt to connect to one of these endpoints. `connection`: of the first that answered, once `ended`
    is set; `failures`: why others did not, by endpoint, so far."""

    def __init__(
        self, endpoints: Sequence[str], connect: Callable[[str, socket.socket, float], C], left_s: float
    ) -> None:
        """`connect`: makes one out of an endpoint and a socket that is connected to it, by a deadline."""
        self.connection: C | None = None
        self.failures: dict[str, object] = {}
        self.ended = threading.Event()
        self._connect = connect
        self._told: SimpleQueue[tuple[str, C | OSError | ProtocolError]] = SimpleQueue()
        self._abandoned = False
        self._lock = threading.Lock()
        # Each has its turn even where there is less time than the head starts take.
        head_start_s = max(0.0, min(HEAD_START_S, left_s / (len(endpoints) + 1)))
        self._start(self._run, list(endpoints), head_start_s)

    @staticmethod
    def _start(work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True, name="basestore connects").start()

    def _run(self, endpoints: list[str], head_start_s: float) -> None:
        trying = 0
        while trying or (endpoints and self.connection is None):
            if endpoints and self.connection is None:
                self._start(self._try, endpoints.pop(0))
                trying += 1
            try:
                more = endpoints and self.connection is None
                endpoint, told = self._told.get(timeout=head_start_s if more else None)
            except Empty:
                continue
            trying -= 1
            if isinstance(told, OSError | ProtocolError):
                self.failures[endpoint] = told
            else:
                self._arrive(told)
        self.ended.set()

    def _try(self, endpoint: str) -> None:
        deadline = monotonic() + CONNECT_S_MAX
        try:
            dialled = dial(endpoint, deadline)
            self.failures[endpoint] = SILENT  # if nothing more comes
            self._told.put((endpoint, self._connect(endpoint, dialled, deadline)))
        except (OSError, ProtocolError) as error:
            self._told.put((endpoint, error))

    def _arrive(self, connection: C) -> None:
        with self._lock:
            if self.connection is None and not self._abandoned:
                self.connection = connection
                self.ended.set()
                return
        connection.leave()

    def abandon(self) -> None:
        """Nobody waits for it any more: what it has connected, or will, is closed."""
        with self._lock:
            self._abandoned = True
            if self.connection is not None:
                self.connection.leave()
