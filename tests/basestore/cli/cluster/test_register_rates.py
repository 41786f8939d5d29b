"""What `basestore top` shows of registers."""

import pytest
from rich.console import Console

from basestore.cli.cluster.board import board
from basestore.cli.cluster.samples import Sample, View
from basestore.protocol.operator import Counters
from basestore.protocol.replication import Prepare, Promised
from basestore.results.nodes import down
from tests.worlds.registers import RegisterWorld
from tests.worlds.unlearned import accepted_by, unfinished


def sample(world: RegisterWorld, at: int) -> Sample:
    call = world.ask(at, Counters)
    world.settle()
    return Sample.of(call.state())


def drawn(*views: View, columns: int = 160) -> str:
    console = Console(width=columns)
    with console.capture() as shown:
        console.print(board(views, "now", columns))
    return shown.get()


def test_writes_rounds_and_conflicts_are_of_the_time_between_two_samples() -> None:
    world = RegisterWorld()
    home = world.home("k")
    world.put_register(home, "k", "0")
    earlier = sample(world, home)
    started = world.monotonic
    for value in range(4):
        later = ((world.now(home).wall_ms + 100 * (value + 1)) << 16).to_bytes(8) + bytes(8)
        (promised,) = world.answers(home, Prepare(1, world.row("k", "cas"), later, 0))
        assert isinstance(promised, Promised)
        world.put_register(home, "k", str(value))  # by the two others: its own acceptor refuses it
    world.run(2.0 - (world.monotonic - started))
    view = View.between(earlier, sample(world, home))
    rates = view.registers
    assert rates is not None
    assert rates.writes_per_s == pytest.approx(2.0, rel=0.05)
    assert rates.conflicts_per_s == pytest.approx(2.0, rel=0.05)
    assert (rates.one_round, rates.unlearned) == (1.0, 0)
    assert view.as_json()["registers"]["one_round"] == 1.0
    shown = drawn(view)
    assert "REGISTERS/S  ONE ROUND  CONFLICTS/S  HELPS/S  UNLEARNED" in shown
    assert "100%" in shown


def test_the_share_of_one_round_is_of_what_was_begun() -> None:
    world = RegisterWorld()
    home = world.home("k")
    earlier = sample(world, home)
    for value in range(4):
        world.put_register(home, "k", str(value))
    world.run(1)
    rates = View.between(earlier, sample(world, home)).registers
    assert rates is not None
    assert rates.one_round == 0.75
    world.run(1)
    before = sample(world, home)
    world.run(1)
    rates = View.between(before, sample(world, home)).registers
    assert rates is not None
    assert (rates.writes_per_s, rates.one_round) == (0, None)


def test_what_is_left_unlearned_is_shown() -> None:
    world = RegisterWorld()
    unfinished(world)
    home = world.home("k")
    accepted_by(world, "k", "w", 0, 1, 2)
    earlier = sample(world, home)
    world.run(1)
    rates = View.between(earlier, sample(world, home)).registers
    assert rates is not None
    assert rates.unlearned == 1


def test_where_no_registers_are_used_nothing_is_shown_of_them() -> None:
    world = RegisterWorld()
    earlier = sample(world, 0)
    world.put(0, "k", "v")
    world.run(1)
    view = View.between(earlier, sample(world, 0))
    assert view.registers is None
    assert view.as_json()["registers"] is None
    gone = View.between(earlier, Sample(down("n1", "127.0.0.1:7400", "it is off")))
    assert gone.registers is None
    assert "REGISTERS" not in drawn(view, gone)
