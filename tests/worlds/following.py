"""Following: what a client does that waits for a result, in a world whose time moves by hand."""

from collections.abc import Mapping
from typing import TypeVar

from basestore.client.arguments import scope_of
from basestore.protocol.handshake import Names
from basestore.results.cluster_view import Following, Obstacle
from basestore.results.convergence import Convergence, Proving
from basestore.results.loss import AcceptedLoss, Accepting, Missing
from basestore.results.receipts import Receipt, Writes
from basestore.results.repair import Repair, Repairing
from tests.worlds.world import TICK_S, World

T = TypeVar("T")


def follow(world: World, survey: Following[T], at: int = 0) -> T:
    """Drive it at a node until it has a result."""
    while (result := survey.result(world.monotonic)) is None:
        call, sent_s = world.ask(at, survey.request), world.monotonic
        world.settle()
        while not call.done:
            world.run(TICK_S)
        assert call.answer is not None
        survey.hear(call.answer, names(world), sent_s)
        if survey.pause_s:
            world.run(survey.pause_s)
    return result


def names(world: World) -> Names:
    return world.names


def converged(
    world: World,
    at: int = 0,
    *,
    key: str | None = None,
    bucket: str = "default",
    receipt: Receipt | None = None,
    timeout_s: float = 30.0,
) -> Convergence:
    scope = scope_of(bucket, key)
    return follow(world, Proving(scope, receipt, timeout_s, world.monotonic), at)


def repaired(
    world: World, at: int = 0, *, partition: int | None = None, full: bool = False, timeout_s: float = 30.0
) -> Repair:
    scope = scope_of("default", None, partition)
    return follow(world, Repairing(scope, full, timeout_s, world.monotonic), at)


def loss_accepted(world: World, at: int = 0, *, timeout_s: float = 5.0) -> AcceptedLoss:
    return follow(world, Accepting(scope_of("default", None), timeout_s, world.monotonic), at)


def missing(world: World, written: Mapping[int, Writes] | Writes, at: int = 0) -> tuple[Obstacle, ...]:
    return follow(world, Missing(written, 30.0, world.monotonic), at)
