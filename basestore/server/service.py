"""Service: Trio runs a Node on sockets, a clock, a sync thread and a disk.

The poller hears all connections and feeds the node; then the node takes a step, once for all that
came in, the sync thread gets its order, and what the outboxes hold is sent. There is no task for a
request, and a connection's own task only waits: for its socket to take more, or for its end.

Between two nodes there is one connection; the member that stands first in the configuration dials.
"""

import logging
import math
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import trio

from basestore.cluster.outbox import Outbox
from basestore.config import Member, NodeConfig, parse_address
from basestore.errors import ConfigurationError, StorageError
from basestore.instant import Instant
from basestore.node import Node
from basestore.protocol.codec import Message
from basestore.protocol.frames import CLIENT_FRAME_BYTES_MAX, FRAME_BYTES_MAX
from basestore.protocol.limits import ProtocolError
from basestore.replica.identity import Fresh
from basestore.server.link import HANDSHAKE_S_MAX, Link, PeerRefused, Signal, admit, dial, introduce
from basestore.server.poller import Poller
from basestore.server.sync_thread import SyncThread
from basestore.storage.engine import Engine
from basestore.storage.memory import MemoryEngine

TICK_S = 0.05
ALARM_S = 0.005
INTERVAL_S = 1.0
BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 2.0
STALL_S_MAX = 30.0
CONNECTIONS_MAX = 2048
BACKLOG_BYTES_MAX = 4 << 20
COMPLAINT_S = 60.0
COMPLAINTS_MAX = 256

log = logging.getLogger("basestore")


def open_engine(config: NodeConfig) -> Engine:
    """The engine that a node's durability asks for; StorageError when it cannot be opened."""
    if config.durability == "memory":
        return MemoryEngine()
    from basestore.storage.rocks import RocksEngine

    return RocksEngine(config.directory)


