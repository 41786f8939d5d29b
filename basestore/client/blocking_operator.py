"""Blocking operator: what an operator asks of a cluster, as `operator.py`, without an event loop.

Beside the calls there it asks every member for its hints, and what is lost of some writes. Members are asked
at once, each over a connection of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Thread
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar

from basestore.client.arguments import (
    Consistency,
    check_endpoints,
    patience,
    scope_of,
)
from basestore.client.blocking_channel import AnyChannel, BlockingChannel
from basestore.client.calls import LEFT_S_MIN, Call, Calls, StoreTimeout, survey_call
from basestore.client.coordination.lock_view import LockView
from basestore.client.many import scan
from basestore.config import BucketOptions
from basestore.consistency import Level
from basestore.errors import InvalidRequest, RequestFailed, Unreachable
from basestore.leases import LOCKS
from basestore.protocol.handshake import Meant
from basestore.repair.rule import Rule
from basestore.repair.version import Identity
from basestore.results.cluster_view import Following, Obstacle
from basestore.results.convergence import CONVERGED_S, Convergence, Proving
from basestore.results.explanation import Explanation
from basestore.results.hints import NodeHints
from basestore.results.loss import ACCEPT_S, MISSING_S, AcceptedLoss, Accepting, Missing
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
from basestore.results.receipts import Receipt, Writes
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

A = TypeVar("A")
T = TypeVar("T")


class BlockingOperator:
    """One way to a cluster, as `Operator`."""

    def __init__(self, channel: AnyChannel, consistency: Consistency, timeout: float | None) -> None:
        self._channel = channel
        self._calls = Calls(consistency, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The store is not used afterwards."""
        self._channel.close()

    def _ask(self, call: Call[T]) -> T:
        """Carry a call."""
        batch = self._channel.ask(call, monotonic() + call.timeout_s)
        return call.read(batch.answer(), self._channel.members)

    def cluster_id(self, *, timeout: float | None = None) -> str:
        """Which cluster this is, in hexadecimal digits; Unreachable."""
        return self._channel.welcome(monotonic() + self._calls.time(timeout)[0]).cluster.hex()

    def locks(
        self, prefix: bytes | str = b"", *, limit: int = 1000, timeout: float | None = None
    ) -> list[LockView]:
        """The locks whose names begin so, in their order, with who holds them."""
        cursor = scan(self._calls, prefix, LOCKS, Level.SERIAL, timeout, limit, b"")
        views: list[LockView] = []
        while not cursor.ended:
            found = [LockView.of(item.key, item) for item in self._ask(cursor.page())]
            views += [view for view in found if view is not None]
        return views

    def explain(
        self, key: bytes | str, *, bucket: str = "default", timeout: float | None = None
    ) -> Explanation:
        """Why a key has the value it has, as `Store.explain`."""
        return self._ask(self._calls.explain(key, bucket, timeout))

    def converged(
        self,
        *,
        timeout: float = CONVERGED_S,
        key: bytes | str | None = None,
        bucket: str = "default",
        receipt: Receipt | None = None,
    ) -> Convergence:
        """Wait until it is proven that all that was written before this call is on all replicas, for good;
        true if it is. `Store.converged` says of what."""
        return self._follow(Proving(scope_of(bucket, key), receipt, patience(timeout), monotonic()))

    def repair(
        self,
        *,
        timeout: float = REPAIR_S,
        partition: int | None = None,
        full: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Repair:
        """Let all replicas compare what they hold, now; `Store.repair` says how."""
        scope = scope_of("default", None, partition)
        return self._follow(Repairing(scope, full, patience(timeout), monotonic()), progress)

    def accept_loss(self, *, timeout: float = ACCEPT_S, partition: int | None = None) -> AcceptedLoss:
        """Accept that writes may be lost; `Store.accept_loss` says which."""
        return self._follow(Accepting(scope_of("default", None, partition), patience(timeout), monotonic()))

    def missing(
        self, written: Mapping[int, Writes] | Writes, *, timeout: float = MISSING_S
    ) -> tuple[Obstacle, ...]:
        """Why some of these writes, by partition or of all, may be gone with a disk; empty where nobody knows
        that they are. Unreachable, ReadTimeout."""
        return self._follow(Missing(written, patience(timeout), monotonic()))

    def _follow(self, survey: Following[T], progress: Callable[[int, int], None] | None = None) -> T:
        """Ask until there is a result. A node that goes meanwhile is no reason to stop."""
        while (result := survey.result(monotonic())) is None:
            try:
                self._ask(survey_call(survey, monotonic()))
            except (RequestFailed, Unreachable) as error:
                survey.miss(error)
            if progress is not None:
                progress(*survey.progress)
            sleep(min(survey.pause_s, survey.left_s(monotonic())))
        return result

    def node_hints(
        self, *, replay: bool = False, late: bool = False, timeout: float | None = None
    ) -> NodeHints:
        """The hints that the node this store talks to keeps. `replay` and `late` as in `Store.node_hints`."""
        return self._ask(self._calls.hints(replay, late, timeout))

    def hints(
        self,
        *,
        replay: bool = False,
        late: bool = False,
        node: str | None = None,
        timeout: float | None = None,
    ) -> list[NodeHints]:
        """The hints of every member of the cluster, or of the one called `node`, as `node_hints`; those
        that do not answer say why. InvalidRequest when no member is called so."""
        return self._each(
            lambda there: there.node_hints(replay=replay, late=late),
            lambda name, _, why: NodeHints(name, None, (), why),
            timeout,
            node,
        )

    def node_counters(self, *, timeout: float | None = None) -> NodeState:
        """`node_status` with further facts: all that the node has counted, by the names of `metrics`."""
        return self._ask(self._calls.counters(timeout))

    def node_status(self, *, take_as_is: bool = False, timeout: float | None = None) -> NodeState:
        """What the node that this store talks to says of itself; its data may first be taken as they are."""
        return self._ask(self._calls.status(timeout, take_as_is))

    def finish_upgrade(self, *, timeout: float | None = None) -> Upgrade:
        """Say that all members are upgraded, for good, as `Store.finish_upgrade`."""
        return self._ask(self._calls.finish_upgrade(timeout))

    def topology(self, mode: str = "default", *, timeout: float | None = None) -> ClusterTopology:
        """As `Store.topology`."""
        return self._ask(self._calls.topology(mode, timeout))

    def topology_history(
        self, after: int | None = None, *, limit: int = 100, timeout: float | None = None
    ) -> History:
        """As `Store.topology_history`."""
        return self._ask(self._calls.topology_history(after, limit, timeout))

    def create_bucket(
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
        """As `Store.create_bucket`."""
        options = BucketOptions(degrade_s, defer, requests_per_s, key_requests_per_s)
        change = create_bucket(name, rule, options, agreed)
        return self._ask(self._calls.change(change, repeat, timeout))

    def drop_bucket(
        self, name: str, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """As `Store.drop_bucket`."""
        return self._ask(self._calls.change(drop_bucket(name), repeat, timeout))

    def buckets(self, mode: str = "default", *, timeout: float | None = None) -> tuple[ClusterBucket, ...]:
        """As `Store.buckets`."""
        return self.topology(mode, timeout=timeout).buckets

    def settings(self, mode: str = "default", *, timeout: float | None = None) -> Mapping[str, str]:
        """As `Store.settings`."""
        return self.topology(mode, timeout=timeout).settings

    def set_setting(
        self, key: str, value: str, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """As `Store.set_setting`."""
        return self._ask(self._calls.change(set_setting(key, value), repeat, timeout))

    def unset_setting(
        self, key: str, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """As `Store.unset_setting`."""
        return self._ask(self._calls.change(unset_setting(key), repeat, timeout))

    def moves(self, *, timeout: float | None = None) -> ClusterMoves:
        """As `Store.moves`."""
        return self._ask(self._calls.moves(timeout))

    def plan(self, change: MemberChange, *, timeout: float | None = None) -> Plan:
        """As `Store.plan`."""
        deadline = monotonic() + self._calls.time(timeout)[0]
        plan = plan_of(self._ask(self._calls.whole_topology(timeout)), change)
        if not plan.moves:
            return plan
        records = self._follow(Counting.until(deadline, monotonic()))
        left_s = StoreTimeout(max(LEFT_S_MIN, deadline - monotonic()))
        return plan.weighed(records, self.status(timeout=left_s))

    def change_members(
        self, change: MemberChange, *, repeat: Identity | str | None = None, timeout: float | None = None
    ) -> Decided:
        """As `Store.change_members`."""
        deadline = monotonic() + self._calls.time(timeout)[0]
        entry = change.entry(self._ask(self._calls.whole_topology(timeout)))
        left_s = StoreTimeout(max(LEFT_S_MIN, deadline - monotonic()))
        return self._ask(self._calls.change(entry, repeat, left_s))

    def add_member(
        self, name: str, address: str, *, zone: str = "", weight: int = 1, timeout: float | None = None
    ) -> Decided:
        """As `Store.add_member`."""
        return self.change_members(added(name, address, zone=zone, weight=weight), timeout=timeout)

    def drain(self, name: str, *, timeout: float | None = None) -> Decided:
        """As `Store.drain`."""
        return self.change_members(drained(name), timeout=timeout)

    def remove_dead(self, name: str, *, timeout: float | None = None) -> Decided:
        """As `Store.remove_dead`."""
        return self.change_members(removed(name), timeout=timeout)

    def replace(self, name: str, by: str, *, dead: bool = False, timeout: float | None = None) -> Decided:
        """As `Store.replace`."""
        return self.change_members(replaced(name, by, dead=dead), timeout=timeout)

    def rebalance(self, *, timeout: float | None = None) -> Decided:
        """As `Store.rebalance`."""
        return self.change_members(rebalanced(), timeout=timeout)

    def cancel_moves(self, *partitions: int, timeout: float | None = None) -> Decided:
        """As `Store.cancel_moves`."""
        return self.change_members(cancelled(partitions), timeout=timeout)

    def set_replication(self, replicas: int, *, timeout: float | None = None) -> Decided:
        """As `Store.set_replication`."""
        return self.change_members(replicated(replicas), timeout=timeout)

    def ping(self, *, timeout: float | None = None) -> float:
        """Seconds until the node that this store talks to has answered. Unreachable, ReadTimeout."""
        began_s = monotonic()
        self._ask(self._calls.status(timeout))
        return monotonic() - began_s

    def status(self, *, timeout: float | None = None) -> list[NodeState]:
        """Every member of the cluster, in its order, each with the endpoint at which it was asked; those that
        do not answer there are `down`."""
        return self._each(BlockingOperator.node_status, down, timeout)

    def take_as_is(self, node: str, *, timeout: float | None = None) -> NodeState:
        """What the member of this name says of itself after its data have been taken as they are; `down` if
        it does not answer. InvalidRequest when no member is called so."""
        (state,) = self._each(lambda there: there.node_status(take_as_is=True), down, timeout, node)
        return state

    def _each(
        self,
        ask: Callable[["BlockingOperator"], T],
        silent: Callable[[str, str, str], T],
        timeout: float | None,
        only: str | None = None,
    ) -> list[T]:
        """What each member answers, or only the one of this name, all asked at once; of one that does not,
        what `silent` makes of its name, its endpoint and the reason. Unreachable when none says who the
        members are."""
        deadline = monotonic() + self._calls.time(timeout)[0]
        addresses, cluster = self._channel.addresses(deadline), self._channel.members.cluster
        if only is not None and only not in addresses:
            raise InvalidRequest(f"no node is called {only!r}; this cluster has {', '.join(addresses)}")

        def ask_one(name: str) -> T:
            meant = Meant(cluster, name, addresses[name])
            try:
                # What is left is nobody's wish: a node that takes less is asked for less.
                timeout_s = StoreTimeout(max(LEFT_S_MIN, deadline - monotonic()))
                channel = BlockingChannel(check_endpoints(meant.address), meant=meant)
                with BlockingOperator(channel, self._calls.level, timeout_s) as there:
                    told = ask(there)
                return replace(told, endpoint=meant.address) if isinstance(told, NodeState) else told
            except (Unreachable, RequestFailed) as error:
                return silent(name, meant.address, silence(error))

        return _at_once(ask_one, [name for name in addresses if only in (None, name)])


def _at_once(ask: Callable[[A], T], each: Sequence[A]) -> list[T]:
    """What each of them answers, in their order. Raises the first error among what they raise."""
    answers: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def ask_one(place: int) -> None:
        try:
            answers[place] = ask(each[place])
        except BaseException as error:
            errors[place] = error
            raise

    # Of no concern to a program that ends meanwhile.
    threads = [Thread(target=ask_one, args=(place,), daemon=True) for place in range(len(each))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in sorted(errors):
        raise errors[place]
    return [answers[place] for place in range(len(each))]
