"""Deferring: writes that a node keeps for later, as if it had too much to do, in a world whose time moves by
hand."""

from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.instant import Instant
from basestore.node import Node
from basestore.protocol.client import Delete, Set
from basestore.protocol.codec import Message
from basestore.protocol.groups import singly
from basestore.repair.version import Identity
from tests.worlds.world import Call, World

PROPOSAL = b"proposed"
_receive = Node.receive_client


def receive(self: Node, outbox: Outbox, messages: list[Message], now: Instant) -> Message | None:
    """In the place of `Node.receive_client`: what may be deferred is deferred, the rest is taken up."""
    others = []
    for message in singly(messages):
        if isinstance(message, Set | Delete) and self.deferred_writes.may_defer(outbox, message):
            self.deferred_writes.defer(outbox, message, now)
        else:
            others.append(message)
    return _receive(self, outbox, others, now)


def ask(world: World, at: int, request: Set | Delete) -> Call:
    """Put it to a node that defers it. Nothing moves yet."""
    client = world.clients[at]
    assert client is not None
    numbered = request._replace(id=client.number())
    world.node(at).deferred_writes.defer(client.outbox, numbered, world.now(at))
    return Call(client, numbered.id, Level.ANY)


def defer(
    world: World, at: int, key: str = "k", value: str | None = "v", *, bucket: str = "default",
    level: Level = Level.ANY, ttl_ms: int = 0, identity: bytes | Identity = PROPOSAL, after: int = 0,
) -> Call:  # fmt: skip
    """Put a write to a node that defers it; no value: a delete. An `Identity` repeats a write."""
    again = isinstance(identity, Identity)
    known_by = identity.encode() if isinstance(identity, Identity) else identity
    if value is None:
        return ask(world, at, Delete(0, bucket, key.encode(), level, 1000, known_by, again, after, True))
    content = value.encode()
    return ask(
        world, at, Set(0, bucket, key.encode(), content, level, 1000, ttl_ms, known_by, again, after, True)
    )
