"""Atomic batches as clients see them, over real nodes. Covers `batches/batches.py`, `batches/writing.py` and
`batches/admission.py`."""

from typing import Any

import pytest

from basestore.consistency import Level
from basestore.errors import InvalidRequest, OutcomeUnknown, Overloaded, Unavailable
from basestore.observe.register_state import batch_facts
from basestore.protocol.groups import COMMIT, AskPart, HoldPart
from basestore.protocol.limits import BATCHES_SINCE
from basestore.repair.version import Identity, Version
from tests.worlds.batches import BatchWorld, holds, says
from tests.worlds.changing import create, drop


def values(world: BatchWorld) -> dict[str, str | None]:
    """For keys of three partitions."""
    return {
        world.key_in(0): "1", world.key_in(0, 1): "2", world.key_in(1): "3", world.key_in(3): None,
    }  # fmt: skip


class TestWritten:
    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_all_of_it_is_applied_and_nothing_is_left(self, count: int) -> None:
        world = BatchWorld(count)
        world.put(0, world.key_in(3), "old")
        wanted = values(world)
        answer = world.written(count - 1, wanted)
        for place, (key, value) in enumerate(wanted.items()):
            found = world.look(0, key)
            assert found.text == value
            assert found.version == Version.decode(answer.versions[place])
        assert answer.partitions == [0, 0, 1, 3]
        assert set(answer.required) == {min(3, count) // 2 + 1}
        world.over()

    def test_all_have_applied_it_at_level_all(self) -> None:
        world = BatchWorld()
        wanted = values(world)
        assert world.written(0, wanted, level=Level.ALL).required == [3] * 4
        for key, value in wanted.items():
            assert world.values(key) == [(value or "").encode()] * 3

    def test_what_is_unfinished_is_told_with_its_age(self) -> None:
        world = BatchWorld()
        node = world.node(1)
        assert batch_facts(node.batches, world.now(1)) == {
            "batch parts unfinished": "0", "batch parts unfinished age ms": "",
        }  # fmt: skip
        world.lose = says(AskPart)
        world.batch(0, values(world), timeout_s=1.0)
        world.run(3.0)
        facts = batch_facts(node.batches, world.now(1))
        assert facts["batch parts unfinished"] == "3"
        assert 2500 < int(facts["batch parts unfinished age ms"]) <= 3000
        world.run(10.0)
        assert node.metrics.counts["batches_left"]
        world.lose = lambda sent: False
        world.over()
        assert batch_facts(node.batches, world.now(1))["batch parts unfinished"] == "0"

    def test_what_is_newer_wins(self) -> None:
        world = BatchWorld()
        a, b = world.key_in(0), world.key_in(1)
        world.lose = says(AskPart, first=COMMIT)
        call = world.batch(0, {a: "batch", b: "batch"}, timeout_s=1.0)
        world.run(0.1)
        world.lose = lambda sent: False
        world.put(1, a, "newer")
        world.until(lambda: call.done)
        world.over()
        assert [world.look(0, key).text for key in (a, b)] == ["newer", "batch"]

    def test_what_is_to_live_for_a_while_expires(self) -> None:
        world = BatchWorld()
        a, b = world.key_in(0), world.key_in(1)
        world.written(0, {a: "1", b: "2"}, ttl_s=5.0)
        assert world.look(1, a).found
        world.run(6.0)
        assert not world.look(1, a).found

    def test_while_a_disk_hangs_nothing_is_applied(self) -> None:
        """What a quorum is to hold it holds durably, before anybody applies anything."""
        world = BatchWorld()
        wanted = values(world)
        world.freeze(0, 1, 2)
        call = world.batch(0, wanted)
        world.run(0.3)
        assert not call.done
        assert all(value is None for key in wanted for value in world.values(key))
        world.thaw(0, 1, 2)
        world.until(lambda: call.done)
        assert world.look(1, next(iter(wanted))).found


class TestUnknown:
    def test_where_too_few_answer_its_client_is_told_that_nobody_knows(self) -> None:
        world = BatchWorld()
        wanted = values(world)
        world.lose = says(HoldPart)
        failed = world.refused(0, wanted, timeout_s=1.0)
        assert failed.code == OutcomeUnknown.code
        assert f"Repeat it as {Identity.decode(failed.identity)}" in failed.text
        assert Identity.decode(failed.identity).proposal == world.drawn

    @pytest.mark.parametrize("known", [8, 40], ids=["by its proposal", "by its version"])
    def test_it_is_followed_to_its_end(self, known: int) -> None:
        world = BatchWorld()
        wanted = values(world)
        world.lose = says(AskPart, first=COMMIT)
        failed = world.refused(0, wanted, timeout_s=1.0)
        world.lose = lambda sent: False
        answer = world.written(1, wanted, identity=failed.identity[:known], repeats=True)
        assert answer.identity == failed.identity
        assert [world.look(2, key).text for key in wanted] == list(wanted.values())
        again = world.written(2, wanted, identity=failed.identity[:known], repeats=True)
        assert again.versions == answer.versions

    def test_one_that_was_given_up_is_told_to_be(self) -> None:
        world = BatchWorld(4, replication=3, reconcile=True)
        outside, inside = world.key_in(0), world.key_in(1)
        at = world.outsider(outside)
        world.lose = holds(0)
        wanted: dict[str, str | None] = {outside: "1", inside: "2"}
        failed = world.refused(at, wanted, timeout_s=1.0)
        world.lose = lambda sent: False
        asked: dict[str, Any] = {"identity": failed.identity, "repeats": True}
        answer = world.refused(0, wanted, **asked)
        assert answer.code == OutcomeUnknown.code  # it may come yet: nobody has closed it
        for _ in range(40):
            answer = world.refused(0, wanted, **asked)
            if answer.code != OutcomeUnknown.code:
                break
            world.run(5.0)
        assert answer.code == Unavailable.code
        assert "was given up: nothing of it was applied, nor will be" in answer.text
        assert not world.look(2, outside).found
        assert not world.look(2, inside).found
        world.over()

    def test_of_what_is_over_and_purged_nobody_knows_and_nothing_is_written(self) -> None:
        world = BatchWorld(reconcile=True)
        wanted = values(world)
        identity = world.written(0, wanted).identity
        world.until(lambda: not world.part_rows(), 120.0)
        failed = world.refused(1, wanted, identity=identity, repeats=True)
        assert failed.code == OutcomeUnknown.code
        assert "it is over, and nobody knows how" in failed.text
        world.run(1.0)
        assert not world.part_rows()

    def test_of_what_never_came_nothing_is_found(self) -> None:
        world = BatchWorld()
        failed = world.refused(0, values(world), identity=b"unheard!", repeats=True)
        assert failed.code == OutcomeUnknown.code
        assert "nothing is found of it" in failed.text

    @pytest.mark.parametrize("known", [8, 40])
    def test_another_batch_is_not_followed_in_its_place(self, known: int) -> None:
        world = BatchWorld()
        wanted = values(world)
        identity = world.written(0, wanted).identity[:known]
        others: tuple[dict[str, str | None], ...] = {**wanted, world.key_in(0): "9"}, {world.key_in(0): "1"}
        for other in others:
            failed = world.refused(1, other, identity=identity, repeats=True)
            assert failed.code == InvalidRequest.code
            assert "this is not the batch with that identity" in failed.text

    @pytest.mark.parametrize("anew", [False, True], ids=["dropped", "and made anew"])
    @pytest.mark.parametrize("known", [8, 40])
    def test_where_a_bucket_was_dropped_since_it_stays_unknown(self, known: int, anew: bool) -> None:
        """It is applied in the other."""
        world = BatchWorld(reconcile=True)
        create(world, "carts")
        here, there = world.key_in(0), world.key_in(1)
        world.lose = says(AskPart)
        asked: dict[str, Any] = {"bucket": {here: "default", there: "carts"}, "timeout_s": 1.0}
        failed = world.refused(0, {here: "1", there: "2"}, **asked)
        assert failed.code == OutcomeUnknown.code
        drop(world, "carts")
        world.lose = lambda sent: False
        world.over()
        assert world.look(1, here).text == "1"
        if anew:
            create(world, "carts")
        asked |= {"identity": failed.identity[:known], "repeats": True}
        failed = world.refused(1, {here: "1", there: "2"}, **asked)
        assert failed.code == OutcomeUnknown.code
        assert Identity.decode(failed.identity).proposal == world.drawn
        told = "made anew since" if anew else "there is no bucket 'carts'"
        assert told in failed.text
        assert "ead its keys, " in failed.text

    def test_a_repetition_that_is_not_begun_says_nothing_of_the_first(self) -> None:
        world = BatchWorld()
        world.node(0).context.operations.operations_max = 0
        failed = world.refused(0, values(world), identity=b"proposal", repeats=True)
        assert failed.code == OutcomeUnknown.code
        assert "An earlier attempt may have been done" in failed.text


class TestRefused:
    @pytest.mark.parametrize("level", [Level.ANY, Level.ONE, Level.SERIAL])
    def test_another_level(self, level: Level) -> None:
        world = BatchWorld()
        failed = world.refused(0, values(world), level=level)
        assert failed.code == InvalidRequest.code
        assert f"at level {level.name.lower()}" in failed.text
        assert "nothing of the batch was done. Write it at quorum, or at all" in failed.text

    @pytest.mark.parametrize("bucket", ["once", "cas"])
    def test_another_kind_of_bucket(self, bucket: str) -> None:
        world = BatchWorld()
        failed = world.refused(0, {"a": "1"}, bucket=bucket)
        assert failed.code == InvalidRequest.code
        assert f"bucket '{bucket}' takes no atomic batches" in failed.text

    def test_too_much_or_nothing_or_one_key_twice(self) -> None:
        world = BatchWorld()
        wrong: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, "an atomic batch of 0 keys"),
            (dict.fromkeys((f"k{at}" for at in range(101)), "1"), "an atomic batch of 101 keys"),
            ({"a": "1" * (1 << 19), "b": "1" * (1 << 19)}, "have 1048578 bytes"),
            ({"": "1"}, "the key has 0 bytes"),
        )
        for wanted, told in wrong:
            failed = world.refused(0, wanted)
            assert failed.code == InvalidRequest.code
            assert told in failed.text

    def test_before_all_members_speak_of_them(self) -> None:
        world = BatchWorld()
        world.node(0).feature_level.level = BATCHES_SINCE - 1
        failed = world.refused(0, {"a": "1"})
        assert failed.code == Unavailable.code
        assert "there are no atomic batches yet" in failed.text

    def test_by_a_node_that_would_forget(self) -> None:
        world = BatchWorld()
        world.engines[0].persistent = False
        failed = world.refused(0, values(world))
        assert failed.code == InvalidRequest.code
        assert "its durability is memory" in failed.text

    def test_where_too_few_are_alive(self) -> None:
        world = BatchWorld()
        world.stop(1)
        world.stop(2)
        world.run(3.0)
        failed = world.refused(0, values(world))
        assert failed.code == Unavailable.code
        assert "nothing was done" in failed.text

    def test_where_too_many_are_under_way(self) -> None:
        world = BatchWorld()
        world.lose = says(HoldPart)
        calls = [world.batch(0, {world.key_in(0): "1"}) for _ in range(257)]
        world.settle()
        refused = [call for call in calls if call.done]
        assert [call.reply().code for call in refused] == [Overloaded.code]  # type: ignore[attr-defined]
