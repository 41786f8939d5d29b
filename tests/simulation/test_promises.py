"""Laws of stores that come back and of only copies, each with a good history and a bad one."""

import cbor2

from basestore.consistency import Level, ReplicaState
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.scenes import Scene, record, version

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
