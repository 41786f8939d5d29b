"""Each law of the witness on disks and words that are good, and on some that are bad."""

import ast
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from basestore.consistency import Level, ReplicaState
from basestore.protocol.client import Failed, Got
from basestore.protocol.handshake import Goodbye
from basestore.protocol.replication import DIRECT, Applied, Apply, Held
from basestore.repair.version import Digester, Record, Version
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.machine import WALL_MS
from tests.simulation.scenes import Scene, record, summary, version
from tests.simulation.world import KEY

HOME = Path(__file__).parent
# What it may know of the product: what is said on the wire, the shape of a batch, what a store calls itself.
MAY_IMPORT = {
    "basestore.consistency", "basestore.protocol", "basestore.replica.identity", "basestore.storage.engine",
}  # fmt: skip
JUDGES = ("witness", "holdings", "stamps", "promises", "proofs", "stored", "timekeeping")


@pytest.mark.parametrize("name", JUDGES)
def test_the_witness_takes_nothing_of_what_it_judges(name: str) -> None:
    for node in ast.walk(ast.parse((HOME / f"{name}.py").read_text(encoding="utf-8"))):
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if module.split(".")[0] in ("basestore", "repair"):
            room = module if module in MAY_IMPORT else ".".join(module.split(".")[:2])
            assert room in MAY_IMPORT, f"{name} imports {module}"


PROPOSAL = bytes(7) + b"\1"
APPLIED, HINTED = ReplicaState.APPLIED, ReplicaState.HINTED


def test_a_record_may_give_way_to_a_better_one_and_to_no_other() -> None:
    scene = Scene()
    scene.put(0, record(1))
    scene.put(0, record(2))
    assert scene.wrong() == set()
    scene.put(0, record(1))
    assert scene.wrong() == {"goes back"}


def test_what_is_new_at_or_below_a_closed_stamp_is_found_whichever_way_it_came() -> None:
    scene = Scene()
    scene.stand(0, summary(closed_ms=50))
    scene.put(0, record(51))
    scene.put(1, record(40), "other")
    scene.put(0, record(40), "other")  # another replica has it: this is a copy
    assert scene.wrong() == set()
    scene.put(0, record(50), "new")
    assert scene.wrong() == {"closed"}


@pytest.mark.parametrize(("lost", "wrong"), [(False, set()), (True, {"closed"})])
def test_who_doubts_its_seat_and_has_a_spoilt_record_has_all_others(lost: bool, wrong: set[str]) -> None:
    scene = Scene()
    scene.world.plan = replace(scene.world.plan, moves=True)
    scene.stand(0, summary(closed_ms=50))
    machine = scene.world.machines[1]
    scene.put(1, record(40))
    machine.spoilt.add(s.DATA + scene.row("spoilt"))
    machine.impaired_since, machine.replaced = 0.0, lost
    scene.write(1, s.unfit_key(0), b"d")
    scene.put(0, record(40))
    assert scene.wrong() == wrong


def test_who_has_not_heard_that_a_store_was_lost_takes_what_it_had_had() -> None:
    for taken, heard_s, wrong in ((True, None, set()), (True, 0.7, {"closed"}), (False, None, {"closed"})):
        scene = Scene()
        world = scene.world
        if taken:
            scene.put(1, record(40))
        world.clockwork.run(0.6)
        world.machines[1].replace_disk(None)
        scene.witness.stamps.started(world.machines[1])
        if heard_s is not None:
            scene.witness.stamps.pinged(world.machines[0], 1, heard_s)
        scene.stand(0, summary(closed_ms=50))
        scene.put(0, record(40))
        assert scene.wrong() == wrong


def test_nothing_new_comes_below_what_any_replica_ever_knew_to_be_stable() -> None:
    scene = Scene()
    scene.stand(1, summary(stable_ms=50))
    scene.witness.copied()
    scene.put(0, record(51))
    assert scene.wrong() == set()
    scene = Scene()
    scene.stand(1, summary(stable_ms=50))
    scene.witness.copied()
    scene.put(0, record(50))
    assert scene.wrong() == {"closed"}


def test_what_is_stable_is_on_all_replicas() -> None:
    scene = Scene()
    for machine in range(3):
        scene.put(machine, record(40))
    scene.stand(0, summary(stable_ms=50))
    scene.witness.copied()
    assert scene.wrong() == set()
    scene = Scene()
    scene.put(0, record(40))
    scene.stand(0, summary(stable_ms=50))
    scene.witness.copied()
    assert scene.wrong() == {"stable stamps"}


