"""By which rule rows are taken, as buckets and partitions come and go. Covers `rule_of` of
`replica/replica.py`."""

import pytest

from basestore.repair.rule import Rule
from basestore.rows import is_beginning, rows_begin
from basestore.topology.topology import later_label
from tests.worlds.changing import create, drop
from tests.worlds.world import World

DEFAULT = rows_begin(1, b"default")


def test_rows_go_by_the_rule_of_their_bucket_for_as_long_as_that_is_there() -> None:
    world = World(1, logged=True)
    replica = world.node(0).replica
    start = rows_begin(1, later_label(create(world, "carts", rule=Rule.FIRST_WRITE_WINS.value)))
    assert replica.rule_of(start) is Rule.FIRST_WRITE_WINS
    assert replica.rule_of(DEFAULT) is Rule.LAST_WRITE_WINS
    assert (start in replica.plain, DEFAULT in replica.plain) == (False, True)
    drop(world, "carts")
    assert replica.rule_of(start) is None
    assert replica.rule_of(DEFAULT) is Rule.LAST_WRITE_WINS


def test_rows_of_a_partition_that_is_let_go_are_not_taken() -> None:
    replica = World(1).node(0).replica
    assert replica.rule_of(DEFAULT) is Rule.LAST_WRITE_WINS
    replica.let_go(1)
    replica.summaries.let_go(1)
    assert replica.rule_of(DEFAULT) is None
    assert DEFAULT not in replica.plain
    assert replica.rule_of(rows_begin(0, b"default")) is Rule.LAST_WRITE_WINS
    replica.summaries.hold(1)
    assert replica.rule_of(DEFAULT) is Rule.LAST_WRITE_WINS


@pytest.mark.parametrize(
    "start", [b"", b"\0\1", b"\0\1\7", DEFAULT[:-1], DEFAULT + b"k", b"\0\1\x08default", b"\0\1\6default"]
)
def test_what_begins_no_row_has_no_rule(start: bytes) -> None:
    assert not is_beginning(start)
    assert World(1).node(0).replica.rule_of(start) is None
