"""Blocking channel: what carries the requests of a blocking store to a node, and the answers back.

One connection, one caller at a time (a lock guards it): a call sends what it has to send and reads until all
of it is answered, so there is no table of requests that outlives a call. If the connection breaks, the call
gets ConnectionLost for what was sent, and the next one connects anew, to whichever endpoint answers first in
the order given. Imports neither Trio nor anyio.
"""

import socket
import threading
import time
from collections.abc import Mapping, Sequence

from basestore.client.calls import CONNECT_S_MAX, GRACE_S, Make
from basestore.client.channel import lost, unreachable
from basestore.client.session import ENDED, Session, check_cluster
from basestore.config import parse_address
from basestore.errors import BasestoreError, InvalidRequest, SessionFull
from basestore.protocol.codec import Message
from basestore.protocol.frames import FrameReader, pack, pack_requests
from basestore.protocol.handshake import Hello, Welcome, welcomed
from basestore.protocol.limits import PROTOCOL, ProtocolError

RECEIVE_BYTES = 256 << 10

Answers = list[Message | BasestoreError]


class _Connection:
    """A connection whose handshake is done. Any error closes it."""

    def __init__(self, endpoint: str) -> None:
        """Connect and shake hands; OSError or ProtocolError when that fails, and nothing stays open."""
        self.endpoint = endpoint
        self._frames = FrameReader()
        self._socket = socket.create_connection(parse_address(endpoint), CONNECT_S_MAX)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(pack([Hello(PROTOCOL, b"", b"", "")]))
            self.welcome = welcomed(self.receive(time.monotonic() + CONNECT_S_MAX)[0])
        except BaseException:
            self.close()
            raise

    def send(self, messages: Sequence[Message], timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)
        for frame in pack_requests(messages):
            self._socket.sendall(frame)

    def receive(self, deadline: float) -> list[Message]:
        """The next messages, one at least; TimeoutError at the deadline."""
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("it did not answer in time")
            self._socket.settimeout(left_s)
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError("it closed the connection")
            messages = self._frames.feed(data)
            if messages:
                return messages

    def close(self) -> None:
        self._socket.close()


class Channel:
    """The way to a cluster over whichever endpoint answers."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._closed = False
        self._next_id = 0
        self.members: Mapping[int, str] = {}  # their names; of the cluster that was last connected to

    def welcome(self) -> Welcome:
        """What the node says of its cluster; it is connected to if need be. Unreachable."""
        with self._lock:
            return self._connected().welcome

    def close(self) -> None:
        """Close the connection. The channel is not used afterwards."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> _Connection:
        """The connection, made if need be; Unreachable."""
        if self._closed:
            raise InvalidRequest("this store is closed; connect again")
        if self._connection is not None:
            return self._connection
        failures: dict[str, object] = {}
        for endpoint in self._endpoints:
            try:
                self._connection = _Connection(endpoint)
            except (OSError, ProtocolError) as error:
                failures[endpoint] = error
                continue
            self.members = self._connection.welcome.names
            return self._connection
        raise unreachable(failures)

    def ask(self, makes: Sequence[Make], timeout_s: float, cluster: bytes = b"") -> Answers:
        """Send the requests that `makes` make with their ids together; their answers or errors, in order.
        Unreachable. With the id of a cluster, InvalidRequest if the node belongs to another."""
        results: dict[int, Message | BasestoreError] = {}
        with self._lock:
            first = self._next_id + 1
            batch: dict[int, Message] = {}
            for number, make in enumerate(makes, first):
                try:
                    batch[number] = make(number)
                except (InvalidRequest, SessionFull) as error:
                    results[number] = error
            self._next_id += len(makes)
            if batch:
                connection = self._connected()
                if cluster:
                    check_cluster(cluster, connection.welcome.cluster)
                results |= self._exchange(connection, batch, timeout_s)
        return [results[number] for number in range(first, first + len(makes))]

    def _exchange(
        self, connection: _Connection, batch: dict[int, Message], timeout_s: float
    ) -> dict[int, Message | BasestoreError]:
        results: dict[int, Message | BasestoreError] = {}
        waiting = set(batch)
        deadline = time.monotonic() + timeout_s + GRACE_S
        try:
            connection.send(list(batch.values()), timeout_s + GRACE_S)
            while waiting:
                for message in connection.receive(deadline):
                    number = getattr(message, "id", 0)  # ids count from 1
                    if number in waiting:
                        waiting.discard(number)
                        results[number] = message
        except BaseException as error:
            self._disconnect()  # answers to what was sent must not meet later requests
            if not isinstance(error, OSError | ProtocolError):
                raise
            told = f"{connection.endpoint} was lost: {error}"
            results |= {number: lost(told, batch[number]) for number in waiting}
        return results


class SessionChannel:
    """A channel that tells nodes what a session has seen, and the session what nodes answer. The session
    is looked at by one thread at a time, the one that holds `lock`."""

    def __init__(self, channel: "Channel | SessionChannel", seen: Session) -> None:
        self._channel = channel
        self._seen = seen
        self.lock = threading.Lock()
        self.closed = False

    @property
    def members(self) -> Mapping[int, str]:
        return self._channel.members

    def welcome(self) -> Welcome:
        return self._channel.welcome()

    def close(self) -> None:
        """The session ends; the channel below goes on."""
        self.closed = True

    def ask(self, makes: Sequence[Make], timeout_s: float, cluster: bytes = b"") -> Answers:
        if self.closed:
            raise InvalidRequest(ENDED)
        begun: dict[int, Message] = {}

        def begin(place: int, make: Make) -> Make:
            def begin_one(request: int) -> Message:
                message = make(request)
                with self.lock:
                    begun[place] = self._seen.begin(message)
                return begun[place]

            return begin_one

        answers: Answers = []
        try:
            makes = [begin(place, make) for place, make in enumerate(makes)]
            answers = self._channel.ask(makes, timeout_s, self._seen.cluster)
        finally:
            with self.lock:
                for place, message in begun.items():
                    self._seen.end(message, answers[place] if answers else None)
        return answers
