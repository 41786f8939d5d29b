"""Laws of stores that come back and of only copies, each with a good history and a bad one."""

from basestore.consistency import Level, ReplicaState
from basestore.protocol.client import Written
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.scenes import Scene, record, version

ONLY, MERE = b"\1", b"\0"


def test_a_store_that_is_whole_again_holds_what_a_quorum_had() -> None:
    for back, wrong in ((record(1), set()), (record(2), set()), (None, {"whole"})):
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


def test_a_hint_that_nobody_has_taken_is_known_as_the_only_copy() -> None:
    for flags, taken, wrong in ((ONLY, False, set()), (MERE, True, set()), (MERE, False, {"only copies"})):
        scene = Scene()
        machine, replicas = scene.world.machines[0], scene.replicas()
        if taken:
            scene.put(replicas[1], record(1))
        key = s.member_key(s.HINT, scene.world.names[replicas[2]], scene.row())
        scene.write(0, key, flags + bytes(8) + record(1)[:-8])
        scene.write(0, s.CEILING, b"\xff" * 8)
        operation = scene.operation(level=Level.ANY)
        states = (0, 0, ReplicaState.HINTED)
        numbers = [scene.world.machines[at].config.member.number for at in replicas]
        words = [word for pair in zip(numbers, map(int, states), strict=True) for word in pair]
        scene.witness.answered(
            machine, operation, Written(1, 0, 0, bytes(8) + version(1), 1, 0, words, b"", 0)
        )
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
