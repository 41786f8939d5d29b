"""Cases of atomic batches: a batch for two partitions, of three replicas each, that has come so far and no
further. Its coordinator holds neither, so what is lost on the way is held by nobody."""

from functools import partial

from basestore.batches.batches import LEFT_S, STEP_S
from basestore.batches.course import ROUND_S, Course, How
from basestore.batches.part import Part
from basestore.batches.round import Answers, Round, Told
from basestore.cluster.outbox import Outbox
from basestore.protocol.client import BatchWritten, Failed
from basestore.protocol.groups import (
    COMMIT,
    COMMITTED,
    HELD,
    LOOK,
    NEVER,
    REFUSE,
    AskPart,
    HoldPart,
    PartTold,
)
from basestore.protocol.groups import NONE as NOTHING
from basestore.repair.version import Record
from basestore.rows import row_key, row_partition
from tests.simulation.cases.registry import shows as shows_of
from tests.worlds.batches import MEMBERS, BatchWorld, Scene, ended, holds, says

shows = partial(shows_of, family="batches")
ALL = ["batch", "batch"]
NONE = [None, None]


def end(scene: Scene, *values: str | None, seconds: float = 60.0) -> None:
    """It comes to its end in time, and this is what is found then."""
    scene.world.over(seconds)
    assert scene.found() == list(values)


def all_held() -> Scene:
    """All hold it, and nobody was told to apply it."""
    scene = Scene()
    scene.begin(says(AskPart))
    return scene


def told(world: BatchWorld, at: int, request: AskPart | HoldPart) -> int:
    (answer,) = world.answers_of_parts(at, request)
    assert isinstance(answer, PartTold), answer
    return answer.state


@shows("committed once one partition holds it", "given up where it has not come yet", "never given up")
def what_one_partition_has_never_held_is_given_up_once_it_is_refused_there() -> None:
    scene = Scene()
    scene.begin(holds(scene.first), 1.5)  # whoever has begun it looks for it, and finds nothing there
    scene.die()
    scene.world.run(LEFT_S - 2.0)
    assert scene.world.parts() == 3
    assert scene.found() == NONE
    end(scene, *NONE, seconds=2.0 + 4 * STEP_S)


@shows("none is refused before it is closed")
def what_waits_for_each_other_is_given_up() -> None:
    """Two have the same stamp, and each is held where the other is not."""
    world = BatchWorld(MEMBERS, partitions=8, reconcile=True)
    replicas = world.placement.replicas
    first, second = next((a, b) for a in range(8) for b in range(a) if {*replicas[a]} != {*replicas[b]})
    (at, *_), (other, *_) = {*replicas[first]} - {*replicas[second]}, {*replicas[second]} - {*replicas[first]}
    begun, held_in = ((at, first), (other, second)), dict[bytes, int]()
    world.lose = lambda sent: (
        isinstance(of := sent.message, HoldPart) and row_partition(of.row) != held_in[row_key(of.row)]
    )
    for number, (member, partition) in enumerate(begun):
        held_in[proposal := world.identity()] = partition
        values: dict[str, str | None] = {world.key_in(each, number): "batch" for each in (first, second)}
        world.batch(member, values, timeout_s=1.0, identity=proposal)
    world.run(1.5)
    world.lose = lambda sent: False
    assert len({entry.stamp for node in world.running for entry in node.batches.parts.rows.values()}) == 1
    world.over()
    assert world.values(world.key_in(first)) == [None] * MEMBERS


def a_refused_part() -> tuple[BatchWorld, int, bytes, Record]:
    """A world, a node that has refused to hold a part, the part's row and its record."""
    world, at, _, row, record = a_part()
    assert told(world, at, AskPart(1, row, record.blob[:16], LOOK, 0)) == NOTHING
    assert told(world, at, AskPart(1, row, record.blob[:16], REFUSE, 0)) == NEVER
    return world, at, row, record


