"""The simulation under the drills: what is parted hears nothing and loses nothing, who sleeps does nothing,
and waiting in vain is an error that says for what."""

import pytest

from basestore.consistency import Level
from basestore.drill import simulation as room
from basestore.drill.answers import FOUND, LOST, MISSING, STORED
from basestore.drill.report import NotSo
from basestore.drill.simulation import AGREED, REGISTER, Simulation
from basestore.protocol.client import ADD
from basestore.protocol.codec import Message


@pytest.fixture
def three() -> Simulation:
    return Simulation(3, 5)


def test_nodes_say_what_the_store_says(three: Simulation) -> None:
    client = three.client(0)
    (missing,) = three.answers(client.get("k"))
    (stored,) = three.answers(client.set("k", "v", Level.ALL))
    (found,) = three.answers(three.client(2).get("k", Level.ONE))
    assert (missing.outcome, missing.words) == (MISSING, "not found")
    assert (stored.outcome, stored.reached, stored.required) == (STORED, 3, 3)
    assert (found.outcome, found.value, found.version) == (FOUND, "v", stored.version)
    assert found.words == "found 'v'"


def test_an_answer_tells_what_a_register_holds(three: Simulation) -> None:
    client = three.client(1)
    three.answers(client.set("n", "5", bucket=REGISTER))
    (added,) = three.answers(client.set("n", "2", bucket=REGISTER, condition=ADD))
    assert (added.outcome, added.value) == (STORED, "7")
    (first,) = three.answers(client.set("k", "a", bucket=AGREED))
    (second,) = three.answers(client.set("k", "b", bucket=AGREED))
    assert first.words == "stored, final"
    assert (second.outcome, second.value, second.winner) == (LOST, "a", first.version)
    assert second.words == "lost to 'a', final"


def test_a_request_that_makes_no_sense_is_refused_as_such(three: Simulation) -> None:
    (answer,) = three.answers(three.client(0).set("n", "1", bucket="default", condition=ADD))
    assert (answer.outcome, answer.refused) == ("invalid request", True)


def test_what_is_parted_hears_nothing_and_loses_nothing(three: Simulation) -> None:
    client = three.client(0)
    three.part((0, 1), (2,))
    three.answers(client.set("k", "v", Level.ONE), client.set("l", "w", Level.ONE))
    assert [each.value for each in three.everywhere("k")] == ["v", "v", None]
    three.heal()
    three.rest(0.1)  # before anybody has taken anybody for dead: it is not hints that bring it
    assert [each.value for each in three.everywhere("k")] == ["v", "v", "v"]
    assert not three.counted("hints_created")


def test_what_is_said_on_one_way_keeps_its_order(three: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = three.machines[:2]
    said, heard = list[Message](), list[Message]()
    send, hear = a.node.peers.all[1].outbox, b.hear

    def listen(source: object, messages: list[Message]) -> None:
        heard.extend(messages if source is a else [])
        hear(a if source is a else three.machines[2], messages)

    monkeypatch.setattr(b, "hear", listen)
    take = type(send).take

    def taken(self: object) -> list[Message]:
        messages: list[Message] = take(self)  # type: ignore[arg-type]
        said.extend(messages if self is send else [])
        return messages

    monkeypatch.setattr(type(send), "take", taken)
    client = three.client(0)
    for at in range(60):
        client.set(f"k{at}", "v", Level.ONE)
        three.rest(0.001)  # less than a message takes
        if at == 40:
            three.part((0,), (1,))
    three.heal()
    three.rest(0.1)
    assert len(said) > 50
    assert heard == said[: len(heard)]
    assert len(said) - len(heard) < 5  # those that are on their way


def test_who_sleeps_answers_when_it_wakes(three: Simulation) -> None:
    sleeper = three.machines[1]
    pending = three.client(1).set("k", "v")
    sleeper.pause()
    three.rest(3.0)
    assert not pending.done
    assert three.blindness((1,), (0, 2))
    sleeper.resume()
    (late,) = three.answers(pending)
    assert late.outcome == STORED
    assert late.took_s > 3.0
    three.wait(lambda: three.sight((1,), (0, 2)), "it is seen again")


def test_hints_are_told_by_keeper_and_member(three: Simulation) -> None:
    three.part((0, 1), (2,))
    three.wait(lambda: three.blindness((2,), (0, 1)), "n3 is missed")
    three.answers(three.client(0).set("k", "v"))
    assert three.hints() == {("n1", "n3"): 1}
    three.heal()
    three.wait(lambda: not three.hints(), "it is delivered")
    assert three.counted("hints_delivered") == 1


def test_waiting_in_vain_says_for_what(three: Simulation) -> None:
    with pytest.raises(NotSo, match="it is not so that pigs fly: not within 2 s") as caught:
        three.wait(lambda: False, "pigs fly", 2.0)
    assert caught.value.claim == "pigs fly"


def test_nothing_is_proven_of_who_is_away(three: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PROVEN_S", 8.0)
    three.part((0, 1), (2,))
    three.answers(three.client(0).set("k", "v"))
    found = three.prove(0)
    assert not found.proven
    assert "n3" in {name for obstacle in found.obstacles for name in obstacle.nodes}
    three.heal()
    assert three.prove(0).proven


def test_clocks_are_wrong_by_so_much_at_most() -> None:
    offsets = [machine.offset_ms for seed in range(4) for machine in Simulation(3, seed).machines]
    assert len(set(offsets)) > 3
    assert max(map(abs, offsets)) <= room.OFFSET_MS_MAX
    assert 2 * room.OFFSET_MS_MAX < room.DRIFT_MS_MAX
