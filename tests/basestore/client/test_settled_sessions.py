"""Sessions forget what is stable: every replica holds it, so no promise needs it to be remembered.

Covers `client/session.py`.
"""

from basestore.client.session import Session
from basestore.protocol.client import Delete, Get, Got, Set, Written
from basestore.protocol.codec import Message
from basestore.repair.rule import Rule
from basestore.repair.version import Identity, Version
from tests.worlds.following import converged
from tests.worlds.world import World


def session(keys_max: int = 10) -> Session:
    return Session(bytes(16), {"once": Rule.FIRST_WRITE_WINS}, keys_max)


def version(stamp: int) -> bytes:
    return Version(stamp, 1, 1).encode()


def known(stamp: int) -> bytes:
    return Identity(b"proposed", Version(stamp, 1, 1), b"checked!").encode()


def get(key: str) -> Get:
    return Get(1, "default", key.encode(), 1, 1000, b"", True)


def got(stamp: int, stable: int) -> Got:
    return Got(1, True, b"v", version(stamp) if stamp else b"", 0, 1, 1, False, 0, stable=stable)


def written(seen: Session, key: str, stamp: int) -> None:
    request = Set(1, "default", key.encode(), b"v", 2, 1000, 0, b"")
    seen.begin(request)
    seen.end(request, Written(1, 0, 0, known(stamp), 2, 2, [], b"", 0))


def read(seen: Session, key: str, stamp: int, stable: int) -> bytes:
    """Returns the floor that was asked for."""
    request = seen.begin(get(key))
    assert request.tell
    seen.end(request, got(stamp, stable))
    return request.floor


def test_a_version_that_is_stable_is_forgotten() -> None:
    seen = session()
    written(seen, "k", 10)
    assert read(seen, "k", 10, stable=9) == version(10)
    assert len(seen) == 1
    assert read(seen, "k", 10, stable=10) == version(10)
    assert len(seen) == 0
    assert read(seen, "k", 10, stable=0) == b""


def test_only_the_key_that_was_read_is_known_to_be_stable() -> None:
    seen = session()
    written(seen, "a", 5)
    written(seen, "b", 5)
    read(seen, "a", 5, stable=99)
    assert len(seen) == 1
    assert seen.floor("default", b"b") == version(5)


def test_what_was_purged_is_forgotten_though_nothing_is_found() -> None:
    seen = session()
    written(seen, "k", 10)
    read(seen, "k", 0, stable=12)
    assert len(seen) == 0


def test_what_is_forgotten_makes_room() -> None:
    seen = session(keys_max=1)
    for at in range(5):
        written(seen, f"k{at}", 10 + at)
        read(seen, f"k{at}", 10 + at, stable=50)
    assert len(seen) == 0
    assert seen.token == session().token


def test_requests_under_way_keep_their_room_when_the_key_is_forgotten() -> None:
    seen = session(keys_max=1)
    written(seen, "k", 10)
    slow = Delete(2, "default", b"k", 2, 1000, b"")
    seen.begin(slow)
    read(seen, "k", 10, stable=10)
    assert len(seen) == 0
    seen.end(slow, Written(2, 0, 0, known(20), 2, 2, [], b"", 0))
    assert seen.floor("default", b"k") == version(20)
    read(seen, "k", 20, stable=20)
    written(seen, "other", 30)
    assert len(seen) == 1


def asked(world: World, at: int, seen: Session, request: Message) -> None:
    begun = seen.begin(request)
    call = world.ask(at, lambda number: begun._replace(id=number))
    world.settle()
    seen.end(begun, call.answer)


def test_a_replica_tells_a_session_what_is_stable() -> None:
    world = World(3, reconcile=True)
    seen = session()
    asked(world, 0, seen, Set(1, "default", b"k", b"v", 2, 1000, 0, b""))
    asked(world, 1, seen, get("k"))
    assert len(seen) == 1
    assert converged(world).proven
    asked(world, 1, seen, get("k"))
    assert len(seen) == 0
