"""Changing: what the cluster is, changed by its log, in a world whose time moves by hand."""

from basestore.errors import RequestFailed
from basestore.instant import Instant
from basestore.topology.changes import Change, CreateBucket, DropBucket
from basestore.topology.entries import Suggestion, encode_entry
from basestore.topology.topology import Outcome, Topology
from tests.worlds.world import TICK_S, World

WAIT_S = 5.0
CARTS = CreateBucket("carts", "last-write-wins", [0, 0, 0, 0])


class Asked:
    """A change that was asked for at a node, and what has become of it."""

    def __init__(
        self, world: World, index: int, change: Change, identity: int, timeout_s: float = 3.0,
        *, again: bool = False,
    ) -> None:  # fmt: skip
        self.became: Outcome | RequestFailed | None = None
        node, now = world.node(index), world.now(index)
        entry = encode_entry(Suggestion(change, identity, node.config.member.number, now.wall_ms))
        node.membership.asking.change(entry, timeout_s, self._end, now, again=again)

    def _end(self, became: Outcome | RequestFailed, now: Instant) -> None:
        assert self.became is None, "it was answered twice"
        self.became = became


def topologies(world: World) -> list[Topology | None]:
    return [node.membership.group.topology for node in world.running]


def voters(world: World, index: int) -> list[int]:
    raft = world.node(index).membership.group.raft
    assert raft is not None
    return sorted(voter.number for voter in raft.voters)


def leaders(world: World) -> list[str]:
    return [
        node.name for node in world.running if (raft := node.membership.group.raft) is not None and raft.leads
    ]


def decided(asked: Asked) -> Outcome:
    assert isinstance(asked.became, Outcome), asked.became
    return asked.became


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
