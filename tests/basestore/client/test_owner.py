"""N owners of one store, no answer to another's question: threads, forked processes, event loops; and a
connection that ended while nobody used it.

Covers `transport/owner.py`, and what the channels do with it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import basestore
import basestore.sync
from basestore import InvalidRequest, ReadTimeout
from basestore.protocol.client import Get, Got, Set
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Goodbye
from tests.worlds.fakes import WELCOME, Cluster, cluster, fake
from tests.worlds.flavours import ASYNC, FLAVOURS, run
from tests.worlds.patience import PATIENCE_S
from tests.worlds.ports import free_ports

KEYS = 200


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def in_child(work: Callable[[], object]) -> Callable[[], str]:
    """Begin this in a forked process; what it returns gives what came of it, in words."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        told = "nothing"
        with suppress(BaseException):
            try:
                told = str(work())
            except BaseException as error:  # noqa: BLE001 - told to the parent
                told = repr(error)
        os.write(writing, told.encode())
        os.kill(os.getpid(), signal.SIGKILL)  # at once: nothing of the parent's is ended
    os.close(writing)

    def ended() -> str:
        os.waitpid(child, 0)
        with open(reading, encoding="utf-8") as pipe:
            return pipe.read()

    return ended


def wrong_values(store: Any, offset: int) -> int:
    """Read all keys, beginning somewhere; how many values are another key's."""
    numbers = [(offset + n) % KEYS for n in range(KEYS)]
    return sum(read(store, f"owned {n}") != b"%d" % n for n in numbers)


def read(store: Any, key: str) -> object:
    """However busy its node, which runs in this very process, says that it is."""
    while True:
        try:
            return store.get(key, timeout=10).value
        except basestore.Overloaded as busy:
            time.sleep(busy.retry_after)


