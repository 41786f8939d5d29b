"""How much anti-entropy may do. Covers `anti_entropy/pace.py`, and that steps are shared out by it."""

from basestore.anti_entropy.pace import (
    BESIDE_S,
    CHUNK_ROWS,
    CHUNK_ROWS_BESIDE,
    ENTRY_COST,
    ROWS,
    ROWS_BESIDE,
    SHARE_ROWS,
    Pace,
)
from basestore.consistency import Level
from tests.worlds.world import TICK_S, World


def test_it_works_beside_requests_for_a_second_after_the_last() -> None:
    pace = Pace(7)
    pace.tick(7, 1.0)
    assert (pace.beside, pace.chunk_rows) == (False, CHUNK_ROWS)
    pace.tick(8, 1.05)
    assert (pace.beside, pace.chunk_rows) == (True, CHUNK_ROWS_BESIDE)
    pace.tick(8, 1.0 + BESIDE_S)  # a tick without one is no rest
    assert pace.beside
    pace.tick(8, 1.1 + BESIDE_S)
    assert not pace.beside


def worked(pace: Pace) -> list[int]:
    """How many rows are worked off in each step of a tick."""
    steps = []
    while pace.rows_left > 0:
        steps.append(pace.rows_left)
        pace.spend(pace.rows_left)
        if not pace.end_step():
            break
    return steps


def test_rows_are_worked_off_in_shares_and_no_more_than_a_tick_has() -> None:
    pace = Pace(0)
    for requests, rows in ((0, ROWS), (1, ROWS_BESIDE)):
        pace.tick(requests, 1.0)
        steps = worked(pace)
        assert sum(steps) == rows
        assert max(steps) <= SHARE_ROWS
        assert not pace.end_step()


def test_what_a_step_leaves_is_there_for_later_ones_and_what_it_took_too_much_is_not() -> None:
    pace = Pace(0)
    pace.tick(0, 1.0)
    pace.spend(100)
    assert not pace.end_step()  # nothing waits
    pace.spend(SHARE_ROWS + 5000)  # as with a chunk
    assert pace.end_step()
    assert sum(worked(pace)) == ROWS - SHARE_ROWS - 5100


def test_a_chunk_fits_a_share_twice_over_at_most() -> None:
    for chunk in (CHUNK_ROWS, CHUNK_ROWS_BESIDE):
        assert Pace(0).cost(chunk) == chunk * ENTRY_COST <= 2 * SHARE_ROWS


def test_a_store_that_takes_much_does_so_in_many_steps() -> None:
    world = World(2, partitions=1)
    count = 10 * CHUNK_ROWS
    world.part(0, 1)
    for number in range(count):
        world.set(0, f"key {number}", "value", Level.ONE)
    world.settle()
    world.run(2 * BESIDE_S)
    world.join(0, 1)
    took, had = [], 0
    for _ in range(100):
        world.monotonic += TICK_S
        for node in world.running:
            node.tick(world.now(0))
        while world.turn():
            took.append(world.node(1).summaries.of[0].count - had)
            had += took[-1]
    assert had == count
    share = (SHARE_ROWS + Pace(0).cost(CHUNK_ROWS)) // ENTRY_COST
    assert max(took) <= 2 * share  # a turn is two steps
