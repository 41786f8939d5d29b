"""Service: a Node at work, on Trio: sockets, clocks, a store, and threads that sync it and look at its disk.

This is the reactor pattern (Schmidt 1995): one loop hears all sockets and calls the node, which never waits.
A message's way, and the file that each part of it is in:

    bytes -> poller     whatever can be read, of all sockets, in one turn
          -> link       bytes to frames; those of nodes to messages, those of clients stay sealed
          -> connections   from whom: `node.receive` or `node.intake.offer`
          -> node       `turn` below: one `node.step` for all that came in; the intake opens frames in it
          -> connections   `send`: what the step left in outboxes
          -> link       one frame for each, to the socket

There is no task for a request: a hundred requests that arrive together cost one step, one batch to the store
and one frame for each peer. What the node is given outside of the poller's turn, the end of a sync included,
rings for the next one; and when a tick or an alarm is due, the poller takes a turn by itself. The other tasks
of a service: one accepts; one for each peer dials it, or asks why it does not come; and one serves the pages
of metrics (`pages.py`), if the configuration names a port for them.

What was stored is not yet durable. A turn ends with an order to the sync thread; when a sync has ended, the
next turn tells the node (`node.durable`), and only that releases the acknowledgements that waited for it.

It refuses to go on with a store that has failed: after an error nobody knows what is on the disk. It then
stops, and nothing has been acknowledged that is not durable.
"""

import logging
import os
import secrets
from contextlib import nullcontext, suppress
from functools import partial

import trio

from basestore.config import NodeConfig, parse_address
from basestore.errors import ConfigurationError, LeftCluster, StorageError
from basestore.instant import Instant
from basestore.intake.brownout import left_out_at
from basestore.node import Node
from basestore.observe.rest import TICK_S
from basestore.protocol.handshake import Versions
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.replica.identity import Fresh
from basestore.server.clock import instant
from basestore.server.connections import Connections
from basestore.server.disk_threads import LOOK_S, RESTING_LOOK_S, DiskWatch, SyncThread
from basestore.server.listening import serve_connections, why_not
from basestore.server.place import NOWHERE, held_in, note_held, taken
from basestore.server.poller import Poller
from basestore.storage.open import open_engine
from basestore.storage.rocks_full import room_at, shown

log = logging.getLogger("basestore")