def instant() -> Instant:
    """Now, by this machine's clocks."""
    return Instant(time.time_ns() // 1_000_000, time.monotonic())


def _wanted(error: BaseException) -> bool:
    """Whether a service that ends so was asked to; after another error a step may be half done."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_wanted, error.exceptions))
    return isinstance(error, trio.Cancelled | KeyboardInterrupt | ConfigurationError)


class Service:
    """A node at work. Make it, then `run` it; it runs until cancelled, or until its store fails."""

    def __init__(self, config: NodeConfig) -> None:
        """Open the store; StorageError or ConfigurationError says what is wrong with it."""
        self.config = config
        self._engine = open_engine(config)
        try:
            self.node = Node(
                config,
                self._engine,
                Fresh(secrets.token_bytes(16), secrets.token_bytes(8), secrets.randbits(48)),
                instant(),
                {"pid": str(os.getpid()), "endpoint": config.member.address},
            )
            barrier = self.node.step(instant())
            if barrier is None:
                raise StorageError(f"the store in {config.directory} takes no writes; start the node again")
            self._engine.sync()
            self._engine.accept_loss()
        except (StorageError, ConfigurationError):
            self._close(clean=False)
            raise
        self.node.durable(barrier, instant())
        self._work = Signal()
        self._busy = Signal()
        self._poller = Poller()
        self._links: dict[Outbox, Link] = {}
        self._locals: dict[Outbox, Callable[[], None]] = {}
        self._peer_links: dict[int, Link] = {}
        self._accepted = 0
        self._synced: list[tuple[int, StorageError | None]] = []
        self._linked = trio.Event()
        self._failure: StorageError | None = None
        self._state = ""
        self._sync_due_s = 0.0
        self._complaints: dict[str, float] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve. Started once the port is open. StorageError when the store fails: the node has
        then stopped, and nothing was acknowledged that is not durable."""
        token = trio.lowlevel.current_trio_token()

        def done(barrier: int, error: StorageError | None) -> None:
            self._synced.append((barrier, error))
            token.run_sync_soon(self._land)

        host, port = parse_address(self.config.member.address)
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            self._close(clean=False)
            raise ConfigurationError(
                f"{self.config.name} cannot listen on {self.config.member.address}: {error}. "
                f"Stop what uses the port, or change the address on every node"
            ) from error
        self._sync_thread = SyncThread(self._engine, done)
        clean = True
        try:
            async with trio.open_nursery() as nursery:
                if self.config.metrics:
                    from basestore.server.pages import serve_probes

                    await nursery.start(serve_probes, self.node, self.config.metrics)
                nursery.start_soon(self._pump)
                nursery.start_soon(self._poller.run, self.turn)
                nursery.start_soon(self._ticker)
                for index in range(self.node.me + 1, len(self.config.cluster.members)):
                    nursery.start_soon(self._dial_forever, index)
                await nursery.start(trio.serve_listeners, self._accept, listeners)
                self._work.set()
                task_status.started()
        except BaseException as error:
            clean = _wanted(error)
            raise
        finally:
            self._sync_thread.stop()
            self._poller.close()
            self._close(clean=clean)

    def _close(self, *, clean: bool) -> None:
        try:
            if clean:
                self.node.close(instant())
                self._engine.sync()
        except StorageError:
            clean = False
            raise
        finally:  # a broken engine complains again; why it broke is on its way up
            with nullcontext() if clean else suppress(StorageError):
                self._engine.close()

    # --- the loop ----------------------------------------------------------------------------

    async def _pump(self) -> None:
        while True:
            await self._work.wait()
            if self._failure is not None:
                raise self._failure
            self.turn()

    def _land(self) -> None:
        """A sync has ended: what waited for it leaves at once. Called by Trio itself, which could
        not bear an exception."""
        try:
            self.turn()
        except StorageError as error:
            self._failure = error
            self._work.set()

    def turn(self) -> None:
        """One step of the node, and what follows from it."""
        now = instant()
        node = self.node
        while self._synced:
            barrier, error = self._synced.pop(0)
            if error is not None:
                raise error
            self._sync_thread.busy = False
            node.durable(barrier, now)
        newest = node.step(now)
        if node.relink:
            node.relink = False
            for link in self._peer_links.values():
                link.scope.cancel()
        for outbox in list(node.ready):
            if outbox in self._locals:
                self._locals[outbox]()
            if outbox not in self._links:
                continue
            if outbox.overflowed:  # what did not fit is lost: so is the link, for all to see
                self._links[outbox].scope.cancel()
            self._links[outbox].send_nowait(outbox)
        node.ready.clear()
        if node.operations.count:
            self._busy.set()
        if newest is not None:  # after the sends: peers need not wait for this thread to hand over
            self._sync(newest, now)
        if node.state != self._state:
            self._tell_state()
        if node.linked and not self._linked.is_set():
            self._linked.set()

    def _tell_state(self) -> None:
        """The store's state has changed. That something was lost, and is there again, is a warning."""
        level = logging.WARNING if "forgetful" in (self._state, self.node.state) else logging.INFO
        reason = f": {self.node.reason}" if self.node.reason else ""
        log.log(level, "%s: the store is %s%s", self.node.name, self.node.state, reason)
        self._state = self.node.state

    def _sync(self, newest: int, now: Instant) -> None:
        """Give the sync thread its order: with durability `interval` once a second, or when something
        waits for it all the same; otherwise whenever there is something to sync. Memory has nothing
        to wait for."""
        durability = self.config.durability
        if durability == "memory":
            self._engine.sync()
            self.node.durable(newest, now)
            self._work.set()
        elif not self._sync_thread.busy and (
            durability == "sync" or now.monotonic >= self._sync_due_s or self.node.group_commit.urgent
        ):
            self._sync_due_s = now.monotonic + INTERVAL_S
            self._sync_thread.start(newest)

    async def _ticker(self) -> None:
        """Ticks; and while requests are under way their alarms, which come closer together."""
        tick_due_s = 0.0
        while True:
            if not self.node.operations.count:
                with trio.move_on_after(TICK_S):
                    await self._busy.wait()
            await trio.sleep(ALARM_S)
            now = instant()
            if now.monotonic < tick_due_s:
                if self.node.operations.tick(now):
                    self._work.set()
                continue
            tick_due_s = now.monotonic + TICK_S
            self.node.tick(now)
            self._work.set()
            stalled = trio.current_time() - STALL_S_MAX
            for link in self._links.values():
                if link.sending_since is not None and link.sending_since < stalled:
                    log.warning(
                        "%s: a connection took no frame within %s s; closed", self.node.name, STALL_S_MAX
                    )
                    link.scope.cancel()

    async def wait_linked(self) -> None:
        """Until every member has counted for levels once, as this node sees it."""
        await self._linked.wait()

    def wake(self) -> None:
        """The node was given something: let it take a step."""
        self._work.set()

    def open_local(self, deliver: Callable[[], None]) -> Outbox:
        """A client in this process; `deliver` is called when its outbox holds answers."""
        outbox = self.node.open_client(math.inf)  # it is emptied in every turn
        self._locals[outbox] = deliver
        return outbox

    def close_local(self, outbox: Outbox) -> None:
        """That client is gone."""
        del self._locals[outbox]
        outbox.close()

    # --- connections -------------------------------------------------------------------------

    @contextmanager
    def _registered(self, outbox: Outbox, link: Link) -> Iterator[None]:
        self._links[outbox] = link
        self._work.set()
        try:
            yield
        finally:
            del self._links[outbox]

    async def _accept(self, stream: trio.SocketStream) -> None:
        link = Link(stream)
        self._accepted += 1
        try:
            if self._accepted > CONNECTIONS_MAX:
                log.warning("%s: %d connections are open; one was refused", self.node.name, CONNECTIONS_MAX)
                return
            with link.scope:
                with trio.fail_after(HANDSHAKE_S_MAX):
                    sender = await admit(link, self.config.cluster, self.node.name, self._may_dial)
                if sender:
                    await self._serve_peer(link, self.config.cluster.member_index(sender))
                else:
                    await self._serve_client(link)
        except (ProtocolError, ConnectionError, trio.TooSlowError) as error:
            level = logging.WARNING if isinstance(error, PeerRefused) else logging.INFO
            self._complain(level, f"a connection was closed: {error or 'it was too slow to say hello'}")
        finally:
            self._accepted -= 1
            link.close()

    def _complain(self, level: int, text: str) -> None:
        """Log it, but not the same over and over: who was refused will try again."""
        now = trio.current_time()
        if now < self._complaints.get(text, 0.0):
            return
        if len(self._complaints) >= COMPLAINTS_MAX:
            self._complaints.clear()
        self._complaints[text] = now + COMPLAINT_S
        log.log(level, "%s: %s", self.node.name, text)

    def _member(self, index: int) -> Member:
        return self.config.cluster.members[index]

    def _may_dial(self, name: str) -> bool:
        names = [member.name for member in self.config.cluster.members]
        return name in names[: self.node.me]

    async def _dial_forever(self, index: int) -> None:
        member = self._member(index)
        backoff_s = BACKOFF_S_MIN
        while True:
            try:
                link = await dial(member.address)
                try:
                    with link.scope:
                        with trio.fail_after(HANDSHAKE_S_MAX):
                            await introduce(link, self.config.cluster, self.node.name, member.name)
                        backoff_s = BACKOFF_S_MIN
                        await self._serve_peer(link, index)
                finally:
                    link.close()
            except (OSError, ProtocolError, trio.TooSlowError) as error:
                if isinstance(error, ProtocolError):
                    self._complain(logging.WARNING, str(error))
            await trio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)

    async def _serve_peer(self, link: Link, index: int) -> None:
        """A link to a peer, until it breaks."""
        outbox = self.node.link(index, instant())
        if index in self._peer_links:  # the peer has begun anew, and may not have been able to say so
            self._peer_links[index].scope.cancel()
        self._peer_links[index] = link

        def hear(messages: list[Message]) -> list[Message]:
            self._check(self.node.receive(index, outbox, messages, instant()))
            return []

        try:
            with self._registered(outbox, link):
                await link.run(outbox, self._poller, hear, self.wake, FRAME_BYTES_MAX)
        except (ConnectionError, ProtocolError) as error:
            log.info("%s: the link to %s broke: %s", self.node.name, self._member(index).name, error)
        finally:
            if self._peer_links.get(index) is link:
                del self._peer_links[index]
            self.node.unlink(index, outbox, instant())
            self._work.set()

    async def _serve_client(self, link: Link) -> None:
        """A client's connection. While it does not take its answers, it is not read from; and only
        so many of its requests are under way at once as their answers, going by the latest ones,
        will fit into the backlog."""
        outbox = self.node.open_client()
        asked = 0

        def hear(messages: list[Message]) -> list[Message]:
            nonlocal asked
            room = link.room(BACKLOG_BYTES_MAX) - (asked - link.messages_sent)
            if room <= 0 or outbox.bytes > BACKLOG_BYTES_MAX:
                return messages
            self._check(self.node.receive_client(outbox, messages[:room], instant()))
            asked += min(room, len(messages))
            return messages[room:]

        try:
            with self._registered(outbox, link):
                await link.run(outbox, self._poller, hear, self.wake, CLIENT_FRAME_BYTES_MAX)
        except (ConnectionError, ProtocolError) as error:
            log.log(
                logging.INFO if isinstance(error, ProtocolError) else logging.DEBUG,
                "%s: a client was disconnected: %s", self.node.name, error,
            )  # fmt: skip
        finally:
            outbox.close()

    @staticmethod
    def _check(unexpected: Message | None) -> None:
        if unexpected is not None:
            raise ProtocolError(f"a {type(unexpected).__name__} message is not for this kind of connection")
