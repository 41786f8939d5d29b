"""Members are known by their numbers: the order in which a file lists them means nothing. They come and go.

Covers `cluster/peers.py` and the numbers in `basestore/config.py`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import FAREWELL_S, Peers
from basestore.config import NodeConfig
from basestore.config_file import dump, load, parse
from basestore.consistency import Level
from basestore.errors import ConfigurationError
from basestore.instant import Instant
from basestore.protocol.handshake import Goodbye
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


class Told:
    """A room that keeps something by member."""

    def __init__(self, peers: Peers) -> None:
        self.heard: list[tuple[str, int]] = []
        peers.watch(
            lambda peer: self.heard.append(("comes", peer.index)),
            lambda peer, now: self.heard.append(("leaves", peer.index)),
        )


NOW = Instant(1_760_000_000_000, 1000.0)
THREE = {3: "n1", 8: "n2", 20: "n3"}


def members(formers: Mapping[int, str] | None = None, spare: int = 1) -> Peers:
    return Peers(THREE, 1, set[Outbox](), 2000, spare, formers)


def alive(peers: Peers, *indices: int) -> None:
    for index in indices:
        peers.set_alive(index, True)


def test_who_comes_has_a_place_behind_all_others_and_is_not_alive() -> None:
    peers = members()
    told = Told(peers)
    alive(peers, 0, 1, 2)
    assert peers.all_alive
    peers.adopt({**THREE, 31: "n4"}, {}, NOW)
    assert told.heard == [("comes", 3)]
    assert (peers.index_of[31], peers.number_of[3], peers.named["n4"].index) == (3, 31, 3)
    assert [peer.name for peer in peers.others] == ["n1", "n3", "n4"]
    assert not peers.all_alive
    assert not peers.send(3, Goodbye(""))
    outbox = peers.link(3, NOW)
    assert outbox is peers.all[3].outbox
    alive(peers, 3)
    assert peers.all_alive
    assert len(peers.distance) == len(peers.disk_behind) == len(peers.alive) == len(peers.clock.offsets) == 4


def test_who_has_left_counts_for_nothing_and_its_number_stays_known() -> None:
    peers = members()
    told = Told(peers)
    alive(peers, 0, 1)
    outbox = peers.link(2, NOW)
    peers.tell_epoch(2, 7)
    peers.note_disk(2, True)
    assert not peers.all_level
    assert peers.any_disk_behind
    peers.adopt({3: "n1", 8: "n2"}, {20: "n3"}, NOW)
    assert told.heard == [("leaves", 2)]
    assert peers.all_alive
    assert peers.all_level
    assert not peers.any_disk_behind
    assert [peer.name for peer in peers.others] == ["n1"]
    peers.check_known([20])
    peers.set_alive(2, True)
    assert not peers.alive[2]
    assert not peers.wanted(2)
    assert not peers.hears(2, NOW)
    # Its link stands for a while yet, for it is told there.
    assert peers.ends(NOW) == []
    later = Instant(NOW.wall_ms + 10_000, NOW.monotonic + FAREWELL_S)
    assert peers.ends(later) == [2]
    assert peers.unlink(2, outbox, later)
    assert peers.ends(later) == []


def test_a_name_goes_to_who_comes_under_it_in_the_step_in_which_the_other_leaves() -> None:
    peers = members()
    told = Told(peers)
    peers.adopt({3: "n1", 8: "n2", 31: "n3"}, {20: "n3"}, NOW)
    assert told.heard == [("leaves", 2), ("comes", 3)]
    assert peers.named["n3"].number == 31


def test_those_that_had_left_before_an_opening_have_places_behind_those_that_have_not() -> None:
    peers = members({5: "n9", 7: "n1"})
    assert peers.number_of == [3, 8, 20, 5, 7]
    assert [peer.number for peer in peers.present] == [3, 8, 20]
    assert (peers.named["n1"].number, peers.named["n9"].number) == (3, 5)
    peers.check_known([5, 7])
    alive(peers, 0, 1, 2)
    assert peers.all_alive
    assert peers.clock.offsets == [None, 0, None, None, None]
    peers.adopt({**THREE, 31: "n9"}, {5: "n9", 7: "n1"}, NOW)
    assert peers.named["n9"].index == 5


def test_who_came_and_left_unseen_is_known_all_the_same() -> None:
    peers = members()
    told = Told(peers)
    peers.adopt(THREE, {21: "n3"}, NOW)
    assert told.heard == [("comes", 3)]  # as one that has left
    assert peers.all[3].gone
    assert peers.named["n3"].number == 20
    peers.check_known([21])


def test_a_number_that_is_not_given_yet_is_no_strangers_and_one_that_never_was_is() -> None:
    peers = members()
    for unknown in (21, 4):
        with pytest.raises(ProtocolError, match="names a member"):
            peers.check_known([unknown])
    peers.adopt(THREE, {}, NOW)
    peers.check_known([21])
    with pytest.raises(ProtocolError, match="names a member"):
        peers.check_known([4])
    peers.unknowing = lambda: True
    peers.check_known([4])


def test_this_node_itself_is_not_taken_for_one_that_has_left_before_it_was_added() -> None:
    peers = Peers({**THREE, 31: "n4"}, 3, set[Outbox](), 2000, 0)
    peers.adopt(THREE, {}, NOW)
    assert not peers.left
    assert [peer.name for peer in peers.others] == ["n1", "n2", "n3"]
    peers.adopt({3: "n1", 8: "n2", 20: "n3", 31: "n4"}, {}, NOW)
    assert not peers.left
    peers.adopt(THREE, {31: "n4"}, NOW)
    assert peers.left
    assert peers.others == []
    alive(peers, 0, 1, 2)
    assert not peers.all_alive


def test_when_this_node_has_left_all_its_links_end_at_once() -> None:
    peers = members()
    for index in (0, 2):
        peers.link(index, NOW)
    peers.adopt({3: "n1", 20: "n3"}, {8: "n2"}, NOW)
    assert peers.ends(NOW) == [0, 2]
    assert not peers.wanted(0)


def test_which_of_two_is_the_lower_goes_by_numbers_wherever_they_stand() -> None:
    peers = Peers({8: "n2", 20: "n3"}, 1, set[Outbox](), 2000, 0)
    peers.adopt(THREE, {}, NOW)  # its file did not name n1
    assert peers.index_of[3] == 2
    assert [peers.precedes(index) for index in range(3)] == [True, False, True]


def test_whose_disk_is_behind_is_asked_last_though_members_come_meanwhile() -> None:
    peers = members()
    before = list(peers.distance)
    peers.note_disk(2, True)
    assert peers.distance[2] == max(peers.distance)
    peers.adopt({**THREE, 31: "n4"}, {}, NOW)
    peers.note_disk(2, False)
    assert peers.distance == [*before, 1]
