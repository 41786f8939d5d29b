"""Limits of buckets and keys, against a real node: what its clients are told, in a program and in a shell."""

import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from basestore.config import BucketOptions
from basestore.consistency import Outcome
from basestore.errors import Overloaded
from basestore.metrics import Metrics
from tests.cluster.processes import Cluster, NodeProcess
from tests.worlds.patience import eventually
from tests.worlds.shell import Finished, invoke, running

HOSTILE = "hot\x1b[31m"
# So few that what is asked together is over them, however fast this machine is.
LIMITS = {"default": BucketOptions(requests_per_s=2, key_requests_per_s=1)}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with Cluster(Path(tmp_path_factory.mktemp("limits")), 1) as cluster:
        (node,) = cluster
        node.configure(replace(node.config, bucket_options=LIMITS))
        cluster.start()
        yield node


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One that takes fewer at once than an import asks for."""
    with Cluster(Path(tmp_path_factory.mktemp("slow")), 1) as cluster:
        (node,) = cluster
        node.configure(replace(node.config, bucket_options={"default": BucketOptions(requests_per_s=20)}))
        cluster.start()
        yield node


def shell(node: NodeProcess, *arguments: str) -> Finished:
    return invoke(*arguments, env={"BASESTORE_ENDPOINTS": node.endpoint})


def test_of_many_that_are_asked_together_those_over_a_limit_are_told_when_there_is_room(
    node: NodeProcess,
) -> None:
    with node.store() as store:
        patient = store.retrying(budget=1.0)
        patient.set("before", "v", bucket="once")  # which has no limit
        keys = ["k", "k", "a", "b", "c"]
        results = store.get_many(keys)
        refused = [each for each in results if isinstance(each, Overloaded)]
        # Other tests may have used up what there is.
        assert len(refused) >= 3
        assert all(each.definite and 0 < each.retry_after <= 3 for each in refused)
        assert any("(key_requests_per_s)" in str(each) for each in refused)
        assert any("(requests_per_s)" in str(each) for each in refused)
        assert patient.set("k", "v").outcome is Outcome.STORED  # as soon as it was told to come again


def test_a_write_that_may_be_deferred_is_deferred(node: NodeProcess) -> None:
    with node.store("any") as store:
        results = store.set_many([(f"d{number}", "v") for number in range(4)], defer=True)
        outcomes = {receipt.outcome for receipt in results.raise_for_errors()}
        assert Outcome.DEFERRED in outcomes
        assert outcomes <= {Outcome.STORED, Outcome.DEFERRED}


@contextmanager
def asked(node: NodeProcess, key: str) -> Iterator[None]:
    """For the length of the block a thread asks for this key without a pause."""
    over = threading.Event()

    def ask() -> None:
        with node.store() as store:
            while not over.is_set():
                store.get_many([key] * 64)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_shell_ends_with_3_and_says_which_limit_it_was_and_when_to_try_again(node: NodeProcess) -> None:
    with asked(node, "k"):
        ended = shell(node, "get", "k", "-o", "json")
        while ended.code != 3:  # it came just when there was room
            ended = shell(node, "get", "k", "-o", "json")
    told = json.loads(ended.stderr)
    assert re.search("takes (1 request|2 requests) a second for", told["message"])
    assert "requests_per_s)" in told["message"]
    assert 0 < told["retry_after"] <= 1


def test_status_names_the_keys_that_are_asked_for_most(node: NodeProcess) -> None:
    with asked(node, HOSTILE):
        eventually(lambda: "hot keys: " in shell(node, "status").text, "status names a hot key")
        text, states = shell(node, "status").text, shell(node, "status", "-o", "json").json
    assert "\x1b" not in text
    assert HOSTILE.replace("\x1b", r"\x1b") + " (about " in text
    assert HOSTILE in [hot["key"] for hot in states[0]["hot_keys"]]


def _sets(node: NodeProcess) -> dict[str, int]:
    """What has become of all sets that the node was asked for."""
    with node.store() as store:
        state = store.node_counters()
    of_sets = (
        outcomes for operation, _, (outcomes, *_) in Metrics.of(state.facts).series() if operation == "set"
    )
    return dict(sum((Counter(outcomes) for outcomes in of_sets), Counter()))


def _rows(file: Path, prefix: str, count: int) -> Path:
    file.write_text("".join(f'{{"key":"{prefix}{number:02}","value":{number}}}\n' for number in range(count)))
    return file


def test_an_import_keeps_to_a_limit_and_stores_each_row_once(slow: NodeProcess, tmp_path: Path) -> None:
    before = _sets(slow)
    done = shell(slow, "import", str(_rows(tmp_path / "a.ndjson", "paced/", 50)), "-o", "json")
    assert done.code == 0, done.stderr
    told = done.json
    assert (told["stored"], told["failed"], told["complete"]) == (50, 0, True)
    assert "asked for again" in done.stderr
    assert not (tmp_path / "a.ndjson.basestore-progress").exists()
    after = _sets(slow)
    assert after["stored"] - before.get("stored", 0) == 50
    assert after["overloaded"] > before.get("overloaded", 0), "it was not over the limit"
    listed = shell(slow, "scan", "paced/", "--keys-only", "--retry")
    assert listed.text == "".join(f"paced/{number:02}\n" for number in range(50))


def test_an_import_that_waits_ends_at_once_when_it_is_interrupted_and_goes_on(
    slow: NodeProcess, tmp_path: Path
) -> None:
    file = _rows(tmp_path / "a.ndjson", "stopped/", 60)
    with running("import", str(file), "-o", "json", "-e", slow.endpoint) as first:
        first.wait_for("asked for again", first.stderr)
        assert first.end(signal.SIGINT) == 130
        told = json.loads(first.stdout[-1])
    assert told["stored"] + told["failed"] == 60
    assert told["failed"] > 0
    assert any("same command again" in line for line in first.stderr)
    second = shell(slow, "import", str(file), "-o", "json")
    assert (second.code, second.json["stored"]) == (0, 60), second.stderr
    listed = shell(slow, "scan", "stopped/", "--keys-only", "--retry")
    assert listed.text == "".join(f"stopped/{number:02}\n" for number in range(60))
