"""Local clusters: files of one directory, whoever has edited them."""

from dataclasses import replace
from pathlib import Path

from basestore.config_file import dump
from basestore.server.local_cluster import HOST, config_path, plan_cluster, prepare_cluster


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
