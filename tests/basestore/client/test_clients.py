"""Clients against a cluster on loopback, and against servers that misbehave.

Every test runs on Trio, on asyncio and with the blocking client.

Covers `client/network_channel.py`, `connection.py`, `blocking_channel.py`, `store.py`, `blocking_store.py`
and `calls.py`.
"""

import socket
import time
from collections.abc import Awaitable, Iterator
from typing import Any

import anyio
import pytest

import basestore
import basestore.sync
from basestore import (
    ConnectionLost,
    InvalidRequest,
    Level,
    Outcome,
    Overloaded,
    ReadTimeout,
    Unavailable,
    Unreachable,
)
from basestore.client.arguments import check_endpoints
from basestore.client.calls import GRACE_S, PENDING_MAX
from basestore.protocol.client import Get, Page
from basestore.protocol.envelopes import seal
from basestore.protocol.limits import KEY_BYTES_MAX, VALUE_BYTES_MAX
from basestore.protocol.operator import Status
from basestore.repair.version import VERSION_BYTES
from basestore.transport.frames import pack
from tests.worlds.fakes import REFUSED, Cluster, FakeNode, cluster, fake
from tests.worlds.flavours import ASYNC, FLAVOURS, run
from tests.worlds.patience import PATIENCE_S


def under_way(store: Any) -> dict[int, Any]:
    """What an asynchronous client waits for."""
    # private: what a client still waits for concerns nobody, unless it leaks
    asked: dict[int, Any] = store._channel.connection.asked
    return asked


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestCalls:
    def test_set_get_delete(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            key = f"single {flavour}"
            missing = await store.get(key)
            assert (missing.found, missing.value, missing.version) == (False, None, None)
            receipt = await store.set(key, "hello", consistency="all")
            assert receipt.outcome is Outcome.STORED
            assert receipt.level is Level.ALL
            assert set(receipt.replicas) == {"n1", "n2", "n3"}
            result = await store.get(key, consistency=Level.ONE)
            assert (result.found, result.value, result.version) == (True, b"hello", receipt.version)
            deleted = await store.delete(key)
            assert deleted.outcome is Outcome.STORED
            assert not (await store.get(key)).found

        run(flavour, running.endpoints, body)

    def test_many_at_once_each_for_itself_and_in_order(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            items = [(f"{flavour} {n}", f"{n}") for n in range(700)]
            items[3] = ("", "no key")
            receipts = await store.set_many(items)
            assert isinstance(receipts[3], InvalidRequest)
            assert all(r.outcome is Outcome.STORED for n, r in enumerate(receipts) if n != 3)
            results = await store.get_many([key for key, _ in items])
            assert isinstance(results[3], InvalidRequest)
            assert [r.value for n, r in enumerate(results) if n != 3] == [
                b"%d" % n for n in range(700) if n != 3
            ]
            assert await store.get_many([]) == []
            deleted = await store.delete_many([key for key, _ in items])
            assert isinstance(deleted[3], InvalidRequest)
            assert all(r.outcome is Outcome.STORED for n, r in enumerate(deleted) if n != 3)
            gone = await store.get_many([key for key, _ in items[:3]])
            assert [r.found for r in gone] == [False] * 3

        run(flavour, running.endpoints, body)

    def test_many_large_values(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            value = b"v" * VALUE_BYTES_MAX
            receipts = await store.set_many([(f"large {flavour} {n}", value) for n in range(12)])
            assert [receipt.outcome for receipt in receipts] == [Outcome.STORED] * 12
            results = await store.get_many([f"large {flavour} {n}" for n in range(12)])
            assert all(result.value == value for result in results)

        run(flavour, running.endpoints, body, timeout=10)

    def test_scans_go_on_over_pages_and_stop_at_the_limit(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            keys = [f"scan {flavour} {n:04}" for n in range(1200)]
            await store.set_many([(key, "v") for key in keys])
            found = [item.key.decode() async for item in store.scan(f"scan {flavour} ")]
            assert found == keys
            some = [item.key.decode() async for item in store.scan(f"scan {flavour} ", limit=600)]
            assert some == keys[:600]
            assert [item async for item in store.scan("scan", limit=0)] == []
            rest = [item.key.decode() async for item in store.scan(f"scan {flavour} ", after=keys[599])]
            assert rest == keys[600:]

        run(flavour, running.endpoints, body)

    def test_repeating_a_version_is_the_same_write(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            first = await store.set(f"again {flavour}", "v")
            again = await store.set(f"again {flavour}", "v", repeat=first.identity)
            text = await store.set(f"again {flavour}", "v", repeat=str(first.identity))
            assert again.identity == text.identity == first.identity
            for key, value, bucket in (
                (f"again {flavour}", "w", "default"),
                (f"else {flavour}", "v", "default"),
                (f"again {flavour}", "v", "once"),
            ):
                with pytest.raises(basestore.InvalidRequest, match="another key, bucket, value or ttl"):
                    await store.set(key, value, bucket=bucket, repeat=first.identity)
                assert (await store.get(key, bucket=bucket)).value != b"w"

        run(flavour, running.endpoints, body)

    def test_first_write_buckets(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            first = await store.set(f"name {flavour}", "mine", bucket="once")
            second = await store.set(f"name {flavour}", "yours", bucket="once")
            assert (first.outcome, first.final) == (Outcome.STORED, False)
            assert (second.outcome, second.superseded_by) == (Outcome.LOST, first.version)
            with pytest.raises(InvalidRequest, match="delete is refused"):
                await store.delete(f"name {flavour}", bucket="once")

        run(flavour, running.endpoints, body)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"key": ""}, "the key is empty"),
            ({"key": "k" * 65537}, "the key has 65537 bytes"),
            ({"key": 5}, "must be bytes or str, not int"),
            ({"key": "\udc80"}, "the key"),
            ({"value": "v" * (VALUE_BYTES_MAX + 1)}, "the value has"),
            ({"value": None}, "must be bytes or str, not NoneType"),
            ({"bucket": ""}, "a bucket's name"),
            ({"bucket": "b" * 65}, "a bucket's name"),
            ({"bucket": 7}, "a bucket's name"),
            ({"bucket": "\udc80"}, "the bucket's name cannot"),
            ({"bucket": "nowhere"}, "there is no bucket 'nowhere'"),
            ({"consistency": "most"}, "there is no level 'most'; use any, one, quorum, all"),
            ({"consistency": 2}, "there is no level 2"),
            ({"timeout": 0}, "must be a positive number of seconds"),
            ({"timeout": -1}, "must be a positive number of seconds"),
            ({"timeout": float("nan")}, "must be a positive number of seconds"),
            ({"timeout": float("inf")}, "must be a positive number of seconds"),
            ({"timeout": 601}, "at most 600 s are allowed"),
            ({"timeout": 10**400}, "timeout"),
            ({"timeout": "1"}, "must be a positive number of seconds"),
            ({"timeout": True}, "must be a positive number of seconds"),
            ({"ttl": 0}, "a ttl of 0; it must be above 0 and at most 3153600000 s"),
            ({"ttl": 1e15}, "a ttl of 1000000000000000.0; it must be above 0 and at most 3153600000 s"),
            ({"ttl": True}, "a ttl of True; it must be above 0"),
            ({"repeat": "1-2"}, "is no identity of a write"),
            ({"repeat": ""}, "is no identity of a write"),
            ({"repeat": basestore.Identity(b"8 bytes!", basestore.Version(-1, 0, 0))}, "malformed"),
            ({"repeat": basestore.Identity(b"short")}, "malformed"),
            ({"repeat": 7}, "not by int"),
            ({"repeat": basestore.Identity(bytes(8))}, "without an identity"),
            (
                {"repeat": basestore.Identity(b"8 bytes!", basestore.Version(1 << 63, 1, 1), bytes(8))},
                "lies in the future",
            ),
        ],
        ids=lambda value: f"{value!r:.40}",
    )
    def test_a_wrong_argument_is_an_invalid_request(
        self, running: Cluster, flavour: str, options: dict[str, Any], text: str
    ) -> None:
        async def body(store: Any) -> None:
            call: dict[str, Any] = {"key": "k", "value": "v"} | options
            with pytest.raises(InvalidRequest, match=text) as wrong:
                await store.set(**call)
            assert wrong.value.definite
            assert (await store.set("works", "still")).outcome is Outcome.STORED

        run(flavour, running.endpoints, body)

    def test_reads_at_any_are_refused_before_anything_is_sent(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            with pytest.raises(InvalidRequest, match="level any is for writes"):
                await store.get("k")
            with pytest.raises(InvalidRequest, match="level any is for writes"):
                [item async for item in store.scan()]
            assert (await store.set("k", "v")).level is Level.ANY

        run(flavour, running.endpoints, body, consistency="any")

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"limit": 1.5}, "whole number of keys"),
            ({"limit": True}, "whole number of keys"),
            ({"limit": -1}, "whole number of keys"),
            ({"limit": "3"}, "whole number of keys"),
            ({"after": 7}, "key to go on after"),
        ],
    )
    def test_a_scan_that_makes_no_sense_is_refused_before_anything_is_sent(
        self, flavour: str, options: dict[str, Any], text: str
    ) -> None:
        async def body(store: Any) -> None:
            async with store.session() as session:
                for each in (store, session):
                    with pytest.raises(InvalidRequest, match=text):
                        [item async for item in each.scan(**options)]

        with fake() as server:
            run(flavour, server.endpoint, body)
            assert server.heard.empty()

    def test_the_next_endpoint_is_tried_when_one_does_not_answer(
        self, running: Cluster, flavour: str
    ) -> None:
        async def body(store: Any) -> None:
            assert (await store.node_status()).node == "n2"

        with fake(REFUSED) as refusing:
            endpoints = [free_endpoint(), refusing.endpoint, running.endpoints[1]]
            run(flavour, endpoints, body)

    def test_the_state_of_a_node(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            state = await store.node_status()
            assert (state.node, state.state, state.endpoint) == ("n3", "up", running.endpoints[2])
            assert set(state.hints) == {"n1", "n2", "n3"}

        run(flavour, running.endpoints[2], body)


def free_endpoint() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestBrokenServers:
    def test_nobody_there_is_unreachable_with_every_reason(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            await store.get("k")

        endpoints = [free_endpoint(), free_endpoint()]
        with pytest.raises(Unreachable) as unreachable:
            run(flavour, endpoints, body)
        assert all(endpoint in str(unreachable.value) for endpoint in endpoints)
        assert unreachable.value.definite

    @pytest.mark.parametrize(
        ("greeting", "text"),
        [
            (REFUSED, "no more clients today"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "may not speak this protocol"),
            (pack([Status(1)]), "does not answer a hello with a welcome"),
            (b"hang up", "no node could be reached"),
        ],
        ids=["refused", "http", "no welcome", "closed"],
    )
    def test_a_server_that_does_not_welcome_is_unreachable(
        self, flavour: str, greeting: Any, text: str
    ) -> None:
        async def body(store: Any) -> None:
            await store.get("k")

        hangs_up = greeting == b"hang up"
        with fake(greeting, hangs_up=hangs_up) as server, pytest.raises(Unreachable, match=text):
            run(flavour, server.endpoint, body)

    def test_a_node_that_dies_in_the_middle_is_a_lost_connection(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            with pytest.raises(ConnectionLost, match="may have happened") as lost:
                await store.set("k", "v")
            assert not lost.value.definite
            with pytest.raises(ConnectionLost, match="changes nothing: ask again"):
                await store.get("k")  # on a new connection, which dies as well

        with fake(dies=True) as server:
            run(flavour, server.endpoint, body)

    def test_a_scan_that_breaks_off_says_how_far_it_has_come(self, flavour: str) -> None:
        def first_page(request: Any) -> Page | None:
            rows = [b"a", b"1", bytes(VERSION_BYTES), bytes(8), b"b", b"2", bytes(VERSION_BYTES), bytes(8)]
            return Page(request.id, rows, b"bb", True) if request.after in (b"", b"0") else None

        shown = []

        async def show(scan: Any) -> None:
            async for item in scan:
                shown.append(item.key)

        async def body(store: Any) -> None:
            with pytest.raises(ConnectionLost, match="up to b'bb' were shown") as lost:
                await show(store.scan())
            assert (lost.value.after, shown) == (b"bb", [b"a", b"b"])
            async with store.session() as session:
                with pytest.raises(ConnectionLost) as lost:
                    await show(session.scan(after="0"))
                assert (lost.value.after, shown) == (b"bb", [b"a", b"b"] * 2)
            with pytest.raises(ConnectionLost) as lost:
                await show(store.scan(after="c"))
            assert lost.value.after == b"c"

        with fake(dies=True, answer=first_page) as server:
            run(flavour, server.endpoint, body)

    def test_a_scan_for_one_key_does_not_ask_for_one_at_a_time_where_pages_are_empty(
        self, flavour: str
    ) -> None:
        limits = []

        def page(request: Any) -> Page:
            limits.append(request.limit)
            place = int(request.after or b"0") + request.limit
            return Page(request.id, [], b"%06d" % place, place < 2000)

        async def body(store: Any) -> None:
            assert [item async for item in store.scan(limit=1)] == []

        with fake(answer=page) as server:
            run(flavour, server.endpoint, body)
        assert limits == [1, 4, 16, 64, 256, *[500] * 4]

    def test_many_calls_on_a_node_that_dies_all_hear_of_it(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            results = await store.get_many([f"{n}" for n in range(20)])
            assert [type(result) for result in results] == [ConnectionLost] * 20

        with fake(dies=True) as server:
            run(flavour, server.endpoint, body)

    def test_a_node_that_never_answers_is_given_up_after_the_timeout_and_some_grace(
        self, flavour: str
    ) -> None:
        async def body(store: Any) -> None:
            began = time.monotonic()
            with pytest.raises(ReadTimeout, match="in time") as late:
                await store.get("k", timeout=0.1)
            assert (late.value.received, late.value.required) == (None, None)
            assert 0.1 + GRACE_S <= time.monotonic() - began < PATIENCE_S

        with fake() as server:
            run(flavour, server.endpoint, body, timeout=2 * PATIENCE_S)  # of calls that name none

    def test_a_wrong_list_of_endpoints_is_an_invalid_request(self, flavour: str) -> None:
        async def body(_: Any) -> None:
            raise AssertionError("it connected")

        for endpoints in (
            [],
            [""],
            "localhost",
            "localhost:0",
            ["127.0.0.1:99999"],
            "host:port",
            "::1",
            "http://h:1",
        ):
            with pytest.raises(InvalidRequest):
                run(flavour, endpoints, body)

    def test_what_the_block_raises_comes_out_as_it_is(self, flavour: str) -> None:
        async def body(_: Any) -> None:
            raise KeyError("mine")

        with fake() as server, pytest.raises(KeyError, match="mine"):
            run(flavour, server.endpoint, body)


async def cancel_once_asked(call: Awaitable[object], server: FakeNode) -> None:
    """Begin a call at a server that never answers, and cancel it when its request has come there."""
    ended = False

    async def ask() -> None:
        nonlocal ended
        await call
        ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.to_thread.run_sync(lambda: server.heard.get(timeout=PATIENCE_S))
        tasks.cancel_scope.cancel()
    assert not ended


@pytest.mark.parametrize("flavour", ASYNC)
class TestCancellation:
    def test_a_cancelled_call_leaves_nothing_in_the_client(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            await cancel_once_asked(store.get("k"), server)
            assert under_way(store) == {}

        with fake() as server:
            run(flavour, server.endpoint, body)

    def test_nor_do_many_cancelled_calls(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            for call in (store.get_many([f"{n}" for n in range(50)]), store.set_many([("a", "b")] * 50)):
                await cancel_once_asked(call, server)
                assert under_way(store) == {}

        with fake() as server:
            run(flavour, server.endpoint, body)

    def test_a_cancelled_call_does_not_disturb_the_others(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            async with anyio.create_task_group() as tasks:
                doomed = anyio.CancelScope()

                async def cancelled() -> None:
                    with doomed:
                        await store.get_many([f"{n}" for n in range(100)])

                tasks.start_soon(cancelled)
                await anyio.lowlevel.checkpoint()
                doomed.cancel()
                assert (await store.set("k", flavour)).outcome is Outcome.STORED
            assert (await store.get("k")).value == flavour.encode()
            assert under_way(store) == {}

        run(flavour, running.endpoints, body)

    def test_many_tasks_share_one_connection(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            async def one(number: int) -> None:
                await store.set(f"shared {number}", f"{number}")
                assert (await store.get(f"shared {number}")).value == b"%d" % number

            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(one, number)
            assert under_way(store) == {}

        run(flavour, running.endpoints, body)

    def test_too_many_calls_at_once_are_overloaded_and_not_sent(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(PENDING_MAX):
                    tasks.start_soon(store.node_status)
                while len(under_way(store)) < PENDING_MAX:
                    await anyio.lowlevel.checkpoint()
                with pytest.raises(Overloaded, match="nothing was sent"):
                    await store.get("k")
                many = await store.get_many(["k", "l"])
                assert [type(each) for each in many] == [Overloaded] * 2
                assert len(under_way(store)) == PENDING_MAX
                tasks.cancel_scope.cancel()

        with fake() as server:
            run(flavour, server.endpoint, body)

    def test_the_next_call_after_a_loss_connects_anew(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            with pytest.raises(ConnectionLost):
                await store.get("k")
            dying.stop()
            assert (await store.set("k", "v")).outcome is Outcome.STORED

        with fake(dies=True) as dying:
            run(flavour, [dying.endpoint, running.endpoints[0]], body)


def test_a_reader_that_never_reads_is_not_read_from_and_others_are_served(running: Cluster) -> None:
    host, port = running.endpoints[0].split(":")
    value = b"v" * VALUE_BYTES_MAX
    with basestore.sync.connect(running.endpoints[0]) as store:
        store.set("big", value)
        with socket.create_connection((host, int(port))) as deaf:
            from basestore.protocol.handshake import CLIENT_HELLO

            deaf.sendall(pack([CLIENT_HELLO]))
            assert deaf.recv(1 << 16)
            gets = [Get(n, "default", b"big", 1, 10_000, b"", True) for n in range(1, 100)]
            deaf.sendall(b"".join(seal(gets)))
            deaf.settimeout(PATIENCE_S)
            while (length := int.from_bytes(deaf.recv(4, socket.MSG_PEEK))) < KEY_BYTES_MAX:
                assert deaf.recv(length + 12)  # that there is a bucket more by now
            assert length > VALUE_BYTES_MAX  # more is begun than there is room for the answers of
            deaf.settimeout(0.5)
            sent = 0
            try:
                while sent < 256 << 20:  # far more than the system keeps for the two of them
                    ids, key = range(sent + 100, sent + 200), b"n" * KEY_BYTES_MAX
                    gets = [Get(each, "default", key, 1, 10_000, b"", True) for each in ids]
                    frames = b"".join(seal(gets))
                    deaf.sendall(frames)
                    sent += len(frames)
            except TimeoutError:
                pass
            assert sent < 256 << 20
            # The node may still be busy with what the deaf one, of the same address, has asked.
            assert store.retrying().get("big").value == value


def test_a_cluster_with_too_few_nodes_left_says_so_to_clients(tmp_path: Any) -> None:
    import trio

    async def main() -> None:
        from basestore.embedded import open_node
        from basestore.server.local_cluster import prepare_cluster

        configs = prepare_cluster(tmp_path, 3, None, "memory")
        async with open_node(configs[0]) as node:
            with pytest.raises(Unavailable) as unavailable:
                await node.set("k", "v")
            assert (unavailable.value.required, unavailable.value.alive) == (2, 0)

    trio.run(main)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_without_endpoints_those_of_the_environment_are_used(
    running: Cluster, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(store: Any) -> None:
        assert (await store.node_status()).node in ("n2", "n3")

    monkeypatch.setenv("BASESTORE_ENDPOINTS", f" {running.endpoints[1]}, {running.endpoints[2]} ")
    run(flavour, None, body)
    monkeypatch.setenv("BASESTORE_ENDPOINTS", "user@localhost:7400")
    with pytest.raises(InvalidRequest, match="write host:port, as in"):
        run(flavour, None, body)
    with pytest.raises(InvalidRequest, match="an endpoint is a str"):
        run(flavour, [7400], body)


def test_without_any_endpoint_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASESTORE_ENDPOINTS", " ")
    assert check_endpoints(None) == ["127.0.0.1:7400"]
