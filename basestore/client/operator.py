"""Operator: what an operator asks of a cluster, on every asynchronous way to it; stores are built on this.

Surveys that go on until there is a result (`converged`, `repair`), questions to one node and to all of them.
Carries every call of a store; what calls there are for keys and values stands in `store.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import TypeVar

import anyio

from basestore.client.arguments import Consistency, patience, scope_of
from basestore.client.calls import LEFT_S_MIN, Call, Calls, StoreTimeout, survey_call
from basestore.client.channel import Channel
from basestore.client.coordination.lock_view import LockView
from basestore.client.many import scan
from basestore.config import BucketOptions
from basestore.consistency import Level
from basestore.errors import RequestFailed, Unreachable
from basestore.leases import LOCKS
from basestore.protocol.handshake import Meant
from basestore.repair.rule import Rule
from basestore.repair.version import Identity
from basestore.results.cluster_view import Following
from basestore.results.convergence import CONVERGED_S, Convergence, Proving
from basestore.results.explanation import Explanation
from basestore.results.hints import NodeHints
from basestore.results.loss import ACCEPT_S, AcceptedLoss, Accepting
from basestore.results.moves import (
    ClusterMoves,
    Counting,
    MemberChange,
    Plan,
    added,
    cancelled,
    drained,
    plan_of,
    rebalanced,
    removed,
    replaced,
    replicated,
)
from basestore.results.nodes import NodeState, Upgrade, down
from basestore.results.receipts import Receipt
from basestore.results.repair import REPAIR_S, Repair, Repairing
from basestore.results.topology import (
    ClusterBucket,
    ClusterTopology,
    Decided,
    History,
    create_bucket,
    drop_bucket,
    set_setting,
    unset_setting,
)
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

    async def locks(
        self, prefix: bytes | str = b"", *, limit: int = 1000, timeout: float | None = None
    ) -> list[LockView]:
        """The locks whose names begin so, in their order, with who holds them."""
        cursor = scan(self._calls, prefix, LOCKS, Level.SERIAL, timeout, limit, b"")
        views: list[LockView] = []
        while not cursor.ended:
            found = [LockView.of(item.key, item) for item in await self._ask(cursor.page())]
            views += [view for view in found if view is not None]
        return views

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

    async def topology(self, mode: str = "default", *, timeout: float | None = None) -> ClusterTopology:
        """What the cluster is: its members, who holds its partitions, its buckets and settings. `mode`:

        default     as it was decided when it was read, unless the rates of two clocks differ by more than a
                    third (the leader of the metadata group answers by its lease)
        consistent  as it was decided when it was read; a round of messages among the voters more
        stale       as the node that is asked knows it, which may be old: `heard_ms` says how long ago it
                    heard of the leader; it needs no majority, and never goes back on one node

        NoLeader where a majority of the voters is needed and there is none; ReadTimeout. (Read modes as in
        Consul; the lease as in Ongaro, "Consensus: bridging theory and practice", 2014, section 6.4.1.)"""
        return await self._ask(self._calls.topology(mode, timeout))

    async def topology_history(
        self, after: int | None = None, *, limit: int = 100, timeout: float | None = None
    ) -> History:
        """At most `limit` entries (1 to 1000) of the cluster's log, what was asked for and what became of it:
        those that follow the entry `after`, or the last ones; as the node that is asked knows it, which may
        be old. Nobody else is needed. ReadTimeout."""
        return await self._ask(self._calls.topology_history(after, limit, timeout))

    async def create_bucket(
        self,
        name: str,
        *,
        rule: Rule | str = Rule.LAST_WRITE_WINS,
        agreed: bool = False,
        degrade_s: int = 0,
        defer: bool = False,
        requests_per_s: int = 0,
        key_requests_per_s: int = 0,
        repeat: Identity | str | None = None,
        timeout: float | None = None,
    ) -> Decided:
        """Create a bucket, with its rule, which it keeps for life, and how nodes serve it whose own files say
        nothing of it: `degrade_s` in seconds, the others requests a second at each node; 0: not at all, or
        without a limit. It is there from the epoch on that is returned. `repeat`: the identity that an error
        named, to ask for the same change again; it happens once.

        rule     "last-write-wins", "first-write-wins", or "register": each write is agreed on by more than
                 half of the replicas, and may depend on what the key holds
        agreed   with "first-write-wins": each write is agreed on so, and the first is final at once

        InvalidRequest: it is refused, as where there is one of this name. NoLeader: nothing was done, for no
        majority of the metadata group's voters is reached. ChangeUnknown: it may have been decided, or may
        be yet; repeat it, or read `topology_history`."""
        options = BucketOptions(degrade_s, defer, requests_per_s, key_requests_per_s)
        change = create_bucket(name, rule, options, agreed)
        return await self._ask(self._calls.change(change, repeat, timeout))

    async def drop_bucket(
        self, name: str, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """Drop a bucket, with all that it holds, on all nodes, for good. One that is created under its name
        later is another, and empty. `repeat` and errors as of `create_bucket`."""
        return await self._ask(self._calls.change(drop_bucket(name), repeat, timeout))

    async def buckets(
        self, mode: str = "default", *, timeout: float | None = None
    ) -> tuple[ClusterBucket, ...]:
        """All buckets, by number; `mode` and errors as of `topology`."""
        return (await self.topology(mode, timeout=timeout)).buckets

    async def settings(self, mode: str = "default", *, timeout: float | None = None) -> Mapping[str, str]:
        """The settings of the cluster, which are its users' own facts, by key; `mode` and errors as of
        `topology`. A setting is for what is small, rarely changed and read by everybody; what is large, or
        is written without a majority of the metadata group, is for a key of a bucket."""
        return (await self.topology(mode, timeout=timeout)).settings

    async def set_setting(
        self, key: str, value: str, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """Give a setting this value, both text: the key has at most 256 bytes, all settings together 64 KiB.
        `repeat` and errors as of `create_bucket`."""
        return await self._ask(self._calls.change(set_setting(key, value), repeat, timeout))

    async def unset_setting(
        self, key: str, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """Take a setting away. `repeat` and errors as of `create_bucket`; InvalidRequest if there is none."""
        return await self._ask(self._calls.change(unset_setting(key), repeat, timeout))

    async def moves(self, *, timeout: float | None = None) -> ClusterMoves:
        """How far the moves of partitions have come, by the leader's word; `done` once there are none."""
        return await self._ask(self._calls.moves(timeout))

    async def plan(self, change: MemberChange, *, timeout: float | None = None) -> Plan:
        """What would move if this change were made now, and about how much that is, by what nodes know of
        what they hold; nothing is done. InvalidRequest where it would be refused. Changes are made by the
        functions of `basestore.results.moves`."""
        deadline = monotonic() + self._calls.time(timeout)[0]
        plan = plan_of(await self._ask(self._calls.whole_topology(timeout)), change)
        if not plan.moves:
            return plan
        records = await self._follow(Counting.until(deadline, monotonic()))
        left_s = StoreTimeout(max(LEFT_S_MIN, deadline - monotonic()))
        return plan.weighed(records, await self.status(timeout=left_s))

    async def change_members(
        self, change: MemberChange, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """Make this change of who holds what. It is decided by the epoch that is returned; what follows goes
        on by itself, while everything is served: `moves` says how far it has come. `repeat` and errors as of
        `create_bucket`."""
        deadline = monotonic() + self._calls.time(timeout)[0]
        entry = change.entry(await self._ask(self._calls.whole_topology(timeout)))
        left_s = StoreTimeout(max(LEFT_S_MIN, deadline - monotonic()))
        return await self._ask(self._calls.change(entry, repeat, left_s))

    async def add_member(
        self, name: str, address: str, *, zone: str = "", weight: int = 1, timeout: float | None = None
    ) -> Decided:
        """Add a member of this name, to be reached at this address (host:port), whose number is in what is
        returned. It is given its share, by its weight, once it is there: start it with a file that names all
        members (`basestore join` does both). As `change_members`."""
        return await self.change_members(added(name, address, zone=zone, weight=weight), timeout=timeout)

    async def drain(self, name: str, *, timeout: float | None = None) -> Decided:
        """Have a member give up all that it holds to others, and leave. That goes on by itself while it is
        up; its standing in `topology` becomes "left" once it is done: then stop it. `cancel_moves` takes it
        back before that. InvalidRequest where too few would be left. As `change_members`."""
        return await self.change_members(drained(name), timeout=timeout)

    async def remove_dead(self, name: str, *, timeout: float | None = None) -> Decided:
        """Say that a member is dead for good: others are given what it held, and what only it had is lost
        (`converged` names that). InvalidRequest while it answers. As `change_members`."""
        return await self.change_members(removed(name), timeout=timeout)

    async def replace(
        self, name: str, by: str, *, dead: bool = False, timeout: float | None = None
    ) -> Decided:
        """Have a member `by`, which holds none of its partitions, take exactly the place of another, which
        then leaves; `dead`: as `remove_dead` has it. As `change_members`."""
        return await self.change_members(replaced(name, by, dead=dead), timeout=timeout)

    async def rebalance(self, *, timeout: float | None = None) -> Decided:
        """Have it planned anew who holds what, so that each member has its share, and as few replicas move as
        can be. As `change_members`."""
        return await self.change_members(rebalanced(), timeout=timeout)

    async def cancel_moves(self, *partitions: int, timeout: float | None = None) -> Decided:
        """Leave these partitions with those that hold them now, or all; then nobody is drained any more. As
        `change_members`."""
        return await self.change_members(cancelled(partitions), timeout=timeout)

    async def set_replication(self, replicas: int, *, timeout: float | None = None) -> Decided:
        """Have each partition held by so many members. As `change_members`."""
        return await self.change_members(replicated(replicas), timeout=timeout)

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