@pytest.mark.parametrize("within", ["store", "session"])
def test_forked_processes_and_threads_read_what_they_asked_for(running: Cluster, within: str) -> None:
    with basestore.sync.connect(running.endpoints) as outer, outer.session() as session:
        store: Any = outer if within == "store" else session
        store.set_many([(f"owned {n}", f"{n}") for n in range(KEYS)])
        ended = [in_child(partial(wrong_values, store, 50 * place)) for place in (1, 2, 3)]
        wrong: list[int] = []
        threads = [
            threading.Thread(target=lambda place=place: wrong.append(wrong_values(store, 30 * place)))
            for place in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert [each() for each in ended] == ["0", "0", "0"]
        assert wrong == [0] * 6


def found(request: Message) -> Message | None:
    """A node that answers reads, and nothing else."""
    return Got(request.id, True, b"v", bytes(24), 0, 1, 1, False, 0) if isinstance(request, Get) else None


def test_a_child_connects_anew_and_the_connection_of_its_parent_goes_on() -> None:
    with fake(answer=found) as node, basestore.sync.connect(node.endpoint) as store:
        assert store.get("k").value == b"v"
        assert in_child(lambda: store.get("k").value)() == "b'v'"
        assert node.accepted == 2
        assert store.get("k").value == b"v"
        assert node.accepted == 2


def test_a_child_does_not_wait_for_what_a_thread_of_its_parent_was_at() -> None:
    with fake(answer=found) as node, basestore.sync.connect(node.endpoint) as store:
        waiting = threading.Thread(target=lambda: suppressed(lambda: store.set("k", "v", timeout=1)))
        waiting.start()
        assert isinstance(node.heard.get(timeout=PATIENCE_S), Set)
        assert in_child(lambda: store.get("k").value)() == "b'v'"
        waiting.join(PATIENCE_S)


def suppressed(call: Callable[[], object]) -> None:
    with suppress(basestore.BasestoreError):
        call()


def test_ids_begin_at_random() -> None:
    firsts = set()
    with fake() as node:
        for _ in range(3):
            with basestore.sync.connect(node.endpoint, timeout=0.5) as store, pytest.raises(ReadTimeout):
                store.get("k")
            firsts.add(node.heard.get(timeout=PATIENCE_S).id)
    assert len(firsts) == 3


class TestLoops:
    @pytest.mark.parametrize("other", ASYNC)
    @pytest.mark.parametrize("flavour", ASYNC)
    def test_an_asynchronous_store_refuses_another_loop(self, flavour: str, other: str) -> None:
        async def body(store: Any) -> None:
            errors: list[BaseException] = []

            async def elsewhere() -> None:
                for call in (store.get("k"), store.get_many(["k"])):
                    try:
                        errors.extend(await call)
                    except InvalidRequest as error:
                        errors.append(error)

            thread = threading.Thread(target=anyio.run, args=(elsewhere,), kwargs={"backend": other})
            thread.start()
            thread.join(PATIENCE_S)
            assert [type(error) for error in errors] == [InvalidRequest] * 2
            assert "another event loop" in str(errors[0])
            assert (await store.get("k")).value == b"v"

        with fake(answer=found) as node:
            run(flavour, node.endpoint, body)
            assert node.accepted == 1

    @pytest.mark.parametrize("flavour", ASYNC)
    def test_and_a_child_of_its_process(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            def ask() -> object:
                with pytest.raises(InvalidRequest, match="another event loop, thread or process"):
                    store.get("k").send(None)
                return "refused"

            assert in_child(ask)() == "refused"
            assert (await store.get("k")).value == b"v"

        with fake(answer=found) as node:
            run(flavour, node.endpoint, body)

    def test_an_embedded_node_refuses_another_loop_too(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with basestore.open_cluster(tmp_path, 1, durability="memory") as store:
                errors: list[BaseException] = []

                async def elsewhere() -> None:
                    with pytest.raises(InvalidRequest, match="another event loop") as refused:
                        await store.get("k")
                    errors.append(refused.value)

                await trio.to_thread.run_sync(lambda: anyio.run(elsewhere))
                assert len(errors) == 1
                assert not (await store.get("k")).found

        trio.run(main)


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestIdle:
    def test_the_first_call_after_a_restart_needs_no_error(self, flavour: str) -> None:
        port = free_ports(1)

        async def body(store: Any) -> None:
            assert (await store.get("k")).value == b"v"
            first.stop()
            with fake(answer=found, port=port) as second:
                # In this very turn of the loop: the end of the stream lies there, and nobody has heard it.
                assert (await store.get("k")).value == b"v"
                results = await store.get_many(["k"] * 3)
                assert [result.value for result in results] == [b"v"] * 3
                assert second.accepted == 1

        with fake(answer=found, port=port) as first:
            run(flavour, f"127.0.0.1:{port}", body)

    def test_when_the_node_stays_away_nothing_was_sent(self, flavour: str) -> None:
        async def body(store: Any) -> None:
            assert (await store.get("k")).value == b"v"
            node.stop()
            for call in (store.set("k", "v"), store.get("k")):
                with pytest.raises(basestore.Unreachable, match="Nothing was sent") as unreachable:
                    await call
                assert unreachable.value.definite
                assert "may have happened" not in str(unreachable.value)

        with fake(answer=found) as node:
            run(flavour, node.endpoint, body)

    def test_a_late_answer_disturbs_no_later_call(self, flavour: str) -> None:
        def slowly(request: Message) -> Message | None:
            time.sleep(0.8 if request.key == b"slow" else 0)  # type: ignore[attr-defined]
            return Got(request.id, True, request.key, bytes(24), 0, 1, 1, False, 0)  # type: ignore[attr-defined]

        async def body(store: Any) -> None:
            assert (await store.get("first")).value == b"first"  # it is connected
            with pytest.raises(ReadTimeout):
                await store.get("slow", timeout=0.1)
            for n in range(20):
                assert (await store.get(f"{n}")).value == b"%d" % n
                await anyio.sleep(0.02)

        with fake(answer=slowly) as node:
            run(flavour, node.endpoint, body)

    def test_a_goodbye_sends_the_next_call_elsewhere(self, flavour: str, unhurried: None) -> None:
        async def body(store: Any) -> None:
            assert (await store.get("k")).value == b"v"
            first.say(Goodbye("n1 stops"))
            assert (await store.get("k")).value == b"v"
            assert (await store.get("k")).value == b"v"
            assert second.accepted == 1

        patient = WELCOME._replace(timeout_ms_max=30_000)
        with fake(patient, answer=found) as first, fake(patient, answer=found) as second:
            run(flavour, [first.endpoint, second.endpoint], body, timeout=30.0)
