"""`basestore node rebuild-group`: that it is meant, of which cluster, and that it is done to a store at rest.

Covers `cli/topology/nodes.py`, on stores of a node that has run, and `open_existing` of `storage/open.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from basestore.cli import group
from basestore.cli.topology import changes
from basestore.config import NodeConfig
from basestore.config_file import dump, load
from basestore.errors import BasestoreError, ConfigurationError, StorageError
from basestore.membership.group_log import Allegiance
from basestore.membership.rebuilding import SKIPPED_MIN
from basestore.server.local_cluster import config_path, prepare_cluster
from basestore.storage.rocks import RocksEngine
from tests.worlds.world import World


class Stored:
    """A node of a cluster of one, by its file, and the world in which it runs now and then."""

    def __init__(self, path: Path) -> None:
        self.path, self.config = path, load(path)
        self.digits = self.config.cluster.id.hex()[:8]
        self.world = World(1, born=False)

    @contextmanager
    def running(self) -> Iterator[World]:
        engine = RocksEngine(self.config.directory)
        self.world.configs, self.world.engines = [self.config], [engine]  # type: ignore[list-item]
        self.world.start(0)
        engine.accept_loss()
        self.world.run(0.5)
        try:
            yield self.world
        finally:
            self.world.stop(0)
            engine.close()

    def held(self) -> tuple[Allegiance, int]:
        """Whose log it follows, and its epoch."""
        with self.running() as world:
            membership = world.node(0).membership.group
            return membership.allegiance, membership.epoch

    def group(self) -> bytes:
        return self.held()[0].group


@pytest.fixture
def config(tmp_path: Path) -> Path:
    prepare_cluster(tmp_path, 1, 7400, "sync")
    return config_path(tmp_path, "n1")


@pytest.fixture
def stored(config: Path) -> Stored:
    made = Stored(config)
    with made.running() as world:
        world.found()
    return made


def rebuild(config: Path, *words: str, stdin: str = "") -> Result:
    given = ["node", "rebuild-group", "--config", str(config), *words]
    return CliRunner().invoke(group, given, input=stdin, standalone_mode=False)


def test_where_nobody_can_be_asked_the_cluster_must_be_named(stored: Stored) -> None:
    was = stored.group()
    refused = rebuild(stored.path)
    assert isinstance(refused.exception, click.UsageError)
    assert f"say so with --cluster {stored.digits}" in str(refused.exception)
    assert stored.group() == was


def test_another_cluster_than_that_of_the_file_is_refused(stored: Stored) -> None:
    was = stored.group()
    refused = rebuild(stored.path, "--cluster", "00000000")
    assert f"is of cluster {stored.digits}, not of 00000000: nothing was done" in str(refused.exception)
    assert stored.group() == was


def test_who_names_the_cluster_is_asked_nothing_and_the_node_goes_on_with_another_group(
    stored: Stored,
) -> None:
    was, epoch = stored.held()
    told = rebuild(stored.path, "--cluster", stored.digits)
    assert told.return_value == 0
    assert f"the metadata group {was.group.hex()[:8]}, known here up to epoch {epoch}, was" in told.stdout
    held, later = stored.held()
    assert held.group.hex()[:8] in told.stdout
    assert held.formers == was.group
    assert epoch + SKIPPED_MIN <= later < epoch + 2 * SKIPPED_MIN + 10
    again = rebuild(stored.path, "--cluster", stored.digits)
    assert (again.return_value, stored.held()[0].formers) == (0, was.group + held.group)


def test_who_is_to_follow_keeps_its_group_until_it_meets_another(stored: Stored) -> None:
    was = stored.held()[0]
    told = rebuild(stored.path, "--cluster", stored.digits, "--follow")
    assert told.return_value == 0
    assert told.stdout.startswith(f"n1 goes over to the group that took the place of {was.group.hex()[:8]}")
    assert stored.held()[0].follows
    assert stored.group() == was.group


@pytest.mark.parametrize(
    ("follow", "meaning"),
    [((), "two groups go on"), (("--follow",), "What only the old one has decided it forgets")],
)
def test_on_a_terminal_what_it_means_is_said_first_and_the_cluster_is_typed(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, follow: tuple[str, ...], meaning: str
) -> None:
    monkeypatch.setattr(changes, "stdin_is_terminal", lambda: True)
    was = stored.group()
    wrong = rebuild(stored.path, *follow, stdin="no\n")
    assert meaning in wrong.stderr
    assert "nothing was done" in str(wrong.exception)
    assert stored.group() == was
    told = rebuild(stored.path, *follow, stdin=f"{stored.digits}\n")
    assert told.stderr.index(meaning) < told.stderr.index("to go on")
    held = stored.held()[0]
    assert (told.return_value, held.follows, held.group == was) == (0, bool(follow), bool(follow))


def refused(stored: Stored, kind: type[BasestoreError], path: Path | None = None) -> str:
    """What both ways are refused with."""
    errors = []
    for words in ((), ("--follow",)):
        error = rebuild(path or stored.path, "--cluster", stored.digits, *words).exception
        assert isinstance(error, kind)
        errors.append(str(error))
    assert errors[0] == errors[1]
    return errors[0]


def test_while_its_node_runs_nothing_is_done_to_a_store(stored: Stored) -> None:
    with stored.running() as world:
        was = world.node(0).membership.group.group
        assert "uses it already: close that node first" in refused(stored, StorageError)
    assert stored.group() == was


def test_where_no_store_is_none_is_made(config: Path) -> None:
    stored = Stored(config)
    assert "there is no store in" in refused(stored, ConfigurationError)
    assert not stored.config.directory.exists()


def test_a_node_without_a_disk_has_nothing_to_rebuild(config: Path) -> None:
    stored = written(config, replace(load(config), durability="memory"))
    assert "without a disk" in refused(stored, ConfigurationError)


def written(path: Path, config: NodeConfig) -> Stored:
    path.write_text(dump(config))
    return Stored(path)


def test_the_store_of_another_node_stays_as_it_is(stored: Stored) -> None:
    was = stored.group()
    (member,) = stored.config.cluster.members
    cluster = replace(stored.config.cluster, members=(replace(member, name="n2"),))
    other = stored.path.with_name("n2.toml")
    other.write_text(dump(replace(stored.config, cluster=cluster, name="n2")))
    assert "Correct [node] name or directory" in refused(stored, ConfigurationError, other)
    assert stored.group() == was