def test_a_tombstone_goes_when_it_is_stable_and_not_before() -> None:
    for stable_ms, wrong in ((40, set()), (39, {"purges"})):
        scene = Scene()
        for machine in range(3):
            scene.put(machine, record(40, tombstone=True))
        scene.stand(0, summary(stable_ms=stable_ms))
        scene.put(0, None)
        assert scene.wrong() == wrong


@pytest.mark.parametrize(("fills", "wrong"), [(False, {"purges"}), (True, set())])
def test_what_was_purged_does_not_come_back_but_who_fills_has_purged_nothing(
    fills: bool, wrong: set[str]
) -> None:
    scene = Scene()
    scene.world.plan = replace(scene.world.plan, moves=True)
    scene.put(0, record(40))
    scene.put(0, record(41, tombstone=True))
    scene.stand(1, summary(stable_ms=50))
    machine = scene.world.machines[1]
    if fills:  # what it had was lost with an earlier disk
        machine.impaired_since, machine.replaced = 0.0, True
        scene.write(1, s.unfit_key(0), b"c")
        machine.impaired_since, machine.replaced = -1.0, False
    scene.put(1, record(40))
    assert scene.wrong() == wrong


def test_what_expires_goes_when_its_life_is_over_by_the_true_time() -> None:
    for life_ms, wrong in ((0, set()), (60_000, {"purges"})):
        scene = Scene()
        for machine in range(3):
            scene.put(machine, record(40, expires_ms=WALL_MS + 50 + life_ms))
        scene.stand(0, summary(stable_ms=90_000))
        scene.put(0, None)
        assert scene.wrong() == wrong


def test_a_receipt_must_not_name_who_has_not_got_it() -> None:
    scene = Scene()
    a, b, _ = scene.replicas()
    scene.put(a, record(1))
    scene.put(b, record(1))
    scene.write_ends(version(1), (APPLIED, APPLIED, ReplicaState.PENDING))
    assert scene.wrong() == set()
    scene.write_ends(version(1), (APPLIED, APPLIED, APPLIED))
    assert scene.wrong() == {"receipts"}


def test_a_promise_is_followed_until_the_replica_has_it_or_is_owed_it() -> None:
    for kept, wrong in ((True, set()), (False, {"debts"})):
        scene = Scene()
        a, b, c = scene.replicas()
        scene.put(a, record(1))
        scene.put(b, record(1))
        hint = s.member_key(s.HINT, scene.world.names[c], scene.row())
        scene.write(0, hint, bytes(9) + record(1)[:-8])
        scene.write_ends(version(1), (APPLIED, APPLIED, HINTED))
        debt = s.member_key(s.DEBT, scene.world.names[c], scene.row()[:2])
        scene.world.machines[0].disk.apply({hint: None} | ({debt: version(1)[:8]} if kept else {}))
        scene.witness.copied()
        assert scene.wrong() == wrong


def test_what_a_quorum_held_stays_on_a_quorum() -> None:
    scene = Scene()
    for machine in (0, 1):
        scene.put(machine, record(1))
    operation = scene.operation()
    operation.outcome, operation.version = h.STORED, version(1)
    scene.witness.ended(operation)
    scene.world.machines[1].replace_disk(None)
    scene.witness.copied()
    assert scene.wrong() == set()  # its store is known to be lost
    scene.world.machines[1].impaired_since = -1.0
    scene.witness.copied()
    assert scene.wrong() == {"quorums"}


def test_a_stable_stamp_is_told_once_it_is_durable() -> None:
    scene = Scene()
    stable = (WALL_MS + 50) << 16
    scene.witness.stamps.asked(1, 9, scene.row())
    scene.stand(0, summary(stable_ms=50))
    scene.witness.says[Held](scene.world.machines[0], 1, Held(9, b"", stable))
    assert scene.wrong() == set()
    scene.stand(0, summary(stable_ms=60), synced=False)
    scene.witness.says[Held](scene.world.machines[0], 1, Held(9, b"", stable + (10 << 16)))
    assert scene.wrong() == {"told"}


@pytest.mark.parametrize(
    ("stable_ms", "others", "wrong"),
    [(50, 40, set()), (39, 40, {"final"}), (50, 30, {"final"})],
    ids=["settled", "not stable yet", "another record is held"],
)
def test_what_is_final_is_stable_and_all_that_is_held(stable_ms: int, others: int, wrong: set[str]) -> None:
    scene = Scene()
    for machine in range(3):
        scene.put(machine, record(40 if machine == 0 else others), "once1")
        scene.stand(machine, summary(stable_ms=stable_ms), "once1")
    operation = scene.operation(h.GET, Level.ONE, "once1")
    got = Got(1, True, b"v", version(40), 0, 1, 1, False, 0, 2)
    scene.witness.answered(scene.world.machines[0], operation, got)
    assert scene.wrong() - {"shown"} == wrong


