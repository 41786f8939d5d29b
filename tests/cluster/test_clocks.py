"""Clocks that are wrong, pauses, and slow disks, with real processes."""

import threading
import time
from pathlib import Path

import pytest

from basestore import sync
from basestore.consistency import Outcome
from basestore.errors import ClockSkew, RequestFailed
from basestore.results.receipts import Receipt
from tests.cluster.processes import Cluster, running
from tests.cluster.wrong_clock import WrongClock
from tests.worlds.patience import eventually

HOUR_MS = 3_600_000
PATIENT_S = 30.0


def test_a_node_that_starts_with_its_clock_ahead_stamps_nothing_and_is_well_once_it_is_right(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, _ = cluster
        clock = WrongClock(n1)
        cluster.start()
        n1.stop()
        clock.set(HOUR_MS)
        n1.start()
        eventually(lambda: n1.state == "up", "n1 is up")
        stored = 0
        with n1.store("one") as store:
            for _ in range(30):
                try:
                    stored += store.set("poison", "v").outcome is Outcome.STORED
                except RequestFailed as error:
                    assert error.definite  # noqa: PT017
                time.sleep(0.05)
            with pytest.raises(ClockSkew, match="ahead of the majority"):
                store.set("poison", "v")
        assert not stored
        n1.stop()
        clock.set(0)
        n1.start()
        cluster.wait_linked()
        for node in (n1, n2, n1):
            with node.store() as store:
                assert store.set("poison", node.name).outcome is Outcome.STORED


@pytest.mark.parametrize("pause_s", [4])
def test_what_a_paused_coordinator_stores_when_it_goes_on_is_there(tmp_path: Path, pause_s: int) -> None:
    with running(tmp_path) as cluster:
        n1, n2, _ = cluster
        with n1.store() as store, n2.store() as other:
            store.set("warm", "1")
            n1.pause()
            time.sleep(pause_s)
            answers: list[Receipt] = []
            # It lies in the socket's buffer while the node is stopped.
            asking = threading.Thread(target=lambda: answers.append(store.set("leased", "v", ttl=2.0)))
            asking.start()
            time.sleep(0.3)
            resumed_ms = time.time_ns() // 1_000_000
            n1.resume()
            asking.join()
            assert [answer.outcome for answer in answers] == [Outcome.STORED]
            version = answers[0].version
            assert version is not None
            assert version.wall_ms >= resumed_ms
            assert other.get("leased").value == b"v"


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_a_wrong_clock_hides_nothing_that_lives_and_shows_nothing_that_has_expired(
    tmp_path: Path, ahead_ms: int
) -> None:
    with Cluster(tmp_path) as cluster:
        n1, _, n3 = cluster
        WrongClock(n3, ahead_ms)
        cluster.start()
        with n1.store() as right, n3.store() as wrong:
            right.set("lives", "v", ttl=600)
            right.set("gone", "v", ttl=0.5)
            right.set("forever", "v")
            time.sleep(0.6)
            for store in (right, wrong):
                assert [store.get(key).found for key in ("lives", "gone", "forever")] == [True, False, True]
                assert [item.key for item in store.scan()] == [b"forever", b"lives"]


def test_a_session_writes_in_order_at_nodes_whose_clocks_differ(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, _ = cluster
        WrongClock(n2, 1500)
        cluster.start()
        lost = []
        with n2.store() as there, n1.store() as here:
            for number in range(20):
                key = f"k{number}"
                with there.session() as session:
                    session.set(key, "first")
                    token = session.token
                with here.session(token) as session:
                    if number % 3 == 0:
                        receipt = session.set(key, "second")
                    elif number % 3 == 1:
                        receipt = session.delete(key)
                    else:
                        (receipt,) = session.set_many([(key, "second")])  # type: ignore[assignment]
                    lost += [key] if receipt.outcome is not Outcome.STORED else []
        assert lost == []


def test_an_idle_node_on_a_slow_disk_refuses_no_write(tmp_path: Path) -> None:
    # What is slow here is added to each sync: it is not about how slow the real disk is under load.
    with Cluster(tmp_path, nodes=1, timeout_s_max=PATIENT_S) as cluster:
        (n1,) = cluster
        WrongClock(n1, slow_sync_ms=60)
        cluster.start()
        with n1.store(timeout=PATIENT_S) as store:
            for number in range(40):
                assert store.set("k", f"{number}").outcome is Outcome.STORED
                time.sleep(0.07)


def test_a_survivor_that_is_restarted_says_how_to_go_on_and_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, nodes=2, replication=1) as cluster:
        n1, n2 = cluster
        keys = [b"%d" % n for n in range(20) if cluster.replicas(b"%d" % n) == [n1]]
        n2.stop()
        n1.stop()
        n1.start()
        eventually(lambda: n1.status() is not None, "n1 answers")
        with n1.store("any") as store:
            time.sleep(1.6)
            with pytest.raises(ClockSkew, match=r"serve --clock-is-right"):
                store.set(keys[0], "v")
        n1.stop()
        n1.command = (*n1.command[:-1], "--clock-is-right", "--config")
        n1.start()
        eventually(lambda: n1.status() is not None, "n1 answers")
        with sync.connect(n1.endpoint, consistency="any") as store:
            assert store.set(keys[0], "v").outcome is Outcome.STORED
