"""Deferring: writes that a node keeps for later, as if it had too much to do, in a world whose time moves by
hand."""

from basestore.consistency import Level
from basestore.protocol.client import Delete, Set
from basestore.repair.version import Identity
from tests.worlds.world import Call, World

PROPOSAL = b"proposed"


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