def test_a_stamp_leaves_at_or_below_the_ceiling_that_is_durable() -> None:
    scene = Scene()
    machine = scene.world.machines[0]
    given = version(5, machine.config.member.number)
    apply = Apply(1, scene.row(), given + record(5)[24:-8], DIRECT, 0)
    scene.write(0, s.CEILING, given[:8])
    scene.witness.says[Apply](machine, 1, apply)
    assert scene.wrong() == set()
    later = version(6, machine.config.member.number, 2)
    scene.write(0, s.CEILING, later[:8], synced=False)
    scene.witness.says[Apply](machine, 1, apply._replace(record=later + apply.record[24:]))
    assert scene.wrong() == {"ceiling"}


def test_a_start_gives_out_no_stamp_of_the_life_before() -> None:
    scene = Scene()
    machine = scene.world.machines[0]
    scene.write(0, s.CEILING, b"\xff" * 8)
    scene.witness.stamps.sent(machine, scene.row(), version(5, machine.config.member.number))
    machine.life += 1
    scene.witness.stamps.sent(machine, scene.row(), version(6, machine.config.member.number, 2))
    assert scene.wrong() == set()
    machine.life += 1
    scene.witness.stamps.sent(machine, scene.row(), version(6, machine.config.member.number, 3))
    assert scene.wrong() == {"ceiling"}


def test_a_store_that_comes_back_closes_what_all_others_had_closed() -> None:
    for closed_ms, wrong in ((50, set()), (49, {"closed"})):
        scene = Scene()
        for machine in (1, 2):
            for partition in range(scene.world.plan.partitions):
                scene.write(machine, s.SUMMARY + partition.to_bytes(2), summary(closed_ms=50))
        scene.world.machines[0].replace_disk(None)
        for partition in range(scene.world.plan.partitions):
            scene.write(0, s.SUMMARY + partition.to_bytes(2), summary(closed_ms=closed_ms))
        scene.witness.stamps.whole(scene.world.machines[0])
        assert scene.wrong() == wrong


def test_no_only_copy_turns_late_whose_keeper_was_just_heard() -> None:
    for heard, returned, stalled, wrong in (
        (False, False, False, set()), (True, False, False, {"late hints"}), (True, True, False, set()),
        (True, False, True, set()),
    ):  # fmt: skip
        scene = Scene()
        world, key = scene.world, s.member_key(s.HINT, "n2", scene.row())
        scene.write(0, key, bytes((s.ONLY_COPY,)) + bytes(8) + record(40)[:-8])
        world.clockwork.run(0.5)
        if heard:
            scene.witness.stamps.pinged(world.machines[1], 0, 0.4)
        world.clockwork.run(0.6)
        if stalled:  # its disk takes at last what was raised before
            group = SimpleNamespace(group=SimpleNamespace(epoch=0))
            node = SimpleNamespace(group_commit=SimpleNamespace(stalled=True), membership=group)
            world.machines[1].node = cast("Any", node)
        scene.stand(1, summary(closed_ms=50))
        world.machines[1].node = None
        if returned:  # it was gone when its keeper was heard, and came back with an older disk
            world.machines[0].replace_disk({key: bytes((s.ONLY_COPY,)) + bytes(8) + record(40)[:-8]})
        scene.write(0, key, bytes((s.ONLY_COPY | s.LATE,)) + bytes(8) + record(40)[:-8])
        assert scene.wrong() == wrong


def test_a_late_hint_goes_when_a_quorum_has_it_or_something_better() -> None:
    for holders, wrong in ((2, set()), (1, {"late hints"})):
        scene = Scene()
        key = s.member_key(s.HINT, "n2", scene.row())
        scene.write(0, key, bytes((s.LATE,)) + bytes(8) + record(40)[:-8])
        for machine in range(holders):
            scene.put(machine, record(90))
        scene.write(0, key, None)
        assert scene.wrong() == wrong


def test_the_judge_tells_a_sound_record_from_one_that_was_altered() -> None:
    sealed = Record.seal(Digester(KEY), b"row", Version(1, 2, 3), b"value", expires_ms=5).blob
    assert s.intact(KEY, b"row", sealed)
    assert not s.intact(KEY, b"raw", sealed)
    assert not s.intact(KEY, b"row", sealed[:-1] + b"f")


