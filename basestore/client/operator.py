"""Operator: what an operator asks of a cluster, on every asynchronous way to it; stores are built on this.

Surveys that go on until there is a result (`converged`, `repair`), questions to one node and to all of them.
Carries every call of a store; what calls there are for keys and values stands in `store.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import TypeVar

import anyio

from basestore.client.arguments import Consistency, patience, scope_of
from basestore.client.calls import LEFT_S_MIN, Call, Calls, StoreTimeout, survey_call
from basestore.client.channel import Channel
from basestore.errors import RequestFailed, Unreachable
from basestore.protocol.handshake import Meant
from basestore.results.cluster_view import Following
from basestore.results.convergence import CONVERGED_S, Convergence, Proving
from basestore.results.explanation import Explanation
from basestore.results.hints import NodeHints
from basestore.results.loss import ACCEPT_S, AcceptedLoss, Accepting
from basestore.results.nodes import NodeState, Upgrade, down
from basestore.results.receipts import Receipt
from basestore.results.repair import REPAIR_S, Repair, Repairing
from basestore.transport.endpoints import silence

T = TypeVar("T")


class Operator:
    """One way to a cluster. `consistency` and `timeout` hold for calls that say nothing else."""

    def __init__(
        self, channel: Channel, consistency: Consistency = "quorum", timeout: float | None = None
    ) -> None:
        self._channel = channel
        self._calls = Calls(consistency, timeout)

    async def _ask(self, call: Call[T]) -> T:
        """Carry a call."""
        batch = await self._channel.ask(call, monotonic() + call.timeout_s)
        return call.read(batch.answer(), self._channel.members)

    async def explain(
        self, key: bytes | str, *, bucket: str = "default", timeout: float | None = None
    ) -> Explanation:
        """Why a key has the value it has: what each replica holds, which record wins and by what, and
        the hints for it. Nothing is repaired, nothing changes."""
        return await self._ask(self._calls.explain(key, bucket, timeout))

    async def converged(
        self,
        *,
        timeout: float = CONVERGED_S,
        key: bytes | str | None = None,
        bucket: str = "default",
        receipt: Receipt | None = None,
    ) -> Convergence:
        """Wait until it is proven that all that was written before this call is on all replicas, for good:
        of all partitions, or of that of `key`. With a `receipt`: until that write is, or what beat it, which
        is a matter of its partition. The result is true if it is proven. Otherwise, after `timeout` seconds,
        or at once where no waiting helps, its `obstacles` say what stands in the way."""
        return await self._follow(Proving(scope_of(bucket, key), receipt, patience(timeout), monotonic()))

    async def repair(
        self,
        *,
        timeout: float = REPAIR_S,
        partition: int | None = None,
        full: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Repair:
        """Let all replicas compare what they hold, all partitions or one, now. `full`: each holds its disk
        against its sums first, and then all of it is compared. `progress` is told pairs of replicas that
        are done, and all of them. The result is true if all have been compared; otherwise, after `timeout`
        seconds, its `obstacles` say what stands in the way."""
        scope = scope_of("default", None, partition)
        return await self._follow(Repairing(scope, full, patience(timeout), monotonic()), progress)

    async def accept_loss(self, *, timeout: float = ACCEPT_S, partition: int | None = None) -> AcceptedLoss:
        """Accept that writes may be lost (`basestore status` says which), of all partitions or one: proofs
        then speak again, of what is left, and rows that are damaged at all their replicas can be written
        again. Nothing is lost by it that is not lost already. The result is true once no loss is open."""
        scope = scope_of("default", None, partition)
        return await self._follow(Accepting(scope, patience(timeout), monotonic()))

    async def _follow(self, survey: Following[T], progress: Callable[[int, int], None] | None = None) -> T:
        """Ask until there is a result. A node that goes meanwhile is no reason to stop."""
        while (result := survey.result(monotonic())) is None:
            try:
                await self._ask(survey_call(survey, monotonic()))
            except (RequestFailed, Unreachable) as error:
                survey.miss(error)
            if progress is not None:
                progress(*survey.progress)
            await anyio.sleep(min(survey.pause_s, survey.left_s(monotonic())))
        return result

    async def node_hints(
        self, *, replay: bool = False, late: bool = False, timeout: float | None = None
    ) -> NodeHints:
        """The hints that the node this store talks to keeps. `replay`: and their delivery begins now,
        whatever refusals there were. `late`: and those that come too late are written anew, unless what a
        quorum holds beats them."""
        return await self._ask(self._calls.hints(replay, late, timeout))

    async def node_counters(self, *, timeout: float | None = None) -> NodeState:
        """`node_status` with further facts: all that the node has counted, by the names of `metrics`."""
        return await self._ask(self._calls.counters(timeout))

    async def node_status(self, *, take_as_is: bool = False, timeout: float | None = None) -> NodeState:
        """What the node that this store talks to says of itself; its data may first be taken as they are."""
        return await self._ask(self._calls.status(timeout, take_as_is))

    async def finish_upgrade(self, *, timeout: float | None = None) -> Upgrade:
        """Say that all members are upgraded, for good: the cluster's feature level rises to what they speak,
        and none may speak an older version again. Otherwise the result is false, and says who is behind."""
        return await self._ask(self._calls.finish_upgrade(timeout))

    async def ping(self, *, timeout: float | None = None) -> float:
        """Seconds until the node that this store talks to has answered. Unreachable, ReadTimeout."""
        began_s = monotonic()
        await self._ask(self._calls.status(timeout))
        return monotonic() - began_s

    async def status(self, *, timeout: float | None = None) -> list[NodeState]:
        """Every member of the cluster, in its order, all asked at once, each with the endpoint at which it
        was; those that do not answer there are `down`. Unreachable when none says who the members are."""
        deadline = monotonic() + self._calls.time(timeout)[0]
        await self._channel.ready(deadline)
        addresses, told = await self._channel.addresses(deadline), dict[str, NodeState]()
        cluster = self._channel.cluster

        async def ask(name: str, endpoint: str) -> None:
            try:
                # What is left is nobody's wish: a node that takes less is asked for less.
                timeout_s = StoreTimeout(max(LEFT_S_MIN, deadline - monotonic()))
                async with self._channel.elsewhere(Meant(cluster, name, endpoint), timeout_s) as channel:
                    state = await Operator(channel, self._calls.level, timeout_s).node_status()
                    told[name] = replace(state, endpoint=endpoint)
            except (Unreachable, RequestFailed) as error:
                told[name] = down(name, endpoint, silence(error))

        async with anyio.create_task_group() as tasks:
            for member in addresses.items():
                tasks.start_soon(ask, *member)
        return [told[name] for name in addresses]

    async def aclose(self) -> None:
        """End it before the block that it was opened by: no call can be made from now on, and those under way
        end without an answer. An embedded node goes on until its block ends."""
        await self._channel.aclose()
