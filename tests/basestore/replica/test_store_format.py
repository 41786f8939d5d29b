"""The form of a store: written when it is made, and refused by name where it is another."""

import pytest

from basestore.errors import StorageError
from basestore.replica.store_facts import FACTS, FORMAT, FORMAT_KEY
from tests.worlds.world import World


def test_a_store_says_its_format_from_its_first_batch_on() -> None:
    world = World(1)
    assert int.from_bytes(world.engines[0].get(FORMAT_KEY) or b"") == FORMAT
    world.put(0, "k", "v")
    world.restart(0)
    assert world.look(0, "k").value == b"v"


@pytest.mark.parametrize("number", [0, FORMAT + 1, FORMAT + 300])
def test_a_store_of_another_format_is_refused_by_name(number: int) -> None:
    world = World(1)
    world.stop(0)
    before = dict(world.engines[0].scan(b"", b"\xff"))
    world.engines[0].apply({FORMAT_KEY: number.to_bytes(4)})
    with pytest.raises(StorageError, match=f"has format {number}; this version reads format {FORMAT}"):
        world.start(0)
    world.engines[0].apply({FORMAT_KEY: FORMAT.to_bytes(4)})
    assert dict(world.engines[0].scan(b"", b"\xff")) == before


def test_a_store_that_holds_something_and_says_no_format_is_refused() -> None:
    world = World(1)
    world.stop(0)
    world.engines[0].apply({FORMAT_KEY: None, FACTS: None})
    with pytest.raises(StorageError, match=r"says no format.*move the directory away"):
        world.start(0)


@pytest.mark.parametrize("stored", [None, b"", b"12345"])
def test_a_number_that_cannot_be_read_beside_the_settings_is_damage_and_not_another_format(
    stored: bytes | None,
) -> None:
    world = World(1)
    world.stop(0)
    world.engines[0].apply({FORMAT_KEY: stored})
    with pytest.raises(StorageError, match=r"is damaged: the number of its format.*--salvage"):
        world.start(0)
