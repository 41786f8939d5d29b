"""Rows of registers whose record is damaged, and healed by what others have learned: what was chosen stays.
Covers `registers/acceptors.py` with `anti_entropy/healing.py`."""

import pytest

from basestore.protocol.client import IF_VERSION, OUTCOME_STORED
from basestore.storage import keyspace
from tests.worlds.damaged import chosen_by_two, heal
from tests.worlds.registers import RegisterWorld


@pytest.mark.parametrize("swept", [False, True], ids=["accepted", "told by another"])
def test_a_chosen_write_outlives_one_damaged_row(swept: bool) -> None:
    world = RegisterWorld(reconcile=True)
    home, other, third, old = chosen_by_two(world)
    if swept:  # what it had accepted is not stored any more, for it has learned that
        key = keyspace.acceptor(world.row("k", "cas"))
        world.node(home).group_commit.stage(key, None)
        world.run(0.1)
    else:
        world.node(other).replica.pending = lambda row: b""
    heal(world, home)
    world.crash(other)
    world.run(3.0)
    assert {at: world.found_at(at, "k") for at in (home, third)} == {home: b"chosen", third: b"chosen"}
    again = world.put_register(third, "k", "two", IF_VERSION, old)
    assert again.outcome != OUTCOME_STORED, "two successors of one version"