@shows("what is refused is taken all the same")
def what_is_refused_comes_only_as_a_copy() -> None:
    world, at, row, record = a_refused_part()
    assert told(world, at, HoldPart(1, row, record.blob, b"", 0)) == NEVER
    assert told(world, at, HoldPart(1, row, record.blob, world.node(at).identity.store, 0)) == HELD


@shows("what was refused is forgotten at an opening")
def an_opening_refuses_on() -> None:
    world, at, row, record = a_refused_part()
    world.restart(at)
    world.run(0.5)
    assert told(world, at, HoldPart(1, row, record.blob, b"", 0)) == NEVER


@shows("a refusal is told before it is durable")
def no_refusal_is_told_before_it_is_durable() -> None:
    world, at, _, row, record = a_part()
    world.freeze(at)
    node, outbox = world.node(at), Outbox(set())
    node.batches.parts.ask(node.me, outbox, AskPart(1, row, record.blob[:16], REFUSE, 0), world.now(at))
    node.group_commit.commit()
    assert outbox.take() == []


@shows("one store holds it for all of its partition")
def nothing_is_applied_before_a_quorum_holds_it() -> None:
    scene = Scene()
    only = scene.replicas(scene.first)[0]
    scene.begin(lambda sent: holds(scene.first)(sent) and sent.target != only, 0.2)
    assert scene.found() == NONE


@shows("given up where a quorum never held it", "given up without who does not answer")
def one_that_does_not_answer_is_waited_for() -> None:
    scene = Scene()
    alone, *others = scene.replicas(scene.first)
    scene.begin(lambda sent: holds(scene.first)(sent) and sent.target in others, 0.1)
    scene.die()
    scene.world.crash(alone)
    scene.world.run(100.0)
    assert scene.world.parts()
    scene.world.start(alone)
    end(scene, *ALL)


@shows("over before it is applied")
def it_is_over_only_when_it_is_applied() -> None:
    scene = Scene()
    scene.begin(says(AskPart, first=COMMIT), 0.5)
    scene.world.lose = lambda sent: False
    end(scene, *ALL)


@shows("nobody goes on with what was left")
def whoever_holds_it_goes_on_with_it() -> None:
    scene = all_held()
    scene.die()
    end(scene, *ALL)


@shows("stamps do not wait for what is held")
def stamps_wait_for_what_is_held() -> None:
    scene = all_held()
    world = scene.world
    world.crash(scene.at)
    world.run(90.0)
    at = scene.replicas(scene.first)[0]
    record = world.node(at).batches.parts.held(scene.row_at(at, scene.first))
    assert record is not None
    assert world.node(at).summaries.of[scene.first].stable < record.stamp


def a_part() -> tuple[BatchWorld, int, int, bytes, Record]:
    """A world without it, a node, a partition, and the row and record of a part there."""
    scene = all_held()
    at = scene.replicas(scene.first)[0]
    row = scene.row_at(at, scene.first)
    record = scene.world.node(at).batches.parts.held(row)
    assert record is not None
    return BatchWorld(MEMBERS, partitions=8), at, scene.first, row, record


@shows(
    "others are told of all that is closed", "a part comes in however late",
    "whoever sends a copy vouches for it", "copies come in as first deliveries do",
)  # fmt: skip
def what_comes_too_late_comes_only_as_a_copy_of_one_that_holds_it() -> None:
    world, at, partition, row, record = a_part()
    node = world.node(at)
    node.summaries.of[partition].closed = record.stamp + 5
    assert told(world, at, HoldPart(1, row, record.blob, b"", 0)) == NEVER
    assert told(world, at, HoldPart(1, row, record.blob, b"s" * 16, 0)) == NEVER
    assert told(world, at, HoldPart(1, row, record.blob, node.identity.store, 0)) == HELD
    assert node.closed_stamps.close((partition,), world.now(at)) == [record.stamp - 1]