def test_what_is_proven_to_be_everywhere_is_and_stays_there() -> None:
    for holders, later, wrong in ((3, True, set()), (2, True, {"converged"}), (3, False, {"converged"})):
        scene = Scene()
        for machine in range(holders):
            scene.put(machine, record(1))
        operation = scene.operation()
        operation.outcome, operation.version, operation.acknowledged = h.STORED, version(1), 2
        operation.end = 0.5
        stamp = (WALL_MS + 9) << 16
        scene.witness.proofs.proven(stamp, 1.0, unheard=False)
        if not later:
            scene.put(2, None)
            scene.world.violations.clear()
        scene.witness.proofs.judge()
        assert scene.wrong() == wrong


def test_a_proof_covers_all_that_had_ended_when_it_was_asked_for() -> None:
    for end, wrong in ((2.0, set()), (0.5, {"converged"})):
        scene = Scene()
        for machine in range(3):
            scene.put(machine, record(20))
        operation = scene.operation()
        operation.outcome, operation.version, operation.acknowledged = h.STORED, version(20), 2
        operation.end = end
        scene.witness.proofs.proven((WALL_MS + 9) << 16, 1.0, unheard=False)
        assert scene.wrong() == wrong


def test_a_direct_write_far_ahead_of_the_clock_is_not_taken() -> None:
    for ahead_ms, wrong in ((10, set()), (90_000, {"ahead"})):
        scene = Scene()
        machine = scene.world.machines[0]
        apply = Apply(1, scene.row(), record(ahead_ms)[:-8], DIRECT, 0)
        scene.witness.heard(machine, 1, apply)
        scene.witness.says[Applied](machine, 1, Applied([1], bytes(8), 1))
        assert scene.wrong() == wrong


def test_a_number_is_given_to_one_write() -> None:
    scene = Scene()
    machine = scene.world.machines[0]
    scene.write(0, s.CEILING, b"\xff" * 8)
    for ms, number in ((5, 1), (5, 1), (6, 2)):
        scene.witness.stamps.sent(machine, scene.row(), version(ms, machine.config.member.number, number))
    assert scene.wrong() == set()
    scene.witness.stamps.sent(machine, scene.row(), version(7, machine.config.member.number, 2))
    assert scene.wrong() == {"numbers"}


def test_a_value_is_shown_in_its_life() -> None:
    for found, expires_ms, wrong in (
        (True, 90_000, set()), (False, -90_000, set()),
        (True, -90_000, {"expiry"}), (False, 90_000, {"expiry"}),
    ):  # fmt: skip
        scene = Scene()
        for machine in range(3):
            scene.put(machine, record(1, expires_ms=WALL_MS + expires_ms))
        operation = scene.operation(h.GET)
        scene.witness.asked(scene.world.machines[0], operation, operation.requests[-1])
        got = Got(1, found, b"v", version(1), WALL_MS + expires_ms, 2, 2, False, 0)
        scene.witness.answered(scene.world.machines[0], operation, got)
        assert scene.wrong() == wrong


def test_what_is_stable_is_closed() -> None:
    for closed_ms, wrong in ((50, set()), (49, {"closed"})):
        scene = Scene()
        scene.stand(0, summary(closed_ms=closed_ms, stable_ms=50))
        assert scene.wrong() == wrong


def scene_of_a_start(*heard: int) -> Scene:
    """The first machine begins a life, and hears these."""
    scene = Scene()
    scene.witness.stamps.started(scene.world.machines[0])
    for other in heard:
        scene.witness.stamps.pinged(scene.world.machines[0], other, 0.0)
        scene.witness.stamps.compared(scene.world.machines[0], other)
    return scene


@pytest.mark.parametrize(
    ("heard", "waits", "wrong"),
    [(2, False, set()), (1, False, {"closed"}), (1, True, set()), (0, True, {"closed"})],
)
def test_who_closes_first_has_heard_all_or_waited_and_has_met_a_majority(
    heard: int, waits: bool, wrong: set[str]
) -> None:
    scene = scene_of_a_start(*range(1, 1 + heard))
    if waits:
        scene.world.clockwork.run(scene.world.machines[0].listen_s)
    scene.stand(0, summary(closed_ms=50))
    assert scene.wrong() == wrong


def test_what_another_replica_has_closed_may_be_taken_over_at_once() -> None:
    scene = scene_of_a_start()
    scene.stand(1, summary(closed_ms=50))
    scene.stand(0, summary(closed_ms=50))
    assert scene.wrong() == set()


