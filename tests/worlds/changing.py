"""Changing: what the cluster is, changed by its log, in a world whose time moves by hand."""

from basestore.errors import RequestFailed
from basestore.topology.entries import Change, CreateBucket, DropBucket, Suggestion, encode_entry
from basestore.topology.topology import Outcome
from tests.worlds.world import TICK_S, World

WAIT_S = 5.0


def change(world: World, at: int, change: Change) -> Outcome:
    """Have it decided, asked of this node; what has become of it."""
    node, now, ended = world.node(at), world.now(at), list[Outcome]()
    identity = 1 + hash((at, world.monotonic)) % (1 << 40)
    entry = encode_entry(Suggestion(change, identity, node.membership.group.me.number, now.wall_ms))

    def end(became: Outcome | RequestFailed, _: object) -> None:
        assert isinstance(became, Outcome), became
        ended.append(became)

    node.membership.asking.change(entry, WAIT_S, end, now)
    for _ in range(round(WAIT_S / TICK_S)):
        world.run(TICK_S)
        if ended:
            return ended[0]
    raise AssertionError("nothing has become of it")


def create(world: World, name: str, *, at: int = 0, rule: str = "last-write-wins") -> int:
    """A bucket; its number."""
    outcome = change(world, at, CreateBucket(name, rule, [0, 0, 0, 0]))
    assert not outcome.error
    return outcome.number


def drop(world: World, name: str, *, at: int = 0) -> int:
    """A bucket; the epoch."""
    outcome = change(world, at, DropBucket(name))
    assert not outcome.error
    return outcome.epoch
