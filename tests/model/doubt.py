"""Doubt: all stores may have lost something at once, and have none but each other to recover from.

Each is as it was last, or an older copy, or empty. What none of them has any more is lost, and nobody can be
blamed for that. What one has must be on all in the end, unless another knows that it was purged: so one that
is complete up to a lower stamp drops what it alone has of what the other has purged.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.model.replica import Store

if TYPE_CHECKING:
    from tests.model.world import ModelWorld


def doubt_all(world: "ModelWorld") -> None:
    """By chance, while none is in doubt."""
    if world.random.random() < 0.5 or any(replica.store.forgetful for replica in world.replicas):
        return
    empty = world.random.choice((None, None, *world.replicas))
    images = [
        None if each is empty else each.backup if world.random.random() < 0.4 else each.disk
        for each in world.replicas
    ]
    world.counts["all in doubt"] += 1
    lose_all(world, images)


def lose_all(world: "ModelWorld", images: Sequence[Store | None]) -> None:
    """Every store becomes this image of it. What was under way ends."""
    world.pool.clear()
    for coordinator in world.coordinators:
        coordinator.crash()
    for replica, image in zip(world.replicas, images, strict=True):
        world.end_sessions(replica.place)
        replica.lose(image, world.store_ids)
        world.store_ids += 1
        world.awake[replica.place] = world.now + world.rest()
    world.judge.lose({stamp for coordinator in world.coordinators for stamp in coordinator.hints})