@shows("rows are applied below what is stable")
def what_is_settled_is_not_applied() -> None:
    scene = all_held()
    world, at = scene.world, scene.replicas(scene.first)[0]
    row = scene.row_at(at, scene.first)
    record = world.node(at).batches.parts.held(row)
    assert record is not None
    world.node(at).summaries.of[scene.first].stable = record.stamp + 100
    assert told(world, at, AskPart(1, row, record.blob[:16], COMMIT, 0)) == COMMITTED
    assert world.values(scene.keys[0])[at] is None


@shows("what is held is told before it is durable")
def nothing_is_told_of_what_is_not_durable() -> None:
    scene = Scene()
    scene.world.freeze(*scene.replicas(scene.first))
    call = scene.begin(lambda sent: False, 0.5)
    assert not call.done
    assert all(value is None for key in scene.keys for value in scene.world.values(key))


@shows("what is held counts as applied")
def what_is_held_is_not_applied() -> None:
    scene = all_held()
    assert scene.state_at(scene.replicas(scene.first)[0], scene.first) == HELD


@shows("an opening takes what is held for applied")
def an_opening_holds_on() -> None:
    scene = all_held()
    at = scene.replicas(scene.first)[0]
    scene.world.restart(at)
    scene.world.run(0.5)
    assert scene.state_at(at, scene.first) == HELD


@shows("nobody is given copies")
def what_one_of_each_holds_comes_to_a_quorum() -> None:
    scene = Scene(reconcile=False)
    only = {scene.replicas(partition)[0] for partition in (scene.first, scene.second)}
    scene.begin(lambda sent: says(HoldPart)(sent) and sent.target not in only, 0.1)
    scene.die()
    end(scene, *ALL)


@shows("a repetition is written anew")
def a_repetition_follows_what_there_is() -> None:
    scene = Scene()
    world = scene.world
    failed = scene.begin(says(AskPart, first=COMMIT), 1.5).reply()
    assert isinstance(failed, Failed)
    world.lose = lambda sent: False
    answer = world.answered(world.batch(0, scene.values, identity=failed.identity, repeats=True))
    assert isinstance(answer, BatchWritten), answer
    assert answer.identity == failed.identity


@shows("nothing is done, it is told, before anybody knows")
def that_nothing_is_done_is_told_once_tombstones_say_so() -> None:
    scene = Scene()
    world, ends = scene.world, list[How]()
    scene.begin(holds(scene.first), 1.5)
    row = scene.row_at(scene.replicas(scene.second)[0], scene.second)
    record = world.node(scene.replicas(scene.second)[0]).batches.parts.held(row)
    assert record is not None
    course = Course(world.node(scene.at).context, Part.of(row, record).known(row, record))
    for world.lose in (ended, lambda sent: False):
        course.bring(lambda end, now: ends.append(end.how), world.now(scene.at), first=REFUSE)
        world.run(2 * ROUND_S)
    assert ends == [How.NOT_YET, How.NOTHING]


@shows("who had the seats counts yet")
def what_was_told_by_who_has_the_seats_no_more_counts_for_nothing() -> None:
    scene = all_held()
    world, at, held = scene.world, scene.replicas(scene.first)[0], Told(HELD)
    row = scene.row_at(at, scene.first)
    record = world.node(at).batches.parts.held(row)
    assert record is not None
    known, heard = Part.of(row, record).known(row, record), list[Answers]()

    def ask(request: int, partition: int, member: int) -> AskPart:
        return AskPart(request, known.row(partition), b"", LOOK, 0)

    node, now = world.node(at), world.now(at)
    asked = Round(node.context, known, ask, lambda _: False, lambda answers, _: heard.append(answers))
    asked.begin(5.0, now)
    asked.answers[scene.first][at] = asked.answers[scene.second][at] = held
    asked.moved({scene.first}, now)
    assert heard == [{scene.first: {}, scene.second: {at: held}}]
