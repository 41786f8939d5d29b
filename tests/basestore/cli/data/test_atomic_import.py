"""`import --atomic`: a file is one batch, and what is kept where its outcome is not known.

Covers `cli/data/atomic_import.py`; a node stands for the cluster that answers as it is told.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from basestore.cli import exits, group
from basestore.consistency import Level
from basestore.errors import InvalidRequest, Overloaded
from basestore.protocol.client import SET
from basestore.protocol.limits import BATCH_KEYS_MAX
from basestore.repair.version import Identity
from tests.worlds.fake_batches import CHECK, GIVEN_UP, UNKNOWN, VERSION, Batches
from tests.worlds.fake_transactions import SERVING
from tests.worlds.fakes import FakeNode, fake


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def node(batches: Batches) -> Iterator[FakeNode]:
    with fake(SERVING, answer=batches) as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return rows(tmp_path / "rows.ndjson", 3)


def rows(file: Path, count: int) -> Path:
    file.write_text("".join(json.dumps({"key": f"k{at}", "value": f"v{at}"}) + "\n" for at in range(count)))
    return file


def load(node: FakeNode, file: Path | str, *words: str, stdin: bytes = b"") -> Result:
    asked = ["-e", node.endpoint, "import", "--atomic", str(file), *words]
    return CliRunner().invoke(group, asked, input=stdin, standalone_mode=False)


def kept(file: Path) -> Path:
    return file.with_name(f"{file.name}.basestore-batch")


# --- what is done ----------------------------------------------------------------------------------


def test_all_rows_are_one_batch(node: FakeNode, batches: Batches, file: Path) -> None:
    done = load(node, file, "--ttl", "1m")
    assert (done.return_value, done.output) == (0, "3 stored, 0 failed\n")
    (asked,) = batches.asked
    assert asked.keys == [b"k0", b"k1", b"k2"]
    assert asked.values == [b"v0", b"v1", b"v2"]
    assert (set(asked.kinds), set(asked.buckets), set(asked.ttls_ms)) == ({SET}, {"default"}, {60_000})
    assert not asked.repeats
    assert not kept(file).exists()


def test_it_is_told_to_programs(node: FakeNode, file: Path) -> None:
    done = load(node, file, "-o", "json")
    assert json.loads(done.output) == {"stored": 3, "failed": 0, "complete": True}


def test_of_rows_with_one_key_the_last_stands(node: FakeNode, batches: Batches, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text('{"key": "a", "value": "1"}\n{"key": "a", "value": "2"}\n')
    assert load(node, file).return_value == 0
    assert (batches.asked[0].keys, batches.asked[0].values) == ([b"a"], [b"2"])


def test_it_reads_a_pipe(node: FakeNode, batches: Batches) -> None:
    done = load(node, "-", stdin=b'{"key": "a", "value": "1"}\n')
    assert (done.return_value, done.output) == (0, "1 stored, 0 failed\n")


# --- what is refused: nothing was written -----------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('{"key": "a", "value": "1"}\nnonsense\n', "line 2: "),
        ("", "no rows"),
        ('{"key": "", "value": "1"}\n', "line 1: "),
    ],
)
def test_a_file_that_is_wrong_is_refused(
    node: FakeNode, batches: Batches, tmp_path: Path, lines: str, told: str
) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text(lines)
    done = load(node, file)
    assert done.return_value == exits.USAGE
    assert told in done.output
    assert "nothing was written" in done.output
    assert not batches.asked


def test_a_file_of_too_many_rows_is_refused(node: FakeNode, batches: Batches, tmp_path: Path) -> None:
    done = load(node, rows(tmp_path / "rows.ndjson", BATCH_KEYS_MAX + 1))
    assert done.return_value == exits.USAGE
    assert f"more than {BATCH_KEYS_MAX} rows" in done.output
    assert not batches.asked


def test_a_file_of_too_many_bytes_is_refused(node: FakeNode, batches: Batches, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text("".join(json.dumps({"key": f"k{at}", "value": "v" * 600_000}) + "\n" for at in range(2)))
    done = load(node, file)
    assert done.return_value == exits.USAGE
    assert "nothing of it was done" in done.output
    assert not batches.asked


# --- what is not known --------------------------------------------------------------------------------


def test_the_same_command_follows_a_batch_whose_outcome_is_not_known(
    node: FakeNode, batches: Batches, file: Path
) -> None:
    batches.fails = [UNKNOWN, UNKNOWN]
    first = load(node, file)
    assert first.return_value == exits.UNKNOWN
    assert "Give the same command again" in first.output
    assert kept(file).exists()
    again = load(node, file)
    assert again.return_value == exits.UNKNOWN
    assert kept(file).exists()
    done = load(node, file)
    assert done.return_value == 0
    assert "followed to its end" in done.output
    assert not kept(file).exists()
    one, two, three = batches.asked
    assert not one.repeats
    assert two.repeats
    assert three.repeats
    assert two.identity == three.identity == Identity(one.identity, VERSION, CHECK).encode()
    assert (two.keys, two.values) == (one.keys, one.values)


def test_what_was_certainly_not_done_is_not_followed(node: FakeNode, batches: Batches, file: Path) -> None:
    batches.fails = [UNKNOWN, GIVEN_UP]
    load(node, file)
    done = load(node, file)
    assert done.return_value == exits.REFUSED
    assert not kept(file).exists()


def test_what_is_refused_on_the_way_says_nothing_of_the_batch_that_is_followed(
    node: FakeNode, batches: Batches, file: Path
) -> None:
    batches.fails = [UNKNOWN, Overloaded("overloaded: nothing was done", 0.1)]
    load(node, file)
    refused = load(node, file)
    assert refused.return_value == exits.UNKNOWN
    assert "An earlier attempt may have been done" in refused.output
    assert load(node, file).return_value == 0
    assert [request.repeats for request in batches.asked] == [False, True, True]
    assert len({request.identity[:8] for request in batches.asked}) == 1


def test_a_node_that_dies_meanwhile_leaves_it_to_be_followed(batches: Batches, file: Path) -> None:
    batches.deaf = True
    with fake(SERVING, answer=batches, dies=True) as node:
        first = load(node, file)
        assert first.return_value == exits.UNKNOWN
        assert "Give the same command again" in first.output
        batches.deaf = False
        assert load(node, file).return_value == 0
    one, two = batches.asked
    assert two.repeats
    assert two.identity == one.identity


@pytest.mark.parametrize("level", ["any", "one"])
def test_what_the_cluster_refuses_is_told(node: FakeNode, batches: Batches, file: Path, level: str) -> None:
    """As another kind of bucket, or a level at which too few hold it."""
    batches.fails = [InvalidRequest(f"an atomic batch at level {level}: too few hold it; nothing was done")]
    done = load(node, file, "-c", level, "--bucket", "cas")
    assert done.return_value == exits.USAGE
    assert "nothing was done" in done.output
    assert not kept(file).exists()
    (asked,) = batches.asked
    assert (asked.level, set(asked.buckets)) == (Level[level.upper()], {"cas"})


@pytest.mark.parametrize("changed", [("--ttl", "1m"), ("--bucket", "cas")])
def test_other_words_are_not_taken_for_the_same_command(
    node: FakeNode, batches: Batches, file: Path, changed: tuple[str, ...]
) -> None:
    batches.fails = [UNKNOWN]
    load(node, file)
    done = load(node, file, *changed)
    assert done.return_value == exits.USAGE
    assert "belongs to another import" in done.output
    assert kept(file).exists()
    assert len(batches.asked) == 1


def test_restart_writes_the_rows_as_a_new_batch(node: FakeNode, batches: Batches, file: Path) -> None:
    batches.fails = [UNKNOWN]
    load(node, file)
    assert load(node, file, "--restart").return_value == 0
    one, two = batches.asked
    assert not two.repeats
    assert two.identity != one.identity
    assert not kept(file).exists()


def test_a_file_that_has_changed_is_not_taken_for_the_batch(
    node: FakeNode, batches: Batches, file: Path
) -> None:
    batches.fails = [UNKNOWN]
    load(node, file)
    rows(file, 4)
    done = load(node, file)
    assert done.return_value == exits.USAGE
    assert "--restart" in done.output
    assert len(batches.asked) == 1


def test_of_a_pipe_nothing_is_kept(node: FakeNode, batches: Batches) -> None:
    batches.fails = [UNKNOWN]
    done = load(node, "-", stdin=b'{"key": "a", "value": "1"}\n')
    assert done.return_value == exits.UNKNOWN
    assert "Read its keys to find out" in done.output