def _wanted(error: BaseException) -> bool:
    """Whether a service that ends so was asked to; after another error a step may be half done."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_wanted, error.exceptions))
    return isinstance(error, trio.Cancelled | KeyboardInterrupt | ConfigurationError)


def _holds(error: BaseException | None, sought: BaseException) -> bool:
    """Whether an error is that one, or a group with it."""
    if isinstance(error, BaseExceptionGroup):
        return any(_holds(each, sought) for each in error.exceptions)
    return error is sought


class Service:
    """A node at work. Make it, then `run` it; it runs until cancelled, or until its store fails."""

    def __init__(self, config: NodeConfig) -> None:
        """Open the store; StorageError or ConfigurationError says what is wrong with it."""
        self.config = config
        self._engine = open_engine(config)
        try:
            self.node = self._open_node()
        except BaseException:  # whatever it is: the store must not stay locked
            self._close(clean=False)
            raise
        self._early_s = 0.0  # from when on a turn ticks
        self._poller = Poller()
        self.connections = Connections(config, self.node, self._poller, self._poller.ring)
        self._synced: list[tuple[int, StorageError | None]] = []
        self._linked = trio.Event()
        self._sync_failure: StorageError | None = None
        self._state = ""
        self._disk_down = False
        self._brownout = 0
        self._disk_watch: DiskWatch | None = None

    def _open_node(self) -> Node:
        """Open the store in the order that the node prescribes: what its opening has found out is durable
        before anything is heard."""
        labels = {"pid": str(os.getpid()), "endpoint": self.config.member.address}
        labels["wire"] = str(Versions(WIRE_LOWEST, self.config.wire_highest))
        if self.config.wire_highest < WIRE_HIGHEST:
            labels["release wire"] = str(Versions(WIRE_LOWEST, WIRE_HIGHEST))
        if self.config.listen:
            labels["listen"] = self.config.listen
        if self.config.file:
            labels["config"] = self.config.file
        store, generation, incarnation = secrets.token_bytes(16), secrets.token_bytes(8), secrets.randbits(48)
        place = taken(self.config.directory, generation) if self._engine.persistent else nullcontext(NOWHERE)
        with place as (found, own):
            held = held_in(self.config.directory) if self._engine.persistent else 0
            fresh = Fresh(store, generation, incarnation, found, own, held)
            node = Node(self.config, self._engine, fresh, instant(), labels)
            if self._engine.persistent:
                self._measure_disk(node)
            barrier = node.step(instant())
            if barrier is None:
                raise StorageError(
                    f"the store in {self.config.directory} takes no writes: {node.group_commit.trouble}. See "
                    f"to that, and start the node again"
                )
            self._engine.sync()
            # Only now: the step that has drawn its conclusions from the loss is durable.
            self._engine.accept_loss()
            self._note_held(node)
        for text in node.let_go:
            log.info("%s: %s", node.name, text)
        node.durable(barrier, instant())
        return node

    def _measure_disk(self, node: Node) -> None:
        """Before anything is stored."""
        from basestore.storage.rocks import own_bytes

        room = room_at(self.config.directory)
        node.disk_space.tell(*room)
        reserve, needed = node.disk_space.reserve, own_bytes(room.size)
        if reserve < needed:
            log.warning(
                "%s: of its disk %s are kept in reserve (disk_reserve_bytes), and what the store has taken "
                "may need %s more for a while: the disk may be full before it is told. Reserve more",
                node.name, shown(reserve), shown(needed),
            )  # fmt: skip

    def _note_held(self, node: Node) -> None:
        """All that the node has stored is durable."""
        if self._engine.persistent:
            note_held(self.config.directory, node.group_commit.sequence)

    def _close(self, *, clean: bool) -> None:
        try:
            if clean:
                self.node.close(instant())
                self._engine.sync()
                self._note_held(self.node)
        except StorageError:
            clean = False
            raise
        finally:  # a broken engine complains again; why it broke is on its way up
            with nullcontext() if clean else suppress(StorageError):
                self._engine.close()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve. Started once the port is open. StorageError when the store fails: the node has
        then stopped, and nothing was acknowledged that is not durable."""

        def done(barrier: int, error: StorageError | None) -> None:
            self._sync_failure = error
            self._synced.append((barrier, error))
            self._poller.ring()

        self._sync_thread = SyncThread(self._engine, done)
        clean, listeners, ended = True, [], None
        try:
            listeners = await self._listen()
            async with trio.open_nursery() as nursery:
                if self.config.metrics:
                    from basestore.server.pages import serve_node

                    await nursery.start(serve_node, self.node, self.config.metrics)
                nursery.start_soon(self._poller.run, self.turn)
                if self._engine.persistent:
                    durable, note = self.node.group_commit.sequence, partial(note_held, self.config.directory)
                    self._disk_watch = DiskWatch(self.config.directory, durable, note)
                nursery.start_soon(self.connections.look_for_members)
                connections = self.connections
                await nursery.start(serve_connections, listeners, connections.accept, connections.exhausted)
                self.wake()
                task_status.started()
        except BaseException as error:
            ended = error
            clean = bool(listeners) and _wanted(error)
            raise
        finally:
            for listener in listeners:  # nobody may have come to serve them
                listener.socket.close()
            self._stop_threads()
            self._poller.close()
            if clean and self._sync_failure is not None:  # the sync under way: no turn has met it
                self._close(clean=False)
                raise self._sync_failure
            self._tell_failed_sync(ended)
            self._close(clean=clean)

    def _stop_threads(self) -> None:
        """Before the engine is closed: the sync thread may be inside of it."""
        self._sync_thread.stop()
        if self._disk_watch is not None:
            self._disk_watch.stop()

    def _tell_failed_sync(self, ended: BaseException | None) -> None:
        """Name the sync that has failed, if it is not what has ended this. A write beside it may have found
        only that the store is broken, and nobody knows which of the two was first."""
        failed = self._sync_failure
        if failed is not None and not _holds(ended, failed):
            log.error("%s: the sync under way has failed: %s", self.node.name, failed)

    async def _listen(self) -> list[trio.SocketListener]:
        address = self.config.listens_on
        host, port = parse_address(address)
        try:
            return await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise ConfigurationError(
                f"{self.config.name} cannot listen on {address}: {why_not(error)}; or change its address, or "
                f"name another one to listen on, as `listen` under [node]"
            ) from error

    async def leave(self) -> None:
        """Before `run` is cancelled: say goodbye, and answer what is under way. Takes a second or two at
        most."""
        await self.connections.say_goodbye()

    async def wait_linked(self) -> None:
        """Until every member has counted for levels once, as this node sees it. LeftCluster where it was told
        that it has left."""
        await self._linked.wait()
        if self.node.peers.left:
            raise LeftCluster(f"{self.node.name}: {self.node.reason}")

    # --- the loop ----------------------------------------------------------------------------

    def wake(self) -> None:
        """The node was given something outside of the poller's turn: let it take a step."""
        self._poller.ring()

    def turn(self) -> None:
        """One step of the node, and what follows from it."""
        now, node = instant(), self.node
        while self._synced:
            barrier, error = self._synced.pop(0)
            if error is not None:
                raise error
            self._sync_thread.busy = False
            node.durable(barrier, now)
        if now.monotonic >= self._early_s:
            self._tick(now)
        elif now.monotonic >= node.operations.alarm_due_s:
            node.operations.tick(now)
        # The barrier stands for what this step has stored. It is read before the sync starts: what later
        # steps store while the sync runs may or may not be covered by it, and waits for the next.
        newest = node.step(now)
        self.connections.send()
        if node.intake.ready or node.scheduler.unfinished:
            self.wake()
        if newest is not None:  # after the sends: peers need not wait for this thread to hand over
            self._sync(newest, now)
        self._plan_turn(newest)
        if node.state != self._state:
            self._tell_state()
        if (node.linked or node.peers.left) and not self._linked.is_set():
            self._linked.set()

    def _sync(self, newest: int, now: Instant) -> None:
        """See to it that everything up to `newest` becomes durable. Asked again after every step until it is.

        syncs        one begins
        never        what an engine in memory holds is as durable as it will ever be
        always       as soon as the one before has ended, if somebody waits for it; else soon
        interval     a second after the one before began; at once if somebody waits for it all the same
        """
        if self.config.syncs == "never":
            self.node.durable(newest, now)
            self.wake()
        elif not self._sync_thread.busy and self.node.sync_watch.begins(now):
            self._sync_thread.start(newest)

    def _tell_state(self) -> None:
        """The store's state has changed. That something was lost, and is there again, is a warning."""
        warned = not {"forgetful", "left"}.isdisjoint((self._state, self.node.state))
        level, reason = logging.WARNING if warned else logging.INFO, ""
        if self.node.reason:
            reason = f": {self.node.reason}"
        if self.node.state == "left":
            log.log(level, "%s%s", self.node.name, reason)
            self._state = self.node.state
            return
        log.log(level, "%s: the store is %s%s", self.node.name, self.node.state, reason)
        self._state = self.node.state

    def _tell_disk(self) -> None:
        """The disk has begun or ceased to keep up for long."""
        self._disk_down = self.node.group_commit.down
        if self._disk_down:
            trouble = self.node.group_commit.trouble
            how = "hangs" if self.node.group_commit.stuck_s else "has no room"
            log.warning("%s: the disk %s: %s; writes are refused meanwhile", self.node.name, how, trouble)
        else:
            log.warning("%s: the disk is there again", self.node.name)

    def _tell_brownout(self) -> None:
        """Its level has changed: at most once in five seconds (`intake/brownout.py`)."""
        level, rises = self.node.intake.brownout.level, self.node.intake.brownout.level > self._brownout
        self._brownout = level
        why = "more is asked of this node than it can do" if rises else "less is asked of it again"
        log.log(
            logging.WARNING if rises else logging.INFO,
            "%s: brownout %d: %s; it leaves out %s (basestore status)",
            self.node.name, level, why, ", ".join(left_out_at(level)) or "nothing",
        )  # fmt: skip

    def _plan_turn(self, newest: int | None) -> None:
        """When the next is due if nothing comes in. The tick of a node at rest is not due soon, but it is
        welcome in any turn shortly before. So nodes at rest fall into step with each other, and what an idle
        one has to do is done in few turns."""
        due_s, self._early_s = self.node.rest.next_tick()
        # What clients hold is bounded by a look at each tick, and so is how long a parting takes.
        if self._poller.partial or self.connections.goodbye is not None:
            due_s = self._early_s = min(due_s, self.node.rest.ticked_s + TICK_S)
        due_s = min(due_s, self.node.operations.alarm_due_s)
        if newest is not None and not self._sync_thread.busy:  # it waits for the end of an interval
            due_s = min(due_s, self.node.sync_watch.due_s)
        self._poller.wake_at(due_s)
        if self._disk_watch is not None:
            self._disk_watch.durable = self.node.group_commit.durable_sequence
            self._disk_watch.look_every(LOOK_S if self.node.rest.busy else RESTING_LOOK_S)

    def _tick(self, now: Instant) -> None:
        node, watch = self.node, self._disk_watch
        if watch is not None and watch.room is not None:
            node.disk_space.tell(*watch.room)
        node.tick(now)
        if node.group_commit.down != self._disk_down:
            self._tell_disk()
        if node.intake.brownout.level != self._brownout:
            self._tell_brownout()
        for line in node.report.group.look(now):
            log.log(logging.WARNING if line.warns else logging.INFO, "%s: %s", node.name, line.text)
        self._poller.partial = False
        self.connections.tick()
