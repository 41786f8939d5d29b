"""Network channel: an asynchronous store's way to a cluster, over one connection at a time.

Calls that need a connection share one attempt to make it. It is a race (as in RFC 8305, "Happy Eyeballs"):
the endpoint that answered last begins, and each next one begins when the one before has failed, or has not
answered within a head start. A node that fell silent, or said that it goes, is left: it is the last to be
tried again, and may still answer what it was asked before.

As many requests are sent at once as the connection's window (`transport/window.py`) has room for. Others wait
for it in order, a tenth of their timeout at most; if the connection ends meanwhile, they wait for the next.
It refuses to send anything twice: whether a write that got no answer may be repeated is the caller's to say.
"""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from time import monotonic

import anyio
import anyio.abc

from basestore.client.arguments import Consistency, check_endpoints
from basestore.client.calls import (
    GRACE_S,
    ID_FIRST_MAX,
    PENDING_MAX,
    SLACK_S,
    Asking,
    Calls,
    fitted,
    overfull,
)
from basestore.client.channel import NO_RULES, Batch, Channel
from basestore.client.connection import Connection, open_connection
from basestore.client.session import check_cluster
from basestore.client.store import Store
from basestore.errors import InvalidRequest
from basestore.protocol.handshake import ANYBODY, BEFORE, Meant, Names, Rules
from basestore.protocol.limits import WIRE_HIGHEST, ProtocolError
from basestore.transport.dialling import CONNECT_S_MAX, HEAD_START_S
from basestore.transport.endpoints import ASK_SHARE, unreachable
from basestore.transport.owner import Owner, opening
from basestore.transport.speaking import speakable
from basestore.transport.window import WAIT_SHARE

_UNREACHED = (OSError, ProtocolError, anyio.EndOfStream, anyio.BrokenResourceError)


