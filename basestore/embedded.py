"""Embedded: nodes inside a Trio program, with the same calls as a remote store.

    async with basestore.open_cluster("data") as cluster:
        await cluster.set("greeting", "hello")

An embedded node speaks to its peers over TCP like any other; only its own program's requests stay inside the
process: they are handed to the node, and their answers taken from its outbox, as messages, never encoded.
Nodes run on Trio only. This module owns no node: a `Service` does, for the length of a block.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic

import trio

from basestore.client.arguments import Consistency
from basestore.client.calls import GRACE_S, PENDING_MAX, Asking, fitted, overfull
from basestore.client.channel import Batch, Channel, hear, overdue
from basestore.client.connection import room_in
from basestore.client.network_channel import channel_to
from basestore.client.store import Store
from basestore.config import Durability, NodeConfig
from basestore.config_file import load
from basestore.errors import InvalidRequest, LeftCluster, StorageError
from basestore.protocol.envelopes import unsealed
from basestore.protocol.handshake import Meant, Names, Renewed, rows_of_buckets, rules_of
from basestore.results.answers import late, lost
from basestore.results.moves import added
from basestore.server.clock import instant
from basestore.server.local_cluster import (
    HOST,
    config_of_member,
    free_ports,
    prepare_cluster,
    write_config,
)
from basestore.server.service import Service
from basestore.transport.owner import Owner, opening
from basestore.transport.window import WAIT_SHARE, Window

LINK_S_MAX = 30.0
SWEEP_S = 0.25
THIS_NODE = "this node"


class _LocalChannel:
    """Requests to the node in this process, without a socket."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._asked: dict[int, Batch] = {}
        self._next_id = 0
        self._outbox = service.connections.open_local(self._deliver)
        cluster = service.config.cluster
        self.members = Names(cluster.names.items(), cluster.id)
        self.cluster = cluster.id
        self.rules = rules_of(rows_of_buckets(service.node.context.buckets.rows()))
        self.timeout_s_max = cluster.timeout_ms_max / 1e3
        self._closed = False
        self._owner = Owner()
        self._window = Window()

    async def addresses(self, deadline: float) -> Mapping[str, str]:
        await self.ready(deadline)
        address = self._service.connections.address
        return {name: address(number) for number, name in self.members.items()}

    def elsewhere(self, member: Meant, timeout_s: float) -> AbstractAsyncContextManager[Channel]:
        return channel_to([member.address], timeout_s, meant=member)

    def _deliver(self) -> None:
        while self._outbox.messages:
            hear(self._outbox.take(), self._asked, self._window, THIS_NODE, monotonic(), self._renew)
        self._window.let_in(len(self._asked))

    def _renew(self, said: Renewed) -> None:
        names = ((member.number, member.name) for member in said.members)
        self.members, self.rules = Names(names, self.cluster), rules_of(said.buckets)

    async def ready(self, deadline: float) -> None:
        """Always, in the Trio program that the node is part of."""
        self._owner.check()
        if self._closed:
            raise InvalidRequest("this store is closed: its block has ended, or `aclose` was called")

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        await self.ready(deadline)
        batch = Batch(self._next_id + 1, asking)
        self._next_id = batch.last
        if not batch.untold:
            return batch
        sent, window = monotonic(), self._window
        if len(self._asked) + window.granted + window.held + batch.untold > PENDING_MAX:
            raise overfull()
        if window.takes(len(self._asked), batch.measure()) or batch.urgent:
            window.size += batch.size
        else:
            waits_s = min(deadline - sent, WAIT_SHARE * asking.timeout_s)
            if not await room_in(
                window, self._asked, batch, trio.Event(), waits_s, THIS_NODE, lambda: self._closed
            ):
                await self.ready(deadline)  # which says that it is closed
            sent = monotonic()
        answered_all = trio.Event()
        try:
            batch.requests, deadline = fitted(
                batch.requests, asking.timeout_s, self.timeout_s_max, deadline, sent
            )
            batch.rules = self.rules
            batch.enter(self._asked, sent, deadline + GRACE_S, answered_all)
            self._service.node.intake.offer(self._outbox, unsealed(batch.requests), instant())
            self._service.wake()
            await answered_all.wait()
        finally:
            window.size -= batch.size
            batch.leave(self._asked)
            window.let_in(len(self._asked))
        return batch

    async def sweep(self) -> None:
        """Fail the requests whose answer is overdue, until cancelled."""
        while True:
            await trio.sleep(SWEEP_S)
            for number, batch in overdue(self._asked, monotonic()):
                batch.fail(number, late("the node", batch.request(number)))

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for number, batch in overdue(self._asked, math.inf):
            batch.fail(number, lost("the store was closed", batch.request(number)))
        self._service.connections.close_local(self._outbox)


