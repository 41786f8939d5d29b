"""`import --atomic`: a file is one batch, and what is kept where its outcome is not known.

Covers `cli/data/atomic_import.py`; a node stands for the cluster that answers as it is told.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from basestore.cli import exits, group
from basestore.errors import OutcomeUnknown, RequestFailed, Unavailable
from basestore.protocol.client import SET, BatchWritten, Failed, WriteBatch
from basestore.protocol.codec import Message
from basestore.protocol.limits import BATCH_KEYS_MAX
from basestore.repair.version import Identity, Version
from tests.worlds.fake_transactions import SERVING
from tests.worlds.fakes import FakeNode, fake

VERSION = Version(7 << 16, 9, 1)
CHECK = b"c" * 8
UNKNOWN = OutcomeUnknown("unknown: its time was over; the batch is all or nothing in the end", None, None)
GIVEN_UP = Unavailable.because("the batch was given up: nothing of it was applied")


class Batches:
    """What it was asked; it does all, but for what `fails`: one error for each of the next."""

    def __init__(self) -> None:
        self.asked: list[WriteBatch] = []
        self.fails: list[RequestFailed] = []

    def __call__(self, request: Message) -> Message | None:
        if not isinstance(request, WriteBatch):
            return None
        self.asked.append(request)
        identity = Identity(request.identity[:8], VERSION, CHECK).encode()
        if self.fails:
            error = self.fails.pop(0)
            return Failed(request.id, error.code, str(error), identity, list(map(str, error.details())))
        count = len(request.keys)
        return BatchWritten(request.id, identity, [VERSION.encode()] * count, [0] * count, [2] * count)


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
