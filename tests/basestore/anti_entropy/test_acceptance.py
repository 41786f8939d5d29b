"""An operator accepts the losses that were shown, up to the moments that were shown, and nothing else.

Covers `results/loss.py` and what members make of it.
"""

import pytest

from basestore.client.arguments import scope_of
from basestore.protocol.anti_entropy import LossRow
from basestore.results import loss
from basestore.results.loss import AcceptedLoss, Accepting
from tests.worlds.following import loss_accepted, names
from tests.worlds.world import World


def lossy(*, replication: int | None = None, partitions: int = 4) -> World:
    """Two of three disks were lost, and all nodes know it."""
    world = World(3, replication=replication, partitions=partitions, reconcile=True)
    world.run(4)
    for index in (1, 2):
        world.wipe(index)
    for index in (1, 2):
        world.start(index)
    world.run(8)
    return world


def open_losses(world: World) -> set[LossRow]:
    return {row for node in world.running for row in node.losses.all_open}


def one_round(world: World, survey: Accepting) -> AcceptedLoss | None:
    """A question, its answer, and what follows."""
    call, sent_s = world.ask(0, survey.request), world.monotonic
    world.settle()
    assert call.answer is not None
    survey.hear(call.answer, names(world), sent_s)
    return survey.result(world.monotonic)


def accepting(world: World) -> Accepting:
    return Accepting(scope_of("default", None), 5.0, world.monotonic)


@pytest.mark.parametrize("again", [True, False])
def test_what_is_found_lost_while_another_loss_is_accepted_stays_open(again: bool) -> None:
    """`again`: it is of the same member and as many sources as the one that was shown."""
    world = lossy()
    survey, shown = accepting(world), open_losses(world)
    assert {row.number for row in shown} == {world.cluster.members[index].number for index in (1, 2)}
    assert one_round(world, survey) is None
    world.run(8)
    node = world.node(2 if again else 0)
    node.losses.note(dict.fromkeys(node.summaries.of, 1), world.now(2))
    world.settle()
    found = one_round(world, survey)
    assert found is not None
    assert found.accepted
    assert not found.complete
    assert found.until_ms == max(row.upto for row in shown) >> 16
    assert {each.kind for each in found.obstacles} == {"lost"}
    left = open_losses(world)
    assert {row.number for row in left} == {node.peers.number_of[node.me]}
    assert all(row.upto > max(each.upto for each in shown) for row in left)
    assert loss_accepted(world).complete
    assert not open_losses(world)


def test_a_row_that_nobody_can_heal_is_given_up_only_once_no_loss_of_its_partition_is_open() -> None:
    world = World(1, partitions=1, reconcile=True)
    world.put(0, "key", "value")
    world.run(2)
    world.spoil(0, "key")
    world.get(0, "key")
    world.run(4)
    survey = accepting(world)
    assert one_round(world, survey) is None
    world.run(8)
    world.node(0).losses.note({0: 0}, world.now(0))
    found = one_round(world, survey)
    assert found is not None
    assert not found.complete
    assert world.node(0).replica.damaged
    assert loss_accepted(world).complete
    assert not world.node(0).replica.damaged


def test_more_losses_than_one_request_takes_are_accepted_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "ROWS_MAX", 3)
    world = lossy(partitions=16)
    assert len(open_losses(world)) > 30
    sent: list[int] = []
    survey = accepting(world)
    while (found := one_round(world, survey)) is None:
        sent.append(len(survey.request(0).accepted))
        world.run(0.05)
    assert found.complete
    assert max(sent) == 3
    assert not open_losses(world)