class EmbeddedNode(Store):
    """A node of this process, and a store that sends every request to it."""

    def __init__(
        self, service: Service, channel: _LocalChannel, consistency: Consistency, timeout: float | None
    ) -> None:
        super().__init__(channel, consistency, timeout)
        self._service = service
        self.name = service.config.name
        self.endpoint = service.config.member.address

    async def wait_linked(self) -> None:
        """Until every member of the cluster has counted for levels, as this node sees it. LeftCluster where
        it is told that it has left."""
        await self._service.wait_linked()


class EmbeddedCluster(EmbeddedNode):
    """All nodes of a small cluster in this process. Its own calls go to the first; should that be drained,
    ask another of its `nodes`."""

    nodes: Sequence[EmbeddedNode] = ()
    _begin: Callable[[NodeConfig], Awaitable[EmbeddedNode]]
    _directory: Path

    async def join(self, name: str | None = None, *, zone: str = "", weight: int = 1) -> EmbeddedNode:
        """A node more, on a free port, in the cluster's directory: it runs until the cluster's block ends.

            node = await cluster.join()
            print(node.name, (await cluster.moves()).done)

        It is returned once it listens. From then on it answers, and is given its share of the partitions by
        itself: its standing in `topology` becomes "member", and `moves` says how far that has come; until
        then it holds nothing. `await cluster.drain(node.name)` takes it back: it gives up all that it holds,
        and leaves; it runs on, and says so to whoever asks it.

        name    by default n4, or whichever is free
        zone    where it is; weight  how much it is to hold, beside others
        Errors as of `change_members` (nothing is written then), and of `open_node`: then it is a member, and
        is run with the others once the directory is opened again.
        """
        told = await self.topology("consistent")
        names = {member.name for member in told.members}
        count = len(told.members) + 1
        chosen = name or next(each for at in range(count, 2 * count + 1) if (each := f"n{at}") not in names)
        member = added(chosen, f"{HOST}:{free_ports(1)[0]}", zone=zone, weight=weight)
        await self.change_members(member)
        cluster = self._service.config.cluster
        config = config_of_member(
            await self.topology("consistent"), cluster.key, chosen, self._directory,
            self._service.config.durability,
        )  # fmt: skip
        write_config(self._directory, config)
        node = await self._begin(config)
        self.nodes = [*self.nodes, node]
        return node

    @property
    def endpoints(self) -> list[str]:
        """For clients in other processes."""
        return [node.endpoint for node in self.nodes]


@asynccontextmanager
async def _run(service: Service) -> AsyncIterator[_LocalChannel]:
    """A service at work for the length of a block; what its start or the block raises comes out unwrapped."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(service.run)
            channel = _LocalChannel(service)
            nursery.start_soon(channel.sweep)
            try:
                yield channel
                await service.leave()
            finally:
                channel.close()
        except Exception as error:  # noqa: BLE001 - carried past the nursery, which would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise _unwrapped(failure)


def _unwrapped(failure: BaseException) -> BaseException:
    """The one error that there is in groups of one."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure


