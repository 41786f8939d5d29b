"""Members are known by their numbers: the order in which a file lists them means nothing.

Covers `cluster/peers.py` and the numbers in `basestore/config.py`.
"""

import re
from pathlib import Path

import pytest

from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.config_file import dump, load, parse
from basestore.consistency import Level
from basestore.errors import ConfigurationError
from basestore.protocol.limits import ProtocolError
from basestore.server.local_cluster import config_path, prepare_cluster
from tests.worlds.world import World, number_of

TABLE = re.compile(r"\[\[members\]\]\n(?:\w.+\n)+")


def turned(config: NodeConfig) -> NodeConfig:
    """As a node reads it out of a file that lists the members the other way round."""
    text = dump(config)
    tables = iter(reversed(TABLE.findall(text)))
    return parse(TABLE.sub(lambda _: next(tables), text), "turned.toml", config.directory.parent)


def test_nodes_whose_files_list_the_members_in_another_order_work_together() -> None:
    world, usual = World(3, born=False), World(3)
    world.configs[1] = turned(world.configs[1])
    for index in range(3):
        world.start(index)
    world.run(0.2)
    assert all(node.linked for node in world.running)
    assert world.configs[1].cluster.digest == world.configs[0].cluster.digest
    for at in range(3):
        written, as_usual = world.put(at, f"k{at}", "v", Level.ALL), usual.put(at, f"k{at}", "v", Level.ALL)
        assert written.version is not None
        assert written.version.origin >> 48 == number_of(at) + 1
        assert written.replicas == as_usual.replicas
        assert written.partition == as_usual.partition
        assert world.look(2 - at, f"k{at}", Level.ALL).version == written.version


def test_numbers_and_indices_are_translated_and_strangers_are_refused() -> None:
    peers = Peers({3: "n1", 8: "n2", 65534: "n3"}, 1, set[Outbox](), 2000, 0)
    assert [peers.index_of[number] for number in peers.number_of] == [0, 1, 2]
    assert [(peer.number, peer.name) for peer in peers.all] == [(3, "n1"), (8, "n2"), (65534, "n3")]
    peers.check_known([65534, 3])
    for stranger in (0, 1, -1, 65535, 1 << 64):
        with pytest.raises(ProtocolError, match="names a member"):
            peers.check_known([3, stranger])


def test_up_gives_numbers_to_the_members_of_its_own_files(tmp_path: Path) -> None:
    made = prepare_cluster(tmp_path, 3, None, None)
    paths = [config_path(tmp_path, config.name) for config in made]
    for path in paths:
        path.write_text(re.sub(r"number = .*\n", "", path.read_text()))
        with pytest.raises(ConfigurationError, match=r"number = 2 .*n3"):
            load(path)
    assert prepare_cluster(tmp_path, None, None, None) == made
    assert [load(path) for path in paths] == made
    assert [member.number for member in made[0].cluster.members] == [0, 1, 2]