def test_what_stands_on_a_disk_that_was_put_back_was_closed_before() -> None:
    scene = scene_of_a_start()
    disk = scene.world.machines[0].disk
    watch, disk.watch = disk.watch, lambda *_: None  # it comes with the disk
    scene.stand(0, summary(closed_ms=50))
    disk.watch = watch
    scene.stand(0, summary(closed_ms=50))
    assert scene.wrong() == set()
    scene.stand(0, summary(closed_ms=51))
    assert scene.wrong() == {"closed"}


def test_a_stamp_that_was_taken_in_an_earlier_life_may_leave_again() -> None:
    for taken, wrong in ((True, set()), (False, {"ceiling"})):
        scene = Scene()
        machine = scene.world.machines[0]
        number = machine.config.member.number
        scene.write(0, s.CEILING, b"\xff" * 8)
        if taken:
            scene.put(1, version(5, number) + record(5)[24:])
        scene.witness.stamps.sent(machine, scene.row(), version(6, number, 2))
        scene.world.clockwork.run(1.0)
        machine.life += 1
        scene.witness.stamps.started(machine)
        scene.witness.stamps.sent(machine, scene.row(), version(5, number))
        assert scene.wrong() == wrong


def test_on_a_last_write_key_a_write_has_one_version_but_for_a_late_hint() -> None:
    other = bytes(7) + b"\2"
    for key, second, late, wrong in (
        ("k", PROPOSAL, False, {"twice"}), ("k", other, False, set()), ("k", b"", False, set()),
        ("k", PROPOSAL, True, set()), ("once1", PROPOSAL, False, set()),
    ):  # fmt: skip
        scene = Scene()
        scene.put(0, record(6, proposal=PROPOSAL), key)
        if late:
            scene.world.history.late["default", "k"] = [version(6)]
        scene.put(0, record(5 if key == "once1" else 7, proposal=second), key)
        assert scene.wrong() == wrong


def test_a_first_write_that_a_late_hint_has_beaten_need_not_be_there() -> None:
    for key, late, wrong in (
        ("once1", 4, set()), ("once1", 5, set()), ("once1", 6, {"converged"}), ("k", 4, {"converged"}),
    ):  # fmt: skip
        scene = Scene()
        for machine in range(3):
            scene.put(machine, record(9 if key == "once1" else 3), key)
        bucket = "once" if key == "once1" else "default"
        scene.world.history.late[bucket, key] = [version(late)]
        scene.witness.proofs.explained(bucket, key, True, version(5))
        assert scene.wrong() == wrong


def test_a_write_that_is_repeated_is_found_where_all_replicas_hold_it() -> None:
    for holders, before, wrong in ((3, True, {"repeats"}), (2, True, set()), (3, False, set())):
        scene = Scene()
        repeat = scene.operation()
        repeat.identity = PROPOSAL
        for machine in range(holders if before else 0):
            scene.put(machine, record(5, proposal=PROPOSAL))
        scene.witness.asked(scene.world.machines[0], repeat, repeat.requests[-1])
        for machine in range(0 if before else holders):
            scene.put(machine, record(5, proposal=PROPOSAL))
        scene.witness.answered(scene.world.machines[0], repeat, Failed(1, 10, "unknown", b"", []))
        assert scene.wrong() == wrong


def test_who_has_said_goodbye_is_written_nothing_until_it_is_back() -> None:
    for said, back, wrong in ((False, False, set()), (True, False, {"goodbyes"}), (True, True, set())):
        scene = Scene()
        machine = scene.world.machines[0]
        scene.write(0, s.CEILING, b"\xff" * 8)
        if said:
            scene.witness.heard(machine, 1, Goodbye("it stops"))
            scene.world.clockwork.run(0.1)
        if back:
            scene.witness.linked(machine, 1)
            scene.witness.met(machine, 1)
        scene.witness.says[Apply](machine, 1, Apply(1, scene.row(), record(5)[:-8], DIRECT, 0))
        assert scene.wrong() == wrong


def test_a_node_whose_disk_has_hung_for_long_begins_no_writes() -> None:
    for hung_s, code, ends, wrong in (
        (9.0, 3, False, set()), (9.0, 5, False, {"hangs"}), (9.0, 5, True, set()), (2.0, 5, False, set())
    ):  # fmt: skip
        scene = Scene()
        machine, write = scene.world.machines[0], scene.operation()
        machine.hung_since = 0.0
        scene.world.clockwork.run(hung_s)
        scene.witness.asked(machine, write, write.requests[-1])
        if ends:
            machine.hung_since = math.inf
        scene.witness.answered(machine, write, Failed(1, code, "it says why", b"", []))
        assert scene.wrong() == wrong