@opening
@asynccontextmanager
async def open_node(
    config: NodeConfig | Path | str,
    *,
    consistency: Consistency = "quorum",
    timeout: float | None = None,
    clock_is_right: bool = False,
) -> AsyncIterator[EmbeddedNode]:
    """Run a node inside this Trio program, for the length of an `async with` block.

    config   a NodeConfig, or the path of its TOML file
    timeout  seconds, for calls that say nothing else
    clock_is_right  as `basestore serve --clock-is-right`
    Raises ConfigurationError and StorageError when the node cannot start, and StorageError out of
    the block (in an ExceptionGroup) when its store fails later.
    """
    _check_trio()
    config = config if isinstance(config, NodeConfig) else load(config)
    service = Service(replace(config, clock_is_right=clock_is_right))
    async with _run(service) as channel:
        yield EmbeddedNode(service, channel, consistency, timeout)


@opening
@asynccontextmanager
async def open_cluster(
    directory: Path | str,
    nodes: int = 3,
    *,
    durability: Durability = "sync",
    consistency: Consistency = "quorum",
    timeout: float | None = None,
    clock_is_right: bool = False,
    as_is: bool = False,
) -> AsyncIterator[EmbeddedCluster]:
    """Run a whole cluster inside this Trio program, on loopback ports, and wait until it is linked. Nodes
    that have joined since the directory was made are run too; such as have left are not.

    directory  of the configurations and stores; made if need be, carried on with if it exists
    timeout    seconds, for calls that say nothing else
    clock_is_right  as `basestore serve --clock-is-right`, of every node
    as_is      as `basestore repair --as-is`: of a directory that was copied, or restored, as a whole
    Raises ConfigurationError, StorageError, LeftCluster where one of them was removed while it was down (move
    its file and directory away), and trio.TooSlowError when the nodes are not linked within 30 s.
    """
    _check_trio()
    configs = prepare_cluster(Path(directory), nodes, None, durability)
    async with AsyncExitStack() as stack:
        ways = list[tuple[Service, _LocalChannel]]()
        for config in configs:  # each is closed by the stack from when it is open: the next may fail to
            try:
                service = Service(replace(config, clock_is_right=clock_is_right))
            except LeftCluster:
                if config is configs[-1] and not ways:
                    raise
                continue
            ways.append((service, await stack.enter_async_context(_run(service))))
        _take_as_is([service for service, _ in ways], Path(directory), as_is)
        members = [EmbeddedNode(*way, consistency, timeout) for way in ways]
        with trio.fail_after(LINK_S_MAX):
            for member in members:
                await member.wait_linked()
        cluster = EmbeddedCluster(*ways[0], consistency, timeout)
        cluster.nodes, cluster._directory = members, Path(directory)
        async with _joining(cluster, consistency, timeout):
            yield cluster


@asynccontextmanager
async def _joining(
    cluster: EmbeddedCluster, consistency: Consistency, timeout: float | None
) -> AsyncIterator[None]:
    """Nodes that join run for the length of this block."""
    ended = trio.Event()

    async def run(
        config: NodeConfig, task_status: trio.TaskStatus[EmbeddedNode] = trio.TASK_STATUS_IGNORED
    ) -> None:
        service = Service(config)
        async with _run(service) as channel:
            task_status.started(EmbeddedNode(service, channel, consistency, timeout))
            await ended.wait()

    async with trio.open_nursery() as nursery:
        cluster._begin = partial(nursery.start, run)
        try:
            yield
        finally:
            ended.set()


def _take_as_is(services: list[Service], directory: Path, as_is: bool) -> None:
    """StorageError where all stores wait for that word, and nobody says it."""
    if as_is:
        for service in services:
            if service.node.identity.takeable:  # what has only not been confirmed yet will be
                service.node.recovery.take_as_is(instant())
                service.wake()
    elif all(service.node.identity.copied for service in services):
        raise StorageError(
            f"the stores in {directory} do not lie where they were written, so they may be old copies. If "
            f"nothing newer is left, open them with as_is=True"
        )


def _check_trio() -> None:
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError("nodes run on Trio only: call this under trio.run; clients may use asyncio")