def _cause(error: BaseException) -> BaseException:
    """Of all addresses of a name anyio says only that they have failed: the error of the last one."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[-1]
    return cause if isinstance(cause, OSError) else error


class _Attempt:
    """An attempt to connect. `failures` by endpoint, so far; `failed`: one more of them has."""

    def __init__(self) -> None:
        self.failures: dict[str, object] = {}
        self.failed = anyio.Event()
        self.ended = anyio.Event()


class _NetworkChannel:
    """The way to a cluster over whichever endpoint answers."""

    def __init__(
        self, endpoints: Sequence[str], tasks: anyio.abc.TaskGroup, bulk: bool, meant: Meant
    ) -> None:
        self._bulk = bulk
        self._meant = meant
        self._endpoints = list(dict.fromkeys(endpoints))  # in the order in which they are tried
        self._tasks = tasks
        self._owner = Owner()
        self._attempt: _Attempt | None = None
        self.connection: Connection | None = None
        self.pending = 0  # requests that wait and are under way
        self.closed = False
        self._next_id = random.randrange(ID_FIRST_MAX)
        self.cluster = b""
        self.timeout_s_max = 0.0

    @property
    def members(self) -> Names:
        return self.connection.names if self.connection is not None else Names()

    @property
    def rules(self) -> Rules:
        return self.connection.rules if self.connection is not None else NO_RULES

    def elsewhere(self, member: Meant, timeout_s: float) -> AbstractAsyncContextManager[Channel]:
        return channel_to([member.address], timeout_s, meant=member)

    async def addresses(self, deadline: float) -> Mapping[str, str]:
        before = self.connection
        connection = await self._connect(deadline)
        if connection is before:  # what it said may be long ago; where it says nothing now, that holds
            with anyio.move_on_after(ASK_SHARE * (deadline - monotonic())), suppress(*_UNREACHED):
                asked = await open_connection(connection.endpoint, {}, Meant(self.cluster))
                connection.welcome = asked.welcome
                await asked.discard()
        return {member.name: member.address for member in connection.welcome.members}

    async def aclose(self) -> None:
        self.closed = True
        if self.connection is not None:
            self.connection.leave()
            await self.connection.discard()

    async def ready(self, deadline: float) -> None:
        self._owner.check()
        connection = self.connection
        if connection is None or connection.leaving or (not connection.asked and connection.stirs()):
            await self._connect(deadline)

    async def _connect(self, deadline: float) -> Connection:
        connection = self.connection
        while connection is not None and not connection.leaving:
            if connection.asked or not connection.stirs():
                return connection
            await anyio.lowlevel.checkpoint()  # it is its reader's turn
        if self.closed:
            raise InvalidRequest("this store is closed; connect again")
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = _Attempt()
            head_start_s = min(HEAD_START_S, (deadline - monotonic()) / (len(self._endpoints) + 1))
            self._tasks.start_soon(self._race, attempt, max(0.0, head_start_s))
        with anyio.move_on_after(max(0.0, deadline - monotonic())):
            await attempt.ended.wait()
        connection = self.connection
        if connection is None or connection.leaving:
            raise unreachable(attempt.failures, self._endpoints)
        return connection

    async def _race(self, attempt: _Attempt, head_start_s: float) -> None:
        if self.connection is not None and self.connection.shunned:
            self._endpoints.remove(self.connection.endpoint)
            self._endpoints.append(self.connection.endpoint)
        try:
            async with anyio.create_task_group() as tasks:
                for endpoint in list(self._endpoints):
                    attempt.failed = anyio.Event()
                    tasks.start_soon(self._try, endpoint, attempt, tasks.cancel_scope)
                    with anyio.move_on_after(head_start_s):
                        await attempt.failed.wait()
        finally:
            self._attempt = None
            attempt.ended.set()

    async def _try(self, endpoint: str, attempt: _Attempt, scope: anyio.CancelScope) -> None:
        try:
            with anyio.fail_after(CONNECT_S_MAX):
                connection = await open_connection(endpoint, attempt.failures, self._meant)
        except _UNREACHED as error:
            if isinstance(error, anyio.EndOfStream):
                attempt.failures[endpoint] = f"it {BEFORE}; upgrade it"
            elif not isinstance(error, TimeoutError):  # which says less than what stands there
                attempt.failures[endpoint] = _cause(error)
            attempt.failed.set()
            return
        if scope.cancel_called or self.closed:  # another one was faster
            await connection.discard()
            return
        scope.cancel()
        self._endpoints.remove(endpoint)
        self._endpoints.insert(0, endpoint)
        connection.bulk = self._bulk
        self.connection = connection
        welcome = connection.welcome
        self.cluster = welcome.cluster
        self.timeout_s_max = welcome.timeout_ms_max / 1e3
        self._tasks.start_soon(connection.run)

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        self._owner.check()
        # Before the table is entered: what is wrong with an argument leaves no entry behind.
        batch = Batch(self._next_id + 1, asking)
        self._next_id = batch.last
        timeout_s, waits_until = asking.timeout_s, 0.0
        while batch.untold:
            connection = self.connection
            if connection is None or connection.leaving or (not connection.asked and connection.stirs()):
                connection = await self._connect(deadline)
            if cluster:
                check_cluster(cluster, self.cluster)
            window, asked, size, pending = connection.window, connection.asked, 0, batch.untold
            if self.pending + pending > PENDING_MAX:
                raise overfull()
            self.pending += pending
            sent = monotonic()
            try:
                if window.takes(len(asked), batch.measure()) or batch.urgent:
                    window.size += batch.size
                else:
                    waits_until = waits_until or min(deadline, sent + WAIT_SHARE * timeout_s)
                    if not await connection.room(batch, self._owner.bell(), waits_until - sent):
                        continue
                    sent = monotonic()
                size = batch.size
                if connection.version < WIRE_HIGHEST:
                    batch.requests = speakable(batch.requests, connection.version)
                if timeout_s > self.timeout_s_max or deadline - sent < timeout_s - SLACK_S:
                    batch.requests, deadline = fitted(
                        batch.requests, timeout_s, self.timeout_s_max, deadline, sent
                    )
                bell = self._owner.bell()
                batch.rules = connection.rules
                batch.enter(asked, sent, deadline + GRACE_S, bell)
                connection.send(batch.requests)
                await bell.wait()
            finally:
                self.pending -= pending
                window.size -= size
                if batch.untold:
                    batch.leave(asked)
                if window.line:
                    window.let_in(len(asked))
            if not batch.failed or not batch.again():
                break
        return batch


@asynccontextmanager
async def channel_to(
    endpoints: Sequence[str], timeout_s: float, *, bulk: bool = False, meant: Meant = ANYBODY
) -> AsyncIterator[Channel]:
    """A way to the cluster of these endpoints, for the length of a block; Unreachable, also where none of
    them is who was meant."""
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            channel = _NetworkChannel(endpoints, tasks, bulk, meant)
            await channel.ready(monotonic() + timeout_s)
            yield channel
        except Exception as error:  # noqa: BLE001 - carried past the task group, which would wrap it
            failure = error
        channel.closed = True
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


@opening
@asynccontextmanager
async def connect(
    endpoints: Sequence[str] | str | None = None,
    *,
    consistency: Consistency = "quorum",
    timeout: float | None = None,
    bulk: bool = False,
) -> AsyncIterator[Store]:
    """A store on a remote cluster, for the length of an `async with` block.

    endpoints  host:port of one node or several, in order of preference; any node serves any key. Without
               any: those that the environment names in BASESTORE_ENDPOINTS, or else 127.0.0.1:7400
    timeout    seconds, for calls that say nothing else, and for connecting: 5, or what the cluster takes if
               that is less. A call ends by then, whatever it waits for, or half a second later, with what a
               node has told of it by then
    bulk       nothing that is asked over it is urgent: where a node has too much to do, it is served last
    As many requests are under way at once as the node takes; others wait, up to a tenth of their timeout, and
    are Overloaded then, and so is what would be more than 4,096 together. The store belongs to the event loop
    that it was made in. Raises InvalidRequest and Unreachable.
    """
    listed = check_endpoints(endpoints)
    calls = Calls(consistency, timeout)  # what is wrong with these is said before anything is done
    async with channel_to(listed, calls.timeout_s, bulk=bulk) as channel:
        yield Store(channel, consistency, timeout)
