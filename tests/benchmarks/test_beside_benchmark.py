"""The benchmark beside other stores says what it should, whatever the figures are."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from benchmarks.beside import as_text, found, make_row
from benchmarks.limits import Limits
from benchmarks.neighbours import dynomite_config, redis_command, version_in
from benchmarks.systems import CELLS, READ, READ_ONE, WRITE, Cell, Plan, Sample
from tests.benchmarks.running import run_benchmark

QUICK = [
    "--rounds",
    "2",
    "--seconds",
    "0.2",
    "--keys",
    "100",
    "--connections",
    "4",
    "--durability",
    "memory",
    "-o",
    "json",
]
PLAN = Plan(["sync"], 2.0, 3, 64, 1000, None, "redis-server", None)


@dataclass
class Named:
    """A system of which only the name matters."""

    name: str
    version: str = "1"
    asked: dict[Cell, str] = field(default_factory=lambda: {cell: f"asked {cell.level}" for cell in CELLS})
    pids: list[int] = field(default_factory=list)

    def fill(self) -> None:
        raise AssertionError

    def sample(self, cell: Cell, seed: int) -> tuple[Sample, list[str]]:
        raise AssertionError


def sample(server_us: float | None, errors: int = 0) -> Sample:
    return Sample(1000.0, server_us, 5.0, 1.25, 9.0, errors, 2.0)


def test_without_redis_ours_is_measured_alone_and_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    result = run_benchmark(
        "beside", "--redis", "no-such-server", "--directory", str(tmp_path), *QUICK, "--durability", "memory"
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [(row["system"], row["operation"], row["level"]) for row in rows] == [
        ("basestore", "write", "quorum"),
        ("basestore", "read", "quorum"),
        ("basestore", "read", "one"),
    ]
    assert all(row["ops_per_s"] > 0 and row["server_cpu_us"] > 0 and not row["errors"] for row in rows)
    assert all(row["to_redis"] is None and row["rounds"] == 2 and row["connections"] == 4 for row in rows)
    assert "no-such-server is not found; `apt-get install redis-server`" in result.stderr
    assert "left out: Dynomite" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not (shutil.which("redis-server") and shutil.which("cc")), reason="needs redis-server and a C compiler"
)
@pytest.mark.parametrize("durability", ["sync", "memory"])
def test_redis_is_measured_beside_ours_and_ends_with_the_run(tmp_path: Path, durability: str) -> None:
    result = run_benchmark("beside", "--directory", str(tmp_path), *QUICK, "--durability", durability)
    assert result.returncode == 0, result.stderr
    rows = {(row["system"], row["operation"], row["level"]): row for row in json.loads(result.stdout)}
    assert set(rows) == {
        ("basestore", "write", "quorum"), ("redis", "write", "quorum"),
        ("basestore", "read", "quorum"), ("basestore", "read", "one"), ("redis", "read", "one"),
    }  # fmt: skip
    assert rows["redis", "write", "quorum"]["asked"] == "SET + WAIT 1"
    assert all(row["durability"] == durability and not row["errors"] for row in rows.values())
    assert all(row["to_redis"] == 1 for (system, *_), row in rows.items() if system == "redis")
    assert all(row["to_redis"] > 0 for row in rows.values())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_refused() -> None:
    for options in (
        ["--durability", "interval"],
        ["--connections", "1"],
        ["--rounds", "0"],
        ["--dynomite", "no-such-program"],
    ):
        result = run_benchmark("beside", *options)
        assert result.returncode == 2
        assert "Error" in result.stderr
        assert result.stdout == ""


def test_a_ratio_is_of_the_same_round_and_of_a_like_operation() -> None:
    ours, redis = Named("basestore"), Named("redis")
    samples = {
        ("basestore", WRITE): [sample(100), sample(300), sample(80, errors=2)],
        ("redis", WRITE): [sample(50), sample(100), sample(80)],
        ("basestore", READ): [sample(40), sample(40), sample(None)],
        ("redis", READ_ONE): [sample(10), sample(20), sample(10)],
    }
    write = make_row(PLAN, "sync", ours, WRITE, samples)
    assert (write.server_cpu_us, write.to_redis, write.errors, write.rounds) == (100, 2.0, 2, 3)
    assert make_row(PLAN, "sync", ours, READ, samples).to_redis == 3.0
    assert make_row(PLAN, "sync", redis, READ_ONE, samples).to_redis == 1.0
    assert write.asked == "asked quorum"


def test_a_row_of_nothing_but_errors_is_printed_and_a_missing_redis_is_no_ratio() -> None:
    nothing = Sample(0.0, None, None, None, None, 7, 2.0)
    row = make_row(PLAN, "sync", Named("dynomite"), WRITE, {("dynomite", WRITE): [nothing, nothing]})
    assert (row.server_cpu_us, row.p50_ms, row.to_redis, row.errors) == (None, None, None, 14)
    text = as_text(PLAN, [row], Limits([0.1], [0.25]))
    assert "dynomite 1\n" in text
    assert "0.250 ms" in text
    assert text.splitlines()[-1].split()[-5:] == ["-", "-", "-", "-", "14"]


def test_what_is_not_there_is_left_out_with_advice(tmp_path: Path) -> None:
    said: list[str] = []
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert found(str(program), str(program), said.append) == (str(program), str(program))
    assert said == []
    assert found(str(program), None, said.append) == (str(program), None)
    assert "--dynomite PATH" in said.pop()
    assert found("no-such-server", str(program), said.append) == (None, None)
    assert "apt-get install redis-server" in said[0]
    assert "Dynomite, for it keeps its data in Redis" in said[1]
    with pytest.raises(click.BadParameter):
        found(str(program), str(tmp_path / "nothing"), said.append)


def test_redis_keeps_a_log_that_it_syncs_or_none() -> None:
    words = redis_command("redis-server", 7000, durable=True)
    assert words[words.index("--appendonly") + 1] == "yes"
    assert words[words.index("--appendfsync") + 1] == "always"
    words = redis_command("redis-server", 7000, durable=False)
    assert words[words.index("--appendonly") + 1] == "no"


def test_a_node_of_dynomite_names_the_others_and_asks_for_quorums() -> None:
    text = dynomite_config(1, 7001, 7101, [7200, 7201, 7202], 7301)
    assert "rack: rack2" in text
    assert "  - 127.0.0.1:7200:rack1:dc1:0\n  - 127.0.0.1:7202:rack3:dc1:0\n" in text
    assert "127.0.0.1:7201:rack2" not in text
    assert "dyn_listen: 127.0.0.1:7201" in text
    assert "read_consistency: DC_QUORUM\n  write_consistency: DC_QUORUM" in text


def test_versions_are_found_in_what_programs_say() -> None:
    assert version_in("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc") == "7.0.15"
    assert version_in("This is dynomite-v0.6.21-rc2-22-g2046b05") == "v0.6.21-rc2-22-g2046b05"
    assert version_in("hello") == "of unknown version"
