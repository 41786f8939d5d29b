"""`basestore node rebuild-group`: that it is meant, and of which cluster.

Covers `cli/topology/nodes.py`. What is done to the store is written down here.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from basestore.cli import group
from basestore.cli.topology import changes, nodes
from basestore.config import NodeConfig
from basestore.server.local_cluster import config_path, prepare_cluster

Done = list[tuple[str, bool]]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Done:
    rebuilt: Done = []

    def rebuild_group(config: NodeConfig, *, follow: bool) -> str:
        rebuilt.append((config.name, follow))
        return "the metadata group was replaced"

    real: Callable[[str], Any] = importlib.import_module
    stub = SimpleNamespace(rebuild_group=rebuild_group)
    monkeypatch.setattr(
        nodes, "import_module", lambda name: stub if name == "basestore.server.rebuild" else real(name)
    )
    return rebuilt


@pytest.fixture
def config(tmp_path: Path) -> Path:
    prepare_cluster(tmp_path, 1, 7400, "memory")
    return config_path(tmp_path, "n1")


def rebuild(config: Path, *words: str, stdin: str = "") -> Result:
    given = ["node", "rebuild-group", "--config", str(config), *words]
    return CliRunner().invoke(group, given, input=stdin, standalone_mode=False)


def digits(config: Path) -> str:
    from basestore.config_file import load

    return load(config).cluster.id.hex()[:8]


def test_where_nobody_can_be_asked_the_cluster_must_be_named(config: Path, done: Done) -> None:
    refused = rebuild(config)
    assert isinstance(refused.exception, click.UsageError)
    assert f"say so with --cluster {digits(config)}" in str(refused.exception)
    assert done == []


def test_another_cluster_than_that_of_the_file_is_refused(config: Path, done: Done) -> None:
    refused = rebuild(config, "--cluster", "00000000")
    assert f"is of cluster {digits(config)}, not of 00000000: nothing was done" in str(refused.exception)
    assert done == []


@pytest.mark.parametrize("follow", [False, True])
def test_who_names_the_cluster_is_asked_nothing(config: Path, done: Done, follow: bool) -> None:
    words = ("--follow",) if follow else ()
    told = rebuild(config, "--cluster", digits(config), *words)
    assert (told.return_value, told.stdout) == (0, "the metadata group was replaced\n")
    assert done == [("n1", follow)]


@pytest.mark.parametrize(
    ("follow", "meaning"),
    [((), "two groups go on"), (("--follow",), "What only the old one has decided it forgets")],
)
def test_on_a_terminal_what_it_means_is_said_first_and_the_cluster_is_typed(
    config: Path, done: Done, monkeypatch: pytest.MonkeyPatch, follow: tuple[str, ...], meaning: str
) -> None:
    monkeypatch.setattr(changes, "stdin_is_terminal", lambda: True)
    wrong = rebuild(config, *follow, stdin="no\n")
    assert meaning in wrong.stderr
    assert "nothing was done" in str(wrong.exception)
    assert done == []
    told = rebuild(config, *follow, stdin=f"{digits(config)}\n")
    assert told.stderr.index(meaning) < told.stderr.index("to go on")
    assert (told.return_value, done) == (0, [("n1", bool(follow))])
