"""The laws of clocks and links, on good words and bad ones."""

from dataclasses import replace
from typing import Any

import pytest

from basestore.protocol.client import Failed
from basestore.protocol.replication import DIRECT, Apply
from tests.simulation.drawing import draw
from tests.simulation.plan import Fault
from tests.simulation.scenes import Scene, record, version
from tests.simulation.timekeeping import Timekeeping

WALL_MS = 1_760_000_000_000


class Watched(Scene):
    """Three machines, none of which runs; the first one is alive as far as its clock goes."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.plan = self.world.plan = self._plan(*faults)
        self.laws: Timekeeping = self.witness.timekeeping
        self.machine = self.world.machines[0]
        for machine in self.world.machines:
            machine.offset_ms = 0
            machine.life = 1
            self.laws.started(machine)

    def _plan(self, *faults: Fault) -> Any:
        return replace(self.world.plan, faults=faults, drift_ms_max=500)

    def passes(self, seconds: float) -> None:
        self.world.clockwork.run(self.world.clockwork.now + seconds)

    def wrong_by(self, ms: int) -> None:
        self.machine.offset_ms = ms
        self.laws.set(self.machine)


def test_a_new_stamp_is_above_all_that_its_node_had_shown() -> None:
    scene = Watched()
    scene.laws.show(scene.machine, version(10), WALL_MS)
    scene.laws.left(scene.machine, version(9))  # in the same turn: it was stamped before
    scene.passes(0.1)
    scene.laws.left(scene.machine, version(11))
    assert scene.wrong() == set()
    scene.laws.left(scene.machine, version(10))
    assert scene.wrong() == {"order"}


@pytest.mark.parametrize(("told", "wrong"), [(True, set()), (False, {"order"})])
def test_a_write_that_its_client_was_told_of_is_no_new_one_when_it_leaves_at_last(
    told: bool, wrong: set[str]
) -> None:
    scene = Watched()
    scene.write(0, b"mceiling", b"\xff" * 8)
    scene.witness.met(scene.machine, 1)
    given = version(5, scene.machine.config.member.number)
    if told:
        failed = Failed(1, 2, "timeout", bytes(8) + given, [])
        scene.witness.answered(scene.machine, scene.operation(), failed)
    scene.laws.show(scene.machine, version(10), WALL_MS)
    scene.passes(0.1)
    scene.witness.says[Apply](scene.machine, 1, Apply(1, scene.row(), given + record(5)[24:-8], DIRECT, 0))
    assert scene.wrong() == wrong


def test_what_lies_beyond_the_bound_need_not_be_followed() -> None:
    scene = Watched()
    scene.laws.show(scene.machine, version(600), WALL_MS)
    scene.passes(0.1)
    scene.laws.left(scene.machine, version(11))
    assert scene.wrong() == set()


@pytest.mark.parametrize(("ms", "wrong"), [(600, set()), (3000, {"clocks"})])
def test_nobody_stamps_by_a_clock_that_is_known_to_be_wrong(ms: int, wrong: set[str]) -> None:
    scene = Watched()
    scene.wrong_by(ms)
    scene.laws.given(scene.machine, version(1), scene.world.clockwork.now)  # it has not looked since
    assert scene.wrong() == set()
    scene.passes(1.0)
    scene.laws.given(scene.machine, version(2), scene.world.clockwork.now)
    assert scene.wrong() == wrong


@pytest.mark.parametrize(("ms", "wrong"), [(400, set()), (3_600_000, {"clocks"})])
def test_no_stamp_moves_a_clock_beyond_all_clocks(ms: int, wrong: set[str]) -> None:
    scene = Watched()
    scene.machine.start()
    assert scene.machine.node is not None
    scene.machine.node.clock.last = (WALL_MS + ms) << 16
    scene.laws.judge()
    assert scene.wrong() == wrong


def test_a_clock_that_was_ahead_once_may_have_moved_all() -> None:
    scene = Watched()
    scene.machine.start()
    assert scene.machine.node is not None
    scene.wrong_by(3_600_000)
    scene.wrong_by(0)
    scene.machine.node.clock.last = (WALL_MS + 3_600_000) << 16
    scene.laws.judge()
    assert scene.wrong() == set()


@pytest.mark.parametrize(
    ("stale_ms", "stable_ms", "shown_ms", "wrong"),
    [(1100, -100, 0, set()), (1099, -100, 0, {"staleness"}), (1100, -100, 1, {"staleness"}),
     (999, 500, 0, set())],
)  # fmt: skip
def test_a_bound_covers_what_is_not_proven(
    stale_ms: int, stable_ms: int, shown_ms: int, wrong: set[str]
) -> None:
    scene = Watched()
    shown = (WALL_MS + shown_ms) << 16
    scene.laws.judge_bound("a read", stale_ms, (WALL_MS + stable_ms) << 16, WALL_MS, shown)
    assert scene.wrong() == wrong


def test_without_a_stable_stamp_nothing_is_bounded() -> None:
    scene = Watched()
    scene.laws.judge_bound("a read", 10**6, 0, WALL_MS, 0)
    assert scene.wrong() == {"staleness"}


@pytest.mark.parametrize("kind", ["clock beyond", "crash"])
def test_a_clock_that_is_right_refuses_nothing_while_nothing_else_is_wrong(kind: str) -> None:
    scene = Watched(Fault(0.0, kind, 1, 1, 1.0, 0.5))
    scene.passes(3.0)
    operation = scene.operation()
    operation.start = scene.world.clockwork.now
    scene.witness.answered(scene.machine, operation, Failed(1, 4, "its clock", b"", []))
    assert scene.wrong() == ({"writable"} if kind == "clock beyond" else set())


def test_nothing_is_written_to_who_has_not_been_met_on_this_link() -> None:
    scene = Watched()
    scene.write(0, b"mceiling", b"\xff" * 8)
    given = version(5, scene.machine.config.member.number)
    apply = Apply(1, scene.row(), given + record(5)[24:-8], DIRECT, 0)
    scene.witness.says[Apply](scene.machine, 1, apply)
    assert scene.wrong() == set()
    scene.witness.linked(scene.machine, 1)
    scene.witness.says[Apply](scene.machine, 1, apply)
    assert scene.wrong() == {"strangers"}


def test_every_drill_is_drawn_and_has_its_misfortune() -> None:
    plans = [plan for plan in map(draw, range(600)) if plan.theme in ("misled", "impostors", "sessions")]
    assert {plan.theme for plan in plans} == {"misled", "impostors", "sessions"}
    for plan in plans:
        kinds = [fault.kind for fault in plan.faults]
        assert plan.theme != "misled" or "all clocks" in kinds
        if plan.theme == "impostors":
            wrong = {fault.machine for fault in plan.faults if fault.kind != "isolate"}
            assert 0 < 2 * len(wrong) < len(plan.machines)
