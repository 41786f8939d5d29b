"""Laws of stores that come back and of only copies, each with a good history and a bad one."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import cbor2

from basestore.consistency import Level, ReplicaState
from basestore.topology.founding import found
from basestore.topology.topology import later_label
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.decided import CREATE, DATA, DROP, FOUNDED, SET, Decided, Said
from tests.simulation.scenes import Scene, record, version
from tests.simulation.seating import GROUP, USED

ONLY, MERE = b"\1", b"\0"
PENDING = ReplicaState.PENDING


def test_a_store_that_is_whole_again_holds_what_a_quorum_had() -> None:
    for back, wrong in ((record(1), set()), (record(2), set()), (None, {"whole", "losses"})):
        scene = Scene()
        machine = scene.world.machines[0]
        scene.put(0, record(1))
        operation = scene.operation()
        operation.outcome, operation.version = h.STORED, version(1)
        scene.witness.ended(operation)
        machine.replace_disk(None)
        scene.put(0, back)
        scene.witness.promises.whole(machine, scene.world.clockwork.now)
        assert scene.wrong() == wrong


def test_what_went_with_a_disk_is_known_to_be_lost() -> None:
    for elsewhere, upto_ms, wrong in ((0, 0, {"losses"}), (0, 1, {"losses"}), (0, 2, set()), (3, 0, set())):
        scene = Scene()
        replicas = scene.replicas()
        machine = scene.world.machines[replicas[0]]
        scene.put(replicas[0], record(3))
        if elsewhere:
            scene.put(replicas[1], record(elsewhere))
        machine.replace_disk(None)
        if upto_ms:
            lose(scene, replicas[0], upto_ms + 1)
        scene.witness.promises.whole(machine, scene.world.clockwork.now)
        assert scene.wrong() == wrong


def test_a_spoilt_hint_of_what_nobody_has_is_a_loss() -> None:
    for taken, upto_ms, wrong in ((False, 0, {"losses"}), (True, 0, set()), (False, 2, set())):
        scene = Scene()
        replicas = scene.replicas()
        key = s.member_key(s.HINT, scene.world.names[replicas[2]], scene.row())
        scene.write(0, s.member_key(s.DEBT, scene.world.names[replicas[2]], scene.row()[:2]), bytes(8))
        scene.write(0, key, ONLY + bytes(8) + record(1)[:-8])
        if taken:
            scene.put(replicas[1], record(1))
        scene.world.machines[0].torn.add(key)
        if upto_ms:
            lose(scene, 0, upto_ms)
        scene.write(0, key, None)
        assert scene.wrong() == wrong


def lose(scene: Scene, machine: int, upto_ms: int) -> None:
    """It is written down there that what was written by then may be lost."""
    key = s.LOSS + scene.row()[:2] + bytes(3)
    scene.write(machine, key, cbor2.dumps([2, int.from_bytes(version(upto_ms)[:8]), 0]))


def test_a_hint_that_nobody_has_taken_is_known_as_the_only_copy() -> None:
    for flags, taken, wrong in ((ONLY, False, set()), (MERE, True, set()), (MERE, False, {"only copies"})):
        scene = Scene()
        replicas = scene.replicas()
        if taken:
            scene.put(replicas[1], record(1))
        key = s.member_key(s.HINT, scene.world.names[replicas[2]], scene.row())
        scene.write(0, key, flags + bytes(8) + record(1)[:-8])
        scene.write_ends(version(1), (PENDING, PENDING, ReplicaState.HINTED), level=Level.ANY)
        assert scene.wrong() == wrong


def test_what_takes_the_place_of_an_only_copy_is_as_precious() -> None:
    for flags, taken, wrong in (
        (ONLY, 0, set()), (MERE, 0, {"only copies"}), (MERE, 1, set()), (MERE, 2, set()),
        (MERE, 3, set()),
    ):  # fmt: skip
        scene = Scene()
        key = s.member_key(s.HINT, scene.world.names[1], scene.row())
        scene.write(0, key, ONLY + bytes(8) + record(1)[:-8])
        if taken:
            scene.put(0, record(taken))
        scene.write(0, key, flags + bytes(8) + record(2)[:-8])
        assert scene.wrong() == wrong


def test_on_a_first_write_key_what_a_quorum_holds_stands_for_a_late_hint_that_went() -> None:
    for came, at_last, wrong in ((True, 7, set()), (True, None, {"debts"}), (False, 7, {"debts"})):
        scene = Scene()
        a, b, c = scene.replicas("once1")
        hint = s.member_key(s.HINT, scene.world.names[c], scene.row("once1"))
        scene.write(0, hint, ONLY + bytes(8) + record(1)[:-8])
        scene.write_ends(version(1), (PENDING, PENDING, ReplicaState.HINTED), "once1", Level.ANY)
        for replica in (a, b):
            scene.put(replica, record(5), "once1")
        if came:  # too late, and an operator has had it written anew
            scene.write(0, hint, bytes((2,)) + bytes(8) + record(1)[:-8])
        scene.write(0, hint, None)
        scene.put(c, None if at_last is None else record(5), "once1")
        scene.witness.promises.judge()
        assert scene.wrong() == wrong


def test_a_late_hint_goes_with_its_bucket_once_its_keeper_knows_that_it_is_dropped() -> None:
    for last, known, wrong in (
        (DROP, 3, set()), (DROP, 2, {"late hints"}), (DROP, None, {"late hints"}), (SET, 3, {"late hints"}),
    ):  # fmt: skip
        scene = Scene()
        label = decide(scene, last)
        row = scene.row()[:2] + len(label).to_bytes(1) + label + b"k"
        if known is not None:  # what its disk says that is decided
            scene.write(0, GROUP, cbor2.dumps([*bytes(USED), known]))
        hint = s.member_key(s.HINT, "n2", row)
        scene.write(0, hint, bytes((s.LATE,)) + bytes(8) + record(1)[:-8])
        scene.write(0, hint, None)
        assert scene.wrong() == wrong
        assert scene.world.counts["spared: a late hint goes with its bucket, which is dropped"] == (not wrong)


def test_once_the_log_has_gone_back_a_bucket_is_dropped_by_what_nodes_say() -> None:
    for told, dropped in ((None, False), (False, False), (True, True)):
        scene = Scene()
        label = decide(scene, DROP)
        row = scene.row()[:2] + len(label).to_bytes(1) + label + b"k"
        assert scene.world.log_watch.dropped(row)
        scene.world.log_watch.returned()
        if told is not None:
            buckets = SimpleNamespace(is_gone={label: told}.__getitem__)
            node = SimpleNamespace(replica=SimpleNamespace(buckets=buckets))
            scene.world.machines[1].node = cast("Any", node)
        assert scene.world.log_watch.dropped(row) == dropped


def test_who_is_promised_a_write_is_so_by_the_seats_that_its_keeper_goes_by() -> None:
    for known in (None, 1, 2):
        scene = Scene()
        decide(scene, SET)  # at epoch 3, which the keeper has not heard of
        if known is not None:
            scene.write(0, GROUP, cbor2.dumps([*bytes(USED), known]))
        keeper, operation = scene.world.machines[0], scene.operation(level=Level.ANY)
        made = scene.witness.promises.promise(keeper, operation, scene.row(), version(1), 2)
        assert made.epoch == (known or 0)


def test_who_holds_a_partition_now_is_kept_an_only_copy_or_has_it_or_is_owed_what_another_has() -> None:
    for taken, owed, wrong in (
        (True, 0, set()), (True, 99, {"moved hints"}), (True, None, {"moved hints"}),
        (False, 0, {"moved hints"}),
    ):  # fmt: skip
        scene = Scene()
        world = scene.world
        world.plan = replace(world.plan, moves=True)
        world.seating.at = lambda *_: SimpleNamespace(both=(0, 1))  # type: ignore[method-assign, assignment]
        key = s.member_key(s.DEBT, world.names[1], scene.row()[:2])
        batch = {} if owed is None else {key: version(owed)[:8]}
        if taken:
            scene.put(0, record(1))
        hint = ONLY + bytes(8) + record(1)[:-8]
        assert world.moved.hands_on(world.machines[0], world.names[2], scene.row(), hint, batch)
        assert scene.wrong() == wrong


def decide(scene: Scene, last: int) -> bytes:
    """A bucket is created, and at epoch 3 comes this of its name; its label."""
    founded, watch = found(scene.world.cluster, scene.world.placement.replicas), scene.world.log_watch
    log = watch.logs[watch.group] = Decided(founded.encode())
    for kind, *fields in ([FOUNDED], [CREATE, "b1"], [last, "b1", "x"]):
        log.take(Said(1, DATA, cbor2.dumps([0, log.last, 0, 0, kind, *fields])), 1)
    return later_label(founded.last_bucket + 1)


def test_who_gives_up_a_hint_marks_its_member_as_owed_since_the_first_write_that_was_kept() -> None:
    for held, since_ms, wrong in (
        (None, 1, set()), (None, 2, {"debts"}), (None, None, {"debts"}),
        (1, 2, set()), (2, None, set()), (3, None, set()), (1, None, {"debts"}),
    ):  # fmt: skip
        scene = Scene()
        keeper, member = scene.replicas()[:2]
        name, row = scene.world.names[member], scene.row()
        hint, debt = s.member_key(s.HINT, name, row), s.member_key(s.DEBT, name, row[:2])
        for ms in (1, 2):
            scene.write(keeper, hint, MERE + bytes(8) + record(ms)[:-8])
        if held is not None:
            scene.put(member, record(held))
        batch = {hint: None} | ({debt: version(since_ms)[:8]} if since_ms else {})
        scene.world.machines[keeper].disk.apply(batch)
        assert scene.wrong() == wrong


def test_a_debt_stands_until_its_member_holds_what_was_given_up() -> None:
    for elsewhere, held, wrong in (
        (2, None, {"debts"}), (2, 1, {"debts"}), (2, 2, set()), (2, 3, set()), (None, None, set()),
    ):  # fmt: skip
        scene = Scene()
        keeper, member, other = scene.replicas()
        name, row = scene.world.names[member], scene.row()
        hint, debt = s.member_key(s.HINT, name, row), s.member_key(s.DEBT, name, row[:2])
        scene.write(keeper, hint, MERE + bytes(8) + record(2)[:-8])
        scene.world.machines[keeper].disk.apply({hint: None, debt: version(1)[:8]})
        for machine, ms in ((other, elsewhere), (member, held)):
            if ms is not None:
                scene.put(machine, record(ms))
        scene.write(keeper, debt, None)
        assert scene.wrong() == wrong
