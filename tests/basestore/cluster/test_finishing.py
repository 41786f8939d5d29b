"""Who has finished what it had accepted, and which exchanges prove it. Covers `cluster/finishing.py`."""

from collections.abc import Callable

from basestore.cluster.finishing import AGAIN_S, LOOK_S, Finishing
from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.cluster.seating import Seating
from basestore.instant import Instant
from basestore.protocol.membership import Finished, FinishedRow
from basestore.repair.seats import Seats, Stage

A, B = b"a" * 16, b"b" * 16
S = (0, 1, 2)


class Scene:
    """n1, which holds partitions 7 and 8 with n2 and n3, and compares 7 with n4, too, as that moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.peers = Peers({n: f"n{n}" for n in (1, 2, 3, 4)}, 0, set(), 1000, 0)
        self.outboxes = [self.peers.link(index, self.now) for index in (1, 2, 3)]
        self.seating = Seating(0, {7: Seats(4, Stage.JOINT, S, (0, 1, 3)), 8: Seats.still(S, 2)})
        self.seating.dropped_since = 0
        self.durable: list[Callable[[], object]] = []
        self.finishing = Finishing(self.seating, self.peers, self.durable.append, lambda member: A)
        self.finishing.level = lambda: 12
        self.finishing.unfinished = lambda partition, since: False

    @property
    def now(self) -> Instant:
        return Instant(int(self.now_s * 1000), self.now_s)

    def said(self) -> list[list[tuple[int, int]]]:
        """What n2, n3 and n4 are told, as of now."""
        self.now_s += LOOK_S
        self.finishing.tick(self.now)
        for action in self.durable:
            action()
        self.durable.clear()
        told = []
        for index in (1, 2, 3):
            messages = self.peers.all[index].outbox.take()
            rows = [row[:2] for each in messages if isinstance(each, Finished) for row in each.rows]
            told.append(rows)
        return told

    def hear(self, member: int, partition: int, since: int, floor: bytes = b"") -> None:
        """A word of a member, whose floor is durable here at once."""
        said = Finished([FinishedRow(partition, since, floor)])
        self.finishing.hear(member, Outbox(set()), said, self.now)
        for action in self.durable:
            action()
        self.durable.clear()


def test_only_of_what_changes_it_is_said_once_to_those_that_compare_it() -> None:
    scene = Scene()
    assert scene.said() == [[(7, 4)]] * 3
    assert scene.said() == [[], [], []]
    scene.seating.bind({}, {8: {2}}, {})
    assert scene.said() == [[(8, 2)], [(8, 2)], []]
    scene.seating.seat(7, Seats.still((0, 1, 3), 5))  # it has moved
    scene.seating.bind({}, {}, {})
    assert scene.said() == [[], [], []]


def test_it_is_said_when_it_comes_to_be_so_and_anew_under_the_next_epoch() -> None:
    scene, unfinished = Scene(), {7}
    scene.finishing.unfinished = lambda partition, since: partition in unfinished
    assert scene.said() == [[], [], []]
    unfinished.clear()
    assert scene.said() == [[(7, 4)]] * 3
    unfinished.add(7)
    scene.seating.seat(7, Seats(6, Stage.JOINT, S, (0, 1, 3)))
    assert scene.said() == [[], [], []]
    unfinished.clear()
    assert scene.said() == [[(7, 6)]] * 3


def test_on_a_new_link_it_is_said_again_and_not_on_one_that_cannot_carry_it() -> None:
    scene = Scene()
    scene.outboxes[1].version = 11
    assert scene.said() == [[(7, 4)], [], [(7, 4)]]
    scene.peers.link(1, scene.now)
    scene.peers.link(2, scene.now)
    assert scene.said() == [[(7, 4)], [(7, 4)], []]


def test_now_and_then_it_is_said_again_for_a_full_outbox_takes_nothing() -> None:
    scene = Scene()
    outbox = scene.outboxes[0]
    while outbox.put(Finished([]), 1 << 20):
        pass
    assert scene.said() == [[], [(7, 4)], [(7, 4)]]
    scene.now_s += AGAIN_S
    assert scene.said() == [[(7, 4)]] * 3
    assert scene.said() == [[], [], []]


def test_it_leaves_only_once_what_was_learned_is_durable() -> None:
    scene = Scene()
    scene.finishing.tick(scene.now)
    assert all(not each.messages for each in scene.outboxes)
    assert len(scene.durable) == 3


def test_below_the_level_nothing_is_said_and_nothing_asked_for() -> None:
    scene = Scene()
    scene.finishing.level = lambda: 11
    scene.finishing.unfinished = lambda partition, since: True
    assert scene.said() == [[], [], []]
    assert scene.finishing.proves(7, 1, A, 0.0)
    assert scene.finishing.own(7, A)


def test_an_exchange_proves_it_that_was_begun_behind_the_word_of_the_present_epoch() -> None:
    scene = Scene()
    proves = scene.finishing.proves
    assert not proves(7, 1, A, 200.0)
    scene.hear(1, 7, 4)
    assert scene.finishing.news == 1
    assert [proves(7, 1, A, begun_s) for begun_s in (99.0, 100.0, 100.1)] == [False, False, True]
    assert not proves(7, 2, A, 200.0)
    assert not proves(8, 1, A, 200.0)
    scene.now_s = 150.0
    scene.hear(1, 7, 4)  # on another link
    assert proves(7, 1, A, 100.1)
    assert scene.finishing.news == 1
    scene.seating.seat(7, Seats(6, Stage.JOINT, S, (0, 1, 3)))
    assert not proves(7, 1, A, 200.0)
    scene.hear(1, 7, 6)
    scene.hear(1, 7, 4)  # an old word
    assert proves(7, 1, A, 200.0)


def test_with_a_store_that_its_member_is_not_bound_to_none_does() -> None:
    scene = Scene()
    scene.hear(1, 7, 4)
    scene.seating.bind({1: A}, {}, {})
    assert scene.finishing.proves(7, 1, A, 200.0)
    assert not scene.finishing.proves(7, 1, B, 200.0)
    scene.seating.bind({2: A}, {}, {})
    assert scene.finishing.proves(7, 1, B, 200.0)  # it is bound to none, and has accepted nothing


def test_a_node_counts_for_itself_once_it_has_finished_and_on_the_store_that_it_is_bound_to() -> None:
    scene = Scene()
    own = scene.finishing.own
    assert own(7, A)
    scene.finishing.unfinished = lambda partition, since: (partition, since) == (7, 4)
    assert [own(7, A), own(8, A)] == [False, True]
    scene.finishing.unfinished = lambda partition, since: False
    scene.seating.bind({0: A}, {}, {})
    assert [own(7, A), own(7, B)] == [True, False]


def test_with_it_goes_a_floor_which_is_durable_before_the_word_counts() -> None:
    scene, raised = Scene(), dict[int, bytes]()
    scene.finishing.raise_floor = raised.__setitem__
    scene.finishing.floor = lambda partition: bytes([partition]) * 16
    scene.finishing.hear(1, Outbox(set()), Finished([FinishedRow(7, 4, b"f" * 16)]), scene.now)
    assert raised == {7: b"f" * 16}
    assert not scene.finishing.proves(7, 1, A, 200.0)
    for action in scene.durable:
        action()
    assert scene.finishing.proves(7, 1, A, 200.0)
    scene.durable.clear()
    scene.finishing.tick(Instant(200_000, 200.0))
    for action in scene.durable:
        action()
    (said,) = scene.peers.all[1].outbox.take()
    assert said == Finished([FinishedRow(7, 4, b"\7" * 16)])
