"""Reads that are degraded, against real processes: a quorum that is frozen, and one that is dead."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

import basestore
from basestore.config import BUILT_IN, BucketOptions
from basestore.consistency import Level
from basestore.errors import ReadTimeout, ReplicaFailure, RequestFailed, Unavailable
from basestore.repair.rule import Rule
from basestore.results.receipts import ReadResult
from tests.cluster.processes import Cluster
from tests.worlds.patience import eventually
from tests.worlds.shell import Finished, invoke

TIMEOUT_S = 1.0
MINUTES_S = 600.0
TOO_FEW = (ReadTimeout, ReplicaFailure, Unavailable)  # as they are taken for slow, are given up, or for dead
NOTICED = ("too many replicas refused or were lost", "1 of 3 replicas is alive")


@contextmanager
def quick(root: Path, nodes: int = 3, *, replication: int | None = None) -> Iterator[Cluster]:
    """A cluster whose proofs follow writes within seconds, in which all is proven. n1 may degrade what is
    read of `prices`."""
    with Cluster(root, nodes, replication=replication, timeout_s_max=2 * TIMEOUT_S) as cluster:
        buckets = BUILT_IN | {"prices": Rule.LAST_WRITE_WINS}
        cluster.config = replace(cluster.config, drift_ms_max=1000, buckets=buckets)
        for node in cluster:
            options = {"prices": BucketOptions(degrade_s=600)} if node.name == "n1" else {}
            node.configure(replace(node.config, cluster=cluster.config, bucket_options=options))
        cluster.start()
        with next(iter(cluster)).store(timeout=TIMEOUT_S) as store:
            for bucket in buckets:
                store.set("k", "v", bucket=bucket)
            assert store.converged(timeout=60).proven
        yield cluster


def shell(cluster: Cluster, *arguments: str) -> Finished:
    return invoke(*arguments, "--timeout", "1s", env={"BASESTORE_ENDPOINTS": cluster.nodes[0].endpoint})


def test_while_two_of_three_are_frozen_reads_are_degraded_and_afterwards_they_are_not(tmp_path: Path) -> None:
    with quick(tmp_path) as cluster:
        n1, n2, n3 = cluster
        with n1.store(timeout=TIMEOUT_S) as store:
            assert not store.get("k", degrade=MINUTES_S).degraded
            assert not store.get("k", bucket="prices").degraded
            n2.pause()
            n3.pause()
            began = time.monotonic()
            result = store.get("k", degrade=MINUTES_S)  # perhaps nobody knows of it yet
            took_s = time.monotonic() - began
            assert (result.value, result.degraded, result.level) == (b"v", True, Level.ONE)
            assert result.stale_by_at_most is not None
            assert 0 < result.stale_by_at_most < MINUTES_S
            if result.because == "1 of 2 required replicas answered in time":
                assert took_s >= 0.6 * TIMEOUT_S
            else:
                assert result.because in NOTICED
            with pytest.raises(TOO_FEW, match=r"more than the 0\.01 s that are allowed"):
                store.get("k", degrade=0.01)
            with pytest.raises(TOO_FEW) as strict:
                store.get("k", bucket="prices", degrade=0)
            assert "read at one" not in str(strict.value)
            assert store.get("k", bucket="prices").degraded
            n2.resume()
            n3.resume()

            def whole() -> bool:
                try:
                    return not store.get("k", degrade=MINUTES_S, consistency="all").degraded
                except RequestFailed:
                    return False

            eventually(whole, "reads at all are answered by all again")
            assert not store.get("k", bucket="prices").degraded


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_once_two_of_three_are_dead_the_one_that_is_left_answers_and_says_so(
    tmp_path: Path, backend: str
) -> None:
    asked: list[ReadResult] = []

    async def ask(endpoint: str) -> None:
        async with basestore.connect([endpoint], timeout=TIMEOUT_S) as store:
            asked.append(await store.get("k", degrade=MINUTES_S))
            async with store.session() as session:
                asked.append(await session.get("k", degrade=MINUTES_S))
            asked.extend((await store.get_many(["k", "k"], degrade=MINUTES_S)).raise_for_errors())
            asked.extend((await store.get_many(["k", "k"], bucket="prices")).raise_for_errors())

    with quick(tmp_path) as cluster:
        n1, n2, n3 = cluster
        n2.kill()
        n3.kill()
        eventually(lambda: n1.alive() == {"n1"}, "nobody else counts")
        anyio.run(ask, n1.endpoint, backend=backend)
        assert [(each.value, each.degraded, each.because) for each in asked] == [
            (b"v", True, "1 of 3 replicas is alive")
        ] * 6
        done = shell(cluster, "get", "k", "--degrade", "10m")
        assert (done.code, done.text) == (0, "v\n")
        said = r"degraded: read at one, stale by at most \d+\.\d s, because 1 of 3 replicas is alive\n"
        assert re.fullmatch(said, done.stderr)
        assert shell(cluster, "get", "k", "--bucket", "prices", "-o", "json").json["degraded"] is True
        for arguments in (("--degrade", "10ms"), ("--bucket", "prices", "--degrade", "0"), ()):
            assert shell(cluster, "get", "k", *arguments).code == 3


@pytest.mark.parametrize(("nodes", "replication"), [(1, 1), (2, 2)])
def test_with_fewer_replicas_it_is_the_same(tmp_path: Path, nodes: int, replication: int) -> None:
    with quick(tmp_path, nodes, replication=replication) as cluster:
        n1 = cluster.nodes[0]
        for other in cluster.nodes[1:]:
            other.kill()
        eventually(lambda: n1.alive() == {"n1"}, "nobody else counts")
        with n1.store(timeout=TIMEOUT_S) as store:
            result = store.get("k", degrade=MINUTES_S)
        assert (result.value, result.degraded) == (b"v", replication > 1)
        assert result.because == ("1 of 2 replicas is alive" if replication > 1 else "")
