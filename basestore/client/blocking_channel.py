"""Blocking channel: what carries the requests of a blocking store to a node, and the answers back.

One connection to one node at a time, shared by all threads (`blocking_connection.py`). One thread at a time
looks whether the connection still stands, connects anew if need be (`dialling.py`), and sends; then it waits
for its answers beside the others. All of it together takes no longer than the call's deadline, a moment of
`time.monotonic`, and the node is told of what is left by the time that the request is sent.

In a process that was forked the inherited connection is dropped, and the child makes its own: two processes
that read from one socket would get each other's answers. Imports neither Trio nor anyio.
"""

import random
import threading
import weakref
from collections.abc import Sequence
from time import monotonic

from basestore.client.blocking_connection import Batch, Connection
from basestore.client.calls import ID_FIRST_MAX, PENDING_MAX, Make, hurried
from basestore.client.channel import Unsent, overfull, unreachable
from basestore.client.dialling import Race
from basestore.client.owner import tell_of_forks
from basestore.client.session import ENDED, Session, check_cluster
from basestore.errors import BasestoreError, InvalidRequest, Overloaded, SessionFull
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Names, Welcome

Answers = list[Message | BasestoreError]


class BlockingChannel:
    """The way to a cluster over whichever endpoint answers. `timeout_s_max`: how long a request may last, 0
    until that is known; `members`: their names, of the cluster that was last connected to."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._endpoints = list(dict.fromkeys(endpoints))  # in the order in which they are tried
        self._closed = False
        self.members = Names()
        self.timeout_s_max = 0.0
        self._begin_anew()
        tell_of_forks(self)

    def _begin_anew(self) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()  # those that are left, too
        self._sending = threading.Lock()  # guards what follows
        self._connection: Connection | None = None
        self._race: Race[Connection] | None = None
        self._next_id = random.randrange(ID_FIRST_MAX)

    def after_fork(self) -> None:
        """In the child: nothing of what the parent's threads have under way concerns this process."""
        for connection in self._connections:
            connection.abandon()
        self._begin_anew()

    def welcome(self, deadline: float) -> Welcome:
        """What the node says of its cluster; it is connected to if need be. Unreachable."""
        self._take_turn(deadline)
        try:
            return self._connected(deadline).welcome
        finally:
            self._sending.release()

    def close(self) -> None:
        """Close the connection. The channel is not used afterwards; calls under way get ConnectionLost."""
        self._closed = True
        race = self._race
        if race is not None:
            race.abandon()
        for connection in list(self._connections):
            connection.fail("this store was closed")

    def _take_turn(self, deadline: float) -> None:
        """Until no other thread sends or connects; an error that says which at the deadline."""
        if not self._sending.acquire(timeout=max(0.0, deadline - monotonic())):
            race = self._race
            if race is not None:
                raise unreachable(dict(race.failures), self._endpoints)
            raise Overloaded(
                "overloaded: the node takes nothing more of what other threads send over this connection; "
                "nothing was sent. Try again after a pause, or connect to another node"
            )

    def _connected(self, deadline: float) -> Connection:
        """The connection, made if need be; Unreachable."""
        if self._closed:
            raise InvalidRequest("this store is closed; connect again")
        race = self._race
        if race is not None and race.ended.is_set():  # when nobody waited for it any more
            self._adopt(race)
        connection = self._connection
        if connection is not None and connection.usable():
            return connection
        if self._race is None:
            if connection is not None and connection.shunned:
                self._endpoints.remove(connection.endpoint)
                self._endpoints.append(connection.endpoint)
            self._race = Race(self._endpoints, Connection, deadline - monotonic())
        race = self._race
        race.ended.wait(max(0.0, deadline - monotonic()))
        if race.ended.is_set():
            self._adopt(race)
        if race.connection is None:
            raise unreachable(dict(race.failures), self._endpoints)
        return race.connection

    def _adopt(self, race: Race[Connection]) -> None:
        self._race = None
        connection = race.connection
        if connection is None:
            return
        if self._closed:
            connection.leave()
        self._connection = connection
        self._connections.add(connection)
        self._endpoints.remove(connection.endpoint)
        self._endpoints.insert(0, connection.endpoint)
        self.members = connection.welcome.names
        self.timeout_s_max = connection.welcome.timeout_ms_max / 1e3

    def ask(self, makes: Sequence[Make], deadline: float, cluster: bytes = b"") -> Answers:
        """Send the requests that `makes` make with their ids together; their answers or errors, in order.
        Unreachable. With the id of a cluster, InvalidRequest if the node belongs to another."""
        self._take_turn(deadline)
        try:
            first = self._next_id + 1
            self._next_id += len(makes)
            answers, requests = _made(makes, first)
            while requests:
                connection = self._connected(deadline)
                if cluster:
                    check_cluster(cluster, connection.welcome.cluster)
                batch = Batch(self._fitting(connection, requests, deadline), deadline)
                try:
                    connection.send(batch)
                    break
                except Unsent:
                    continue
        finally:
            self._sending.release()
        if requests:
            connection.wait(batch)
            answers |= batch.answers
        return [answers[number] for number in range(first, first + len(makes))]

    def _fitting(
        self, connection: Connection, requests: dict[int, Message], deadline: float
    ) -> dict[int, Message]:
        """The requests as they are sent now. Overloaded when they would be too many."""
        if len(connection.under_way) + len(requests) > PENDING_MAX:
            raise overfull()
        left_s = deadline - monotonic()
        return {number: hurried(message, left_s) for number, message in requests.items()}


def _made(
    makes: Sequence[Make], first: int
) -> tuple[dict[int, Message | BasestoreError], dict[int, Message]]:
    """Requests by their ids, and what is wrong with those that cannot be made."""
    wrong: dict[int, Message | BasestoreError] = {}
    requests: dict[int, Message] = {}
    for number, make in enumerate(makes, first):
        try:
            requests[number] = make(number)
        except (InvalidRequest, SessionFull) as error:
            wrong[number] = error
    return wrong, requests


class BlockingSessionChannel:
    """A channel that tells nodes what a session has seen, and the session what nodes answer. The session
    is looked at by one thread at a time, the one that holds `lock`."""

    def __init__(self, channel: "BlockingChannel | BlockingSessionChannel", seen: Session) -> None:
        self._channel = channel
        self._seen = seen
        self.lock = threading.Lock()
        self.closed = False
        tell_of_forks(self)

    def after_fork(self) -> None:
        self.lock = threading.Lock()

    @property
    def members(self) -> Names:
        return self._channel.members

    @property
    def timeout_s_max(self) -> float:
        return self._channel.timeout_s_max

    def welcome(self, deadline: float) -> Welcome:
        return self._channel.welcome(deadline)

    def close(self) -> None:
        """The session ends; the channel below goes on."""
        self.closed = True

    def ask(self, makes: Sequence[Make], deadline: float, cluster: bytes = b"") -> Answers:
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
            answers = self._channel.ask(makes, deadline, self._seen.cluster)
        finally:
            with self.lock:
                for place, message in begun.items():
                    self._seen.end(message, answers[place] if answers else None)
        return answers


AnyChannel = BlockingChannel | BlockingSessionChannel
