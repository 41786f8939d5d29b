"""Blocking channel: what carries the requests of a blocking store to a node, and the answers back.

One connection to one node at a time, shared by all threads (`blocking_connection.py`). One thread at a time
looks whether the connection still stands, connects anew if need be (`transport/dialling.py`), and sends; then
it waits for its answers beside the others. All of it together takes no longer than the call's deadline, a
moment of `time.monotonic`, and the node is told of what is left by the time that the request is sent.

In a process that was forked the inherited connection is dropped, and the child makes its own: two processes
that read from one socket would get each other's answers. A thread whose requests the connection's window has
no room for (`transport/window.py`) leaves its turn to others while it waits. Imports neither Trio nor anyio.
"""

import random
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Protocol

from basestore.client.blocking_connection import Connection
from basestore.client.calls import ID_FIRST_MAX, PENDING_MAX, Asking, fitted, overfull
from basestore.client.channel import ENDED, NO_RULES, Batch, Lesson, Unsent
from basestore.client.session import Session, check_cluster
from basestore.errors import InvalidRequest, Overloaded
from basestore.protocol.handshake import ANYBODY, Meant, Names, Rules, Welcome
from basestore.protocol.limits import WIRE_HIGHEST
from basestore.transport.dialling import Race
from basestore.transport.endpoints import ASK_SHARE, unreachable
from basestore.transport.owner import tell_of_forks
from basestore.transport.speaking import speakable
from basestore.transport.window import WAIT_SHARE, Waiting


class BlockingChannel:
    """The way to a cluster over whichever endpoint answers. `timeout_s_max`: how long a request may last, 0
    until that is known; `members`: their names, of the cluster that was last connected to; `bulk`: nothing
    that is asked over it is urgent; `meant`: who alone is connected to."""

    def __init__(self, endpoints: Sequence[str], *, bulk: bool = False, meant: Meant = ANYBODY) -> None:
        self._bulk = bulk
        self._connect = partial(Connection, meant=meant)
        self._endpoints = list(dict.fromkeys(endpoints))  # in the order in which they are tried
        self._closed = False
        self.timeout_s_max = 0.0
        self._told: Connection | None = None  # by what was said over which names and rules are known
        self._begin_anew()
        tell_of_forks(self)

    def _begin_anew(self) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()  # those that are left, too
        self._sending = threading.Lock()  # guards what follows
        self.connection: Connection | None = None
        self._race: Race[Connection] | None = None
        self._next_id = random.randrange(ID_FIRST_MAX)

    def after_fork(self) -> None:
        """In the child: nothing of what the parent's threads have under way concerns this process."""
        for connection in self._connections:
            connection.abandon()
        self._begin_anew()

    @property
    def members(self) -> Names:
        return self._told.welcome.names if self._told is not None else Names()

    @property
    def rules(self) -> Rules:
        """Of the buckets, as the node has said last."""
        return self._told.rules if self._told is not None else NO_RULES

    def welcome(self, deadline: float) -> Welcome:
        """What the node says of its cluster; it is connected to if need be. Unreachable."""
        self._take_turn(deadline)
        try:
            return self._connected(deadline).welcome
        finally:
            self._sending.release()

    def addresses(self, deadline: float) -> Mapping[str, str]:
        """As `Channel.addresses`."""
        self._take_turn(deadline)
        try:
            before = self.connection
            connection = self._connected(deadline)
        finally:
            self._sending.release()
        if connection is before:  # what it said may be long ago; where it says nothing now, that holds
            connect = partial(Connection, meant=Meant(self.members.cluster))
            left_s = ASK_SHARE * (deadline - monotonic())
            race = Race([connection.endpoint], connect, left_s)
            race.ended.wait(max(0.0, left_s))
            race.abandon()
            if race.connection is not None:
                connection.welcome = race.connection.welcome
        return {member.name: member.address for member in connection.welcome.members}

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
        connection = self.connection
        if connection is not None and connection.usable():
            return connection
        if self._race is None:
            if connection is not None and connection.shunned:
                self._endpoints.remove(connection.endpoint)
                self._endpoints.append(connection.endpoint)
            self._race = Race(self._endpoints, self._connect, deadline - monotonic())
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
        connection.bulk = self._bulk
        self.connection = connection
        self._told = connection
        self._connections.add(connection)
        self._endpoints.remove(connection.endpoint)
        self._endpoints.insert(0, connection.endpoint)
        self.timeout_s_max = connection.welcome.timeout_ms_max / 1e3

    def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        """As `Channel.ask`, for a thread."""
        self._take_turn(deadline)
        try:
            batch = Batch(self._next_id + 1, asking)
            self._next_id = batch.last
            connection, waiting = self._send(batch, asking.timeout_s, deadline, cluster)
        finally:
            self._sending.release()
        waits_until = 0.0
        while connection is not None and waiting is not None:
            waits_until = waits_until or min(deadline, monotonic() + WAIT_SHARE * asking.timeout_s)
            connection.await_room(waiting, waits_until)
            before = connection, waiting
            try:
                self._take_turn(deadline)
                try:
                    connection, waiting = self._send(batch, asking.timeout_s, deadline, cluster, before)
                finally:
                    self._sending.release()
            except BaseException:
                before[0].part(before[1])
                raise
        if connection is not None:
            connection.wait(batch)
        return batch

    def _send(
        self,
        batch: Batch,
        timeout_s: float,
        deadline: float,
        cluster: bytes,
        held: tuple[Connection, Waiting] | None = None,
    ) -> tuple[Connection | None, Waiting | None]:
        """Send a batch over this connection; or have it wait there for room, if it does not yet (`held`)."""
        while batch.untold:
            connection = self._connected(deadline)
            if cluster:
                check_cluster(cluster, connection.welcome.cluster)
            waiting = held[1] if held is not None and held[0] is connection else None
            if waiting is None and connection.pending + batch.untold > PENDING_MAX:
                raise overfull()
            if connection.version < WIRE_HIGHEST:
                batch.requests = speakable(batch.requests, connection.version)
            batch.requests, deadline = fitted(
                batch.requests, timeout_s, self.timeout_s_max, deadline, monotonic()
            )
            try:
                return connection, connection.send(batch, deadline, waiting)
            except Unsent:
                continue
        return None, None


class BlockingSessionChannel:
    """A channel that tells nodes what a session has seen, and the session what nodes answer. The session
    is looked at by one thread at a time, the one that holds `lock`."""

    def __init__(self, channel: "AnyChannel", seen: Session) -> None:
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
    def rules(self) -> Rules:
        return self._channel.rules

    def welcome(self, deadline: float) -> Welcome:
        return self._channel.welcome(deadline)

    def addresses(self, deadline: float) -> Mapping[str, str]:
        return self._channel.addresses(deadline)

    def close(self) -> None:
        """The session ends; the channel below goes on."""
        self.closed = True

    def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        if self.closed:
            raise InvalidRequest(ENDED)
        with self.lock:
            self._seen.learn(self._channel.rules)
        lesson, batch = Lesson(self._seen, asking, self.lock), None
        try:
            batch = self._channel.ask(lesson, deadline, self._seen.cluster)
            return batch
        finally:
            lesson.end(batch)


class AnyChannel(Protocol):
    """Carries the requests of a blocking store, as `Channel` those of an asynchronous one."""

    @property
    def members(self) -> Names: ...

    @property
    def rules(self) -> Rules: ...

    def welcome(self, deadline: float) -> Welcome: ...

    def addresses(self, deadline: float) -> Mapping[str, str]: ...

    def close(self) -> None: ...

    def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch: ...
