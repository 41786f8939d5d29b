"""Local clusters: files of one directory, whoever has edited them."""

from dataclasses import replace
from pathlib import Path

import pytest

from basestore.config import Member, NodeConfig
from basestore.config_file import dump
from basestore.errors import ConfigurationError
from basestore.server.local_cluster import (
    HOST,
    config_path,
    plan_cluster,
    prepare_cluster,
    write_config,
)


def test_a_cluster_is_known_by_its_names_whatever_numbers_they_have(tmp_path: Path) -> None:
    configs = prepare_cluster(tmp_path, 3, 7400, "memory")
    members = configs[0].cluster.members
    renumbered = tuple(replace(m, number=number) for m, number in zip(members, (7, 65534, 3), strict=True))
    for config in configs:
        cluster = replace(config.cluster, members=renumbered)
        config_path(tmp_path, config.name).write_text(dump(replace(config, cluster=cluster)))
    for nodes, port in ((None, None), (3, None), (3, 7400)):
        assert [config.name for config in plan_cluster(tmp_path, nodes, port, None)] == ["n1", "n2", "n3"]
    assert plan_cluster(tmp_path, 3, None, None)[0].member.address == f"{HOST}:7400"


def grown(directory: Path) -> list[NodeConfig]:
    """The files and stores of n1, n2, n3 and of n4, which has joined."""
    configs = prepare_cluster(directory, 3, 7400, "sync")
    cluster = configs[0].cluster
    fourth = replace(cluster, members=(*cluster.members, Member(3, "n4", f"{HOST}:7403")))
    configs.append(NodeConfig(fourth, "n4", directory / "n4", "sync"))
    write_config(directory, configs[-1])
    for config in configs:
        config.directory.mkdir()
    return configs


def remove(directory: Path, name: str) -> None:
    """As the README has it once a member has left."""
    config_path(directory, name).unlink()
    (directory / name).rmdir()


@pytest.mark.parametrize("gone", [("n1",), ("n2",), ("n1", "n2"), ("n1", "n2", "n3")])
def test_the_files_of_members_that_have_left_may_be_removed(tmp_path: Path, gone: tuple[str, ...]) -> None:
    left = [config for config in grown(tmp_path) if config.name not in gone]
    for name in gone:
        remove(tmp_path, name)
    for nodes in (None, len(left)):
        assert prepare_cluster(tmp_path, nodes, None, None) == left
    assert not config_path(tmp_path, gone[0]).exists()
    with pytest.raises(ConfigurationError, match=f"holds a cluster of {len(left)} nodes"):
        plan_cluster(tmp_path, 5, None, None)
    with pytest.raises(ConfigurationError, match=f"begins at {left[0].member.address}"):
        plan_cluster(tmp_path, None, 7410, None)


def test_a_file_that_is_missing_beside_its_store_is_missed(tmp_path: Path) -> None:
    grown(tmp_path)
    config_path(tmp_path, "n2").unlink()
    with pytest.raises(ConfigurationError, match=r"n2\.toml: there is no such file"):
        plan_cluster(tmp_path, None, None, None)


def test_a_directory_in_which_writing_was_interrupted_counts_as_empty(tmp_path: Path) -> None:
    made = prepare_cluster(tmp_path, 3, 7400, "sync")
    config_path(tmp_path, "n1").unlink()
    anew = prepare_cluster(tmp_path, 3, 7400, "sync")
    assert len(anew) == len(made)
    assert anew[0].cluster.id != made[0].cluster.id
