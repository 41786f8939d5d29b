"""A node that is frozen (SIGSTOP): its sockets stay open, and nobody answers."""

import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import basestore
from basestore import Store, sync
from basestore.consistency import Level, ReplicaState
from basestore.errors import ReadTimeout, ReplicaFailure, Unavailable, Unreachable, WriteTimeout
from tests.cluster.load import Load
from tests.cluster.processes import reads_at, running
from tests.worlds.patience import eventually


def test_quorum_goes_on_while_a_node_is_paused_and_hints_make_it_equal_afterwards(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, n3 = cluster
        with Load(cluster, [n1, n2], seed=8) as load:
            load.wait_for(200)
            n3.pause()
            eventually(lambda: n1.alive() == n2.alive() == {"n1", "n2"}, "n3 counts no more")
            load.wait_for(300)
        with n1.store() as store:
            for number in range(50):
                receipt = store.set(f"during {number}", "written")
                assert receipt.replicas["n3"] is not ReplicaState.APPLIED
            with pytest.raises(Unavailable, match="3 replicas are required and 2 are alive") as refused:
                store.set("all", "refused", consistency="all")
            assert refused.value.definite
            with pytest.raises(Unavailable):
                store.get("during 0", consistency="all")
        assert n1.hints()["n3"] >= 50
        n3.resume()
        cluster.wait_linked()
        eventually(lambda: n1.hints()["n3"] == n2.hints()["n3"] == 0, "all hints are delivered")
        keys = sorted(load.ledger.attempts) + [b"during %d" % number for number in range(50)] + [b"all"]
        at_n1 = reads_at(n1, keys, Level.ONE)
        assert at_n1[b"during 7"] == b"written"
        assert at_n1[b"all"] is None
        assert reads_at(n2, keys, Level.ONE) == at_n1
        assert reads_at(n3, keys, Level.ONE) == at_n1
        assert load.ledger.complaints(n3, Level.ONE) == []


def test_a_write_at_all_that_meets_a_fresh_pause_ends_as_indefinite_and_is_kept_for_the_paused_node(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as cluster:
        n1, _, n3 = cluster
        with n1.store("all") as store:
            store.set("key", "old")
            n3.pause()
            with pytest.raises((WriteTimeout, ReplicaFailure)) as failed:  # nobody knows of the pause yet
                store.set("key", "new", timeout=1.0)
            assert not failed.value.definite
            assert failed.value.version is not None
        eventually(lambda: n1.hints()["n3"] == 1, "the write is kept for n3")
        n3.resume()
        eventually(lambda: n1.hints()["n3"] == 0, "the hint is delivered")
        with n3.store("one") as store:
            result = store.get("key")
        assert (result.value, result.version) == (b"new", failed.value.version)


def test_a_scan_in_the_middle_of_which_a_node_is_paused_shows_all_there_is(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, n3 = cluster
        keys = [b"%04d" % number for number in range(3000)]
        with n1.store(timeout=2.0) as store:
            store.set_many([(key, b"v") for key in keys], consistency="all")
            for paused in (n2, n3):
                shown = []
                for item in store.scan():
                    shown.append(item.key)
                    if len(shown) == 1000:
                        paused.pause()
                assert shown == keys
                paused.resume()
                cluster.wait_linked()


def test_a_scan_whose_node_is_paused_goes_on_at_another_from_the_key_that_it_came_to(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, _ = cluster
        keys = [b"%04d" % number for number in range(1200)]
        shown = []
        with n1.store(timeout=1.0) as store:
            store.set_many([(key, b"v") for key in keys])
            scan = store.scan()
            shown += [next(scan).key for _ in range(600)]
            n1.pause()
            with pytest.raises(ReadTimeout, match=r"up to .* were shown") as broken:
                shown.extend(item.key for item in scan)
        assert (broken.value.after, shown) == (keys[999], keys[:1000])
        with n2.store() as store:
            assert [item.key for item in store.scan(after=shown[-1])] == keys[1000:]
        n1.resume()


def test_a_node_that_wakes_up_does_not_answer_from_the_past_at_quorum(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, _, n3 = cluster
        with n1.store() as store:
            store.set("key", "old", consistency="all")
            n3.pause()
            eventually(lambda: "n3" not in n1.alive(), "n3 counts no more")
            for number in range(20):
                store.set("key", f"new {number}")
        n3.resume()
        answers: list[bytes | None] = []
        with n3.store() as store:

            def read() -> bool:
                with suppress(Unavailable):  # until it has heard from the others again
                    answers.append(store.get("key").value)
                return bool(answers)

            eventually(read, "n3 answers")
        assert answers == [b"new 19"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_at_a_frozen_node_end_in_their_time_and_the_next_ones_go_elsewhere(
    tmp_path: Path, backend: str
) -> None:
    took: list[float] = []

    async def ask(store: Store) -> None:
        began = time.monotonic()
        with suppress(Unreachable, ReadTimeout):
            await store.get("key")
        took.append(time.monotonic() - began)

    async def main(endpoints: list[str]) -> None:
        async with basestore.connect(endpoints, timeout=1.0) as store:
            await store.set("key", "value")
            n1.pause()
            async with anyio.create_task_group() as tasks:
                for _ in range(30):
                    tasks.start_soon(ask, store)
            assert max(took) < 10.0  # one after the other they would take 30
            assert (await store.get("key")).value == b"value"

    with running(tmp_path) as cluster:
        n1, n2, _ = cluster
        endpoints = [node.config.member.address for node in (n1, n2)]
        with sync.connect(endpoints[:1], timeout=1.0) as blocking:
            blocking.cluster_id()
            anyio.run(main, endpoints, backend=backend)
            began = time.monotonic()
            with suppress(Unreachable, ReadTimeout):
                blocking.get("key")
            with pytest.raises(Unreachable):
                blocking.status()
            assert time.monotonic() - began < 10.0
        with sync.connect(endpoints, timeout=2.0) as blocking:
            assert [state.state for state in blocking.status()] == ["down", "up", "up"]
        n1.resume()
