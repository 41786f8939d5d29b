"""A timeout is a promise about the call: every public call, of every client, ends by its deadline, whatever
has become of the node, and however many others wait for the same.

Covers `client/network_channel.py`, `connection.py`, `blocking_channel.py`, `blocking_connection.py`,
`transport/dialling.py` and `blocking_operator.py`.
"""

import inspect
import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest

import basestore.sync
from basestore import InvalidRequest, ReadTimeout, RequestFailed, Unreachable, WriteTimeout
from basestore.client.store import Store, StoreSession
from basestore.errors import BasestoreError
from basestore.protocol.client import Get, Got, Set
from basestore.protocol.codec import Message
from basestore.protocol.handshake import MemberRow
from basestore.protocol.operator import Fact, NodeStatus
from basestore.results.moves import rebalanced
from basestore.sync import SyncSession, SyncStore
from basestore.transport.dialling import CONNECT_S_MAX
from tests.worlds.fakes import WELCOME, fake
from tests.worlds.flavours import FLAVOURS, run
from tests.worlds.patience import PATIENCE_S

TIMEOUT_S = 0.5
ENDED_S_MAX = 10.0  # a machine that is busy takes long; fifty calls one after the other would take 25 s

Call = Callable[[Any], Awaitable[Any]]


async def scanned(store: Any) -> list[Any]:
    return [item async for item in store.scan()]


async def in_session(store: Any) -> Any:
    async with store.session() as session:
        return await session.get("k")


async def in_transaction(store: Any) -> Any:
    async with store.transaction() as transaction:
        return await transaction.get("k")


async def in_batch(store: Any) -> None:
    async with store.batch(atomic=True) as batch:
        batch.set("k", "v")


async def under_lease(store: Any) -> int:
    async with store.lease("l", wait=0.0) as lease:
        token: int = lease.token
        return token


# Every public call. A new one stands here, or in LOCAL if it asks no node.
CALLS: dict[str, Call] = {
    "set": lambda store: store.set("k", "v"),
    "set_many": lambda store: store.set_many([("k", "v"), ("l", "w")]),
    "increment": lambda store: store.increment("k"),
    "delete": lambda store: store.delete("k"),
    "delete_many": lambda store: store.delete_many(["k", "l"]),
    "get": lambda store: store.get("k"),
    "get_many": lambda store: store.get_many([f"{n}" for n in range(2000)]),
    "scan": scanned,
    "explain": lambda store: store.explain("k"),
    "converged": lambda store: store.converged(timeout=TIMEOUT_S),
    "repair": lambda store: store.repair(timeout=TIMEOUT_S),
    "accept_loss": lambda store: store.accept_loss(timeout=TIMEOUT_S),
    "exists": lambda store: store.exists("k"),
    "ping": lambda store: store.ping(),
    "status": lambda store: store.status(),
    "node_hints": lambda store: store.node_hints(),
    "node_counters": lambda store: store.node_counters(),
    "node_status": lambda store: store.node_status(),
    "finish_upgrade": lambda store: store.finish_upgrade(),
    "topology": lambda store: store.topology(),
    "topology_history": lambda store: store.topology_history(),
    "create_bucket": lambda store: store.create_bucket("carts"),
    "drop_bucket": lambda store: store.drop_bucket("carts"),
    "buckets": lambda store: store.buckets(),
    "settings": lambda store: store.settings(),
    "set_setting": lambda store: store.set_setting("k", "v"),
    "unset_setting": lambda store: store.unset_setting("k"),
    "moves": lambda store: store.moves(),
    "plan": lambda store: store.plan(rebalanced()),
    "change_members": lambda store: store.change_members(rebalanced()),
    "add_member": lambda store: store.add_member("n4", "127.0.0.1:7403"),
    "drain": lambda store: store.drain("n1"),
    "remove_dead": lambda store: store.remove_dead("n1"),
    "replace": lambda store: store.replace("n1", "n2"),
    "rebalance": lambda store: store.rebalance(),
    "cancel_moves": lambda store: store.cancel_moves(),
    "set_replication": lambda store: store.set_replication(2),
    "locks": lambda store: store.locks(),
    "transaction": in_transaction,
    "batch": in_batch,
    "lease": under_lease,
    "session": in_session,
}
SYNC_CALLS: dict[str, Call] = {
    "hints": lambda store: store.hints(),
    "cluster_id": lambda store: store.cluster_id(),
    "take_as_is": lambda store: store.take_as_is("n1"),
    "missing": lambda store: store.missing({}, timeout=TIMEOUT_S),
}
LOCAL = {
    "close",
    "aclose",
    "token",
    "merge",
    "retrying",
    "retries",
    "watch",
}  # which lasts (test_watching.py)


