"""How long what is written to a register with a ttl lives. Covers `registers/records.py`, and
`Stamper.expiry_of_proposed_ms`."""

from basestore.protocol.client import OUTCOME_LOST, OUTCOME_STORED, Written
from tests.worlds.registers import IF_ABSENT, IF_VERSION, RegisterWorld


def test_a_write_with_a_ttl_behind_a_rest_is_visible_for_its_ttl() -> None:
    world = RegisterWorld()
    home = world.home("k")
    world.put_register(home, "k", "1")
    world.run(2.5)  # nobody writes
    stored = world.done(world.write(home, "k", "2", ttl_s=2.0))
    assert stored.outcome == OUTCOME_STORED
    assert world.found_at(home, "k") == b"2"


def test_a_lock_with_a_ttl_has_one_holder() -> None:
    world = RegisterWorld()
    home = world.home("lock")
    world.put_register(home, "lock", "a")
    world.done(world.remove(home, "lock"))
    world.run(2.5)
    first = world.done(world.write(home, "lock", "b", IF_ABSENT, ttl_s=2.0))
    assert first.outcome == OUTCOME_STORED
    second = world.done(world.write((home + 1) % 3, "lock", "c", IF_ABSENT, ttl_s=2.0))
    assert second.outcome == OUTCOME_LOST, "two hold it at once"


def test_with_the_default_lag_in_a_lease_of_ten_seconds() -> None:
    world = RegisterWorld(timeout_ms_max=10_000, reconcile=True)
    home = world.home("lock")
    world.put_register(home, "lock", "a")
    world.done(world.remove(home, "lock"))
    world.run(11.0)
    first = world.done(world.write(home, "lock", "b", IF_ABSENT, ttl_s=10.0))
    assert first.outcome == OUTCOME_STORED
    world.run(0.1)
    second = world.done(world.write((home + 1) % 3, "lock", "c", IF_ABSENT, ttl_s=10.0))
    assert second.outcome == OUTCOME_LOST, "two hold it at once"


def test_a_lease_renewed_every_third_of_it_never_lapses() -> None:
    """As whoever holds a lease does it: by its version, well before it ends."""
    world = RegisterWorld(timeout_ms_max=10_000, reconcile=True)
    home = world.home("lease")
    held = world.done(world.write(home, "lease", "me", IF_ABSENT, ttl_s=4.0))
    for _ in range(5):
        world.run(1.6)
        held = world.done(world.write(home, "lease", "me", IF_VERSION, held.version, ttl_s=4.0))
        assert held.outcome == OUTCOME_STORED
        world.run(1.6)  # less than half of it
        stolen = world.done(world.write((home + 1) % 3, "lease", "other", IF_ABSENT, ttl_s=4.0))
        assert stolen.outcome == OUTCOME_LOST, "a lease of 4 s was taken by another after 1.6 s"


def test_a_slow_prepare_does_not_shorten_the_ttl() -> None:
    """Acceptors that hang for 3 s (slow fsync, a pause): the ballot is 3 s old when the record is made."""
    world = RegisterWorld(timeout_ms_max=10_000)
    home = world.home("k")
    world.freeze(0, 1, 2)
    call = world.write(home, "k", "1", ttl_s=2.0, timeout_s=8.0)
    world.run(2.5)
    world.thaw(0, 1, 2)
    world.until(lambda: call.done)
    answer = call.reply()
    assert isinstance(answer, Written)
    assert answer.outcome == OUTCOME_STORED
    assert world.found_at(home, "k") == b"1"