def public(*kinds: type) -> set[str]:
    return {name for kind in kinds for name in dir(kind) if not name.startswith("_")}


def test_the_table_has_every_public_call() -> None:
    assert public(Store, StoreSession) - LOCAL == CALLS.keys()
    assert public(SyncStore, SyncSession) - LOCAL == CALLS.keys() | SYNC_CALLS.keys()


@pytest.mark.parametrize("kind", [Store, SyncStore])
def test_every_call_takes_a_timeout_of_its_own(kind: type) -> None:
    calls = {name: inspect.signature(getattr(kind, name)).parameters for name in public(kind) - LOCAL}
    assert [name for name, parameters in calls.items() if "timeout" not in parameters] == ["session"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_an_operator_asks_ends_by_its_own_timeout(flavour: str) -> None:
    names: tuple[str, ...] = ("ping", "status", "node_status", "node_hints", "node_counters")
    names += ("hints", "cluster_id") if flavour == "sync" else ()

    async def body(store: Any) -> None:
        assert (await store.get("k")).value == b"v"
        node.fall("silent")
        for name in names:
            began = time.monotonic()
            with pytest.raises((Unreachable, ReadTimeout)):
                await getattr(store, name)(timeout=TIMEOUT_S)
            assert time.monotonic() - began < ENDED_S_MAX, name

    with fake(WELCOME._replace(timeout_ms_max=60_000), answer=found) as node:
        run(flavour, node.endpoint, body, timeout=60.0)


def calls_of(flavour: str) -> dict[str, Call]:
    return CALLS | SYNC_CALLS if flavour == "sync" else CALLS


class Ends:
    """When calls ended, and how."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.told: list[tuple[str, float, Any]] = []

    async def call(self, name: str, call: Call) -> None:
        began = time.monotonic()
        try:
            outcome = await call(self._store)
        except BasestoreError as error:
            outcome = error
        self.told.append((name, time.monotonic() - began, outcome))


def without_loop(call: Coroutine[Any, Any, None]) -> None:
    """What blocks waits for nothing else; a loop for each of 1,500 threads keeps the machine busy."""
    with pytest.raises(StopIteration):
        call.send(None)


async def all_at_once(flavour: str, ends: Ends, calls: dict[str, Call], callers: int) -> None:
    """Each call, so many times, at once: in threads, or in tasks."""
    each = [item for item in calls.items() for _ in range(callers)]
    if flavour == "sync":
        threads = [threading.Thread(target=without_loop, args=(ends.call(*item),)) for item in each]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    else:
        async with anyio.create_task_group() as tasks:
            for name, call in each:
                tasks.start_soon(ends.call, name, call)


def failures(outcome: Any) -> list[BasestoreError]:
    outcomes = outcome if isinstance(outcome, list) else [outcome]
    return [each for each in outcomes if isinstance(each, BasestoreError)]


@pytest.mark.parametrize("callers", [1, 50])
@pytest.mark.parametrize("fault", ["refused", "silent", "black hole", "stopped"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_call_ends_by_its_deadline(flavour: str, fault: str, callers: int) -> None:
    calls = calls_of(flavour)

    async def body(store: Any) -> None:
        assert (await store.get("k", timeout=5)).value == b"v"  # it is connected
        node.fall(fault)
        ends = Ends(store)
        await all_at_once(flavour, ends, calls, callers)
        assert len(ends.told) == len(calls) * callers
        for name, took_s, outcome in ends.told:
            assert took_s < ENDED_S_MAX, name
            assert failures(outcome) or not isinstance(outcome, BasestoreError), (name, outcome)
            assert all(isinstance(each, Unreachable | RequestFailed) for each in failures(outcome)), outcome
        assert {name for name, _, outcome in ends.told if failures(outcome)} >= {
            "set",
            "get",
            "get_many",
            "scan",
        }

    with fake(answer=found) as node:
        run(flavour, node.endpoint, body, timeout=TIMEOUT_S)


def found(request: Message) -> Message | None:
    """A node that answers reads of one key, and nothing else."""
    return Got(request.id, True, b"v", bytes(24), 0, 1, 1, False, 0) if isinstance(request, Get) else None


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestConnecting:
    def test_a_dozen_silent_endpoints_take_no_longer_than_one(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            await store.get("k")

        with fake(None) as silent:
            port = silent.endpoint.split(":")[1]
            endpoints = [f"127.0.0.{n}:{port}" for n in range(1, 13)]
            began = time.monotonic()
            with pytest.raises(Unreachable, match=r"127\.0\.0\.12:\d+: ") as unreachable:
                run(flavour, endpoints, body, timeout=TIMEOUT_S)
            assert time.monotonic() - began < ENDED_S_MAX
            assert ": )" not in str(unreachable.value)  # it says why of each
            assert "Nothing was sent" in str(unreachable.value)

    @pytest.mark.parametrize("fault", ["refused", "silent", "black hole"])
    def test_a_good_endpoint_behind_a_bad_one_is_found_in_time(self, flavour: str, fault: str) -> None:
        async def body(store: Any) -> None:
            assert (await store.get("k")).value == b"v"

        with fake(answer=found) as bad, fake(answer=found) as good:
            bad.fall(fault)
            run(flavour, [*[bad.endpoint] * 8, good.endpoint], body, timeout=2.0)

    def test_the_endpoint_that_answered_last_is_tried_first(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            for _ in range(3):
                assert (await store.get("k")).value == b"v"
                good.drop()
                await anyio.sleep(0.05)
            assert good.accepted == 3
            # A machine that is slow gives the other one a turn too, behind it.
            tried = sorted([*((at, 1) for at in good.accepted_s), *((at, -1) for at in silent.accepted_s)])
            assert min(itertools.accumulate(which for _, which in tried[1:])) > 0

        with fake(None) as silent, fake(answer=found) as good:
            run(flavour, [silent.endpoint, good.endpoint], body)

    def test_a_node_that_fell_silent_is_tried_last(self, flavour: str, unhurried: None) -> None:
        async def body(store: Any) -> None:
            assert (await store.get("k")).value == b"v"
            first.fall("stopped")
            with pytest.raises(ReadTimeout):
                await store.get("k", timeout=0.1)
            assert (await store.get("k")).value == b"v"
            assert (first.accepted, second.accepted) == (1, 1)

        patient = WELCOME._replace(timeout_ms_max=30_000)
        with fake(patient, answer=found) as first, fake(patient, answer=found) as second:
            run(flavour, [first.endpoint, second.endpoint], body, timeout=30.0)

    def test_calls_that_wait_for_a_connection_share_one_attempt(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            assert (await store.get("k", timeout=5)).value == b"v"
            node.fall("silent")
            ends = Ends(store)
            await all_at_once(flavour, ends, {"get": CALLS["get"]}, 50)
            assert {type(outcome) for _, _, outcome in ends.told} == {Unreachable}
            assert node.accepted == 2

        with fake(answer=found) as node:
            run(flavour, node.endpoint, body, timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("refused", "connection refused. Nothing listens there: see how its process ended (its log has"),
        ("silent", "it takes connections, but says nothing in time. Its process is there"),
        ("stopped", "it takes connections, but says nothing in time. Its process is there"),
        ("black hole", "no connection in time. Its machine is down, or the network"),
    ],
)
@pytest.mark.parametrize("timeout", [TIMEOUT_S, CONNECT_S_MAX + 1.0], ids=["short", "long"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_member_that_does_not_answer_is_told_by_what_was_seen_of_it(
    flavour: str, timeout: float, fault: str, seen: str
) -> None:
    async def body(store: Any) -> None:
        (state,) = await store.status()
        assert state.state == "down"
        assert state.facts["reason"].startswith(f"does not answer: {seen}")
        assert ("serve" in state.facts["reason"]) is (
            fault == "refused"
        )  # else a second one would be started

    with fake(answer=found) as member:
        member.fall(fault)
        with fake(WELCOME._replace(members=[MemberRow(0, "n1", member.endpoint)])) as node:
            run(flavour, node.endpoint, body, timeout=timeout)


def test_an_address_of_a_name_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a network that has IPv6 in name only. The asynchronous clients leave this to anyio."""
    with fake(answer=found) as bad, fake(answer=found) as good:
        bad.fall("black hole")
        ports = [int(node.endpoint.split(":")[1]) for node in (bad, good)]
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(addresses))
        with basestore.sync.connect("two.example:1", timeout=2.0) as store:
            assert store.get("k").value == b"v"


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestTold:
    """What a node is told of the time that is left, and what a caller is told when it is over."""

    def test_a_late_answer_is_a_timeout_of_its_kind_that_names_the_write(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            with pytest.raises(ReadTimeout, match="changes nothing") as read:
                await store.explain("k")
            assert not read.value.definite
            with pytest.raises(WriteTimeout, match="repeat it as") as write:
                await store.set("k", "v")
            assert str(write.value.identity) in str(write.value)
            with pytest.raises(WriteTimeout, match="read to find out"):
                await store.delete("k")
            with pytest.raises(WriteTimeout, match=r"repeat it as [0-9a-f]{16}$"):
                await store.increment("k")  # which a read does not tell

        # Each call connects anew, for the node falls silent: the time is for that too, on a busy machine.
        with fake() as node:
            run(flavour, node.endpoint, body, timeout=0.5)

    def test_the_node_is_told_what_connecting_has_left(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            assert (await store.get("k", timeout=5)).value == b"v"
            bad.fall("silent")
            await anyio.sleep(0.05)
            with pytest.raises(ReadTimeout):
                await store.get("k", timeout=1.0)
            assert good.heard.get(timeout=PATIENCE_S).timeout_ms < 990

        with fake(answer=found) as bad, fake() as good:
            run(flavour, [bad.endpoint, good.endpoint], body)

    def test_a_cluster_that_takes_less_time_gets_less_unless_the_caller_said_so(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            for call in (store.get("k"), store.get("k", timeout=2.0)):
                await call
            results = await store.get_many(["k", "k"])
            assert [result.value for result in results] == [b"v", b"v"]
            with pytest.raises(InvalidRequest, match=r"at most 2 s \(timeout_ms_max\)"):
                await store.get("k", timeout=2.001)
            assert all(isinstance(each, InvalidRequest) for each in await store.get_many(["k"], timeout=3))
            asked = [node.heard.get_nowait().timeout_ms for _ in range(4)]
            assert 1900 < min(asked) <= max(asked) <= 2000
            assert node.heard.empty()

        with fake(WELCOME._replace(timeout_ms_max=2000), answer=found) as node:
            run(flavour, node.endpoint, body)

    def test_members_that_take_less_time_are_asked_for_less(self, flavour: str) -> None:
        """What is left of the store's own timeout is nobody's wish."""

        def told(request: Message) -> Message:
            return NodeStatus(request.id, [Fact("node", "n1"), Fact("state", "up")])  # type: ignore[attr-defined]

        async def body(store: Any) -> None:
            assert [state.state for state in await store.status()] == ["up"]

        shorter = WELCOME._replace(timeout_ms_max=2000)
        with fake(shorter, answer=told) as member:
            rows = [MemberRow(0, "n1", member.endpoint)]
            with fake(shorter._replace(members=rows), answer=told) as node:
                run(flavour, node.endpoint, body)


def test_a_slow_call_of_one_thread_holds_up_no_other() -> None:
    with fake(answer=found) as node, basestore.sync.connect(node.endpoint, timeout=5) as store:
        outcomes: list[BaseException] = []

        def slow() -> None:
            try:
                store.set("k", "v")  # which the node never answers
            except BasestoreError as error:
                outcomes.append(error)

        thread = threading.Thread(target=slow)
        thread.start()
        assert isinstance(node.heard.get(timeout=PATIENCE_S), Set)
        for _ in range(3):
            assert store.get("k").value == b"v"
        with pytest.raises(WriteTimeout):
            store.delete("k", timeout=0.1)  # the node is silent; what the other waits for may come yet
        assert store.get("k").value == b"v"
        assert thread.is_alive()
        store.close()
        thread.join(PATIENCE_S)
        assert [type(error) for error in outcomes] == [basestore.ConnectionLost]
