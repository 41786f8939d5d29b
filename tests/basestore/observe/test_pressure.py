"""How a node is shown that is asked for more than it can do: to `status`, `top`, Prometheus and `explain`.

Covers `intake/figures.py`, and what `observe/report.py`, `prometheus.py` and `results/nodes.py` make of it.
"""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from basestore.cli.cluster.board import board
from basestore.cli.cluster.explain import in_words
from basestore.cli.cluster.samples import Sample, View
from basestore.cli.cluster.status import row
from basestore.consistency import Level
from basestore.intake.figures import NOTES, Lately
from basestore.observe.prometheus import Exposition
from basestore.protocol.client import Get, Set
from basestore.protocol.envelopes import CLASSES, unsealed
from basestore.protocol.operator import Counters, Explain, Explained, Status
from basestore.protocol.replication import Hinted
from basestore.results.nodes import NodeState, Refused
from basestore.results.weighing import explanation
from tests.worlds.deferring import defer
from tests.worlds.world import Call, World

ROOM = 8
SET = Set(1, "default", b"k", b"v", 2, 1000, 0, b"proposed")
GET = Get(1, "default", b"k", 2, 1000, b"", True)


class Crowded:
    """A world whose first node is asked for more than it can do: its peers hear nothing."""

    def __init__(self) -> None:
        self.world = World(3)
        self.node = self.world.node(0)
        self.node.intake.room.requests_max = ROOM
        client = self.world.clients[0]
        assert client is not None
        self.node.intake.caller(client.outbox).tenant.name = "10.0.0.7"
        for other in (1, 2):
            self.world.hold(0, other)

    def offer(self, request: Any, count: int = 1) -> list[Call]:
        client = self.world.clients[0]
        assert client is not None
        numbered = [request._replace(id=client.number()) for _ in range(count)]
        for each in numbered:
            self.node.intake.offer(client.outbox, unsealed([each]), self.world.now(0))
        return [Call(client, each.id, Level.QUORUM) for each in numbered]

    def step(self, seconds: float = 0.0) -> None:
        """As far as the node is concerned; nobody takes its answers."""
        self.world.monotonic += seconds
        self.node.tick(self.world.now(0))
        self.node.step(self.world.now(0))

    def crowd(self) -> None:
        """20 writes and 2 reads are offered, 8 of them are begun, and the others shed."""
        self.offer(SET, 20)
        self.offer(GET, 2)
        self.step()
        self.step(0.25)

    def told(self, kind: Any = Status) -> NodeState:
        client = self.world.clients[0]
        assert client is not None
        outbox = self.node.open_client()
        self.node.receive_client(outbox, [kind(1)], self.world.now(0))
        told = Call(client, 1, Level.ONE)
        client.answers[1] = outbox.take()[-1]
        self.node.intake.close(outbox)
        return told.state()

    def scraped(self) -> dict[tuple[str, str], float]:
        page = b"".join(Exposition(self.node.metrics, self.node.report.gauges(), {}).render()).decode()
        return {
            (sample.name, sample.labels.get("class", "")): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }


def shown(view: View, columns: int = 100) -> str:
    console = Console(width=columns, record=True, file=None)
    with console.capture() as capture:
        console.print(board([view], "", columns))
    return capture.get()


def test_status_has_all_figures() -> None:
    crowded = Crowded()
    crowded.crowd()
    told = crowded.told().as_json()
    assert told["offered"] == {"admin": 0, "read": 2, "write": 20, "bulk": 0}
    assert sum(told["admitted"].values()) == sum(told["under_way"].values()) == ROOM
    assert sum(told["shed"].values()) == 22 - ROOM
    assert told["shed_lately"] == told["shed"]
    assert told["most_shed"] == [{"tenant": "10.0.0.7", "requests": 22 - ROOM}]
    assert (told["requests_max"], told["brownout"], told["unopened_bytes"]) == (ROOM, 0, 0)
    assert told["window"] > 0
    assert told["deferred_bytes_max"] == crowded.node.config.deferred_bytes_max


def test_status_says_in_words_what_is_notable_and_only_that() -> None:
    crowded = Crowded()
    for word in ("full", "shed", "brownout", "deferred"):
        assert word not in str(row(crowded.told())[-1])
    crowded.crowd()
    crowded.node.intake.brownout.level = 2
    words = str(row(crowded.told())[-1])
    assert f"full: {ROOM} of {ROOM} requests under way" in words
    assert "shed in the last minute: " in words
    assert f"({22 - ROOM} since the node was started)" in words
    assert f"most was shed of 10.0.0.7 ({22 - ROOM})" in words
    assert "brownout 2: leaves out speculation, read repair by lot, background exchanges" in words


def test_whose_requests_were_shed_is_told_when_they_have_gone() -> None:
    crowded = Crowded()
    crowded.crowd()
    client = crowded.world.clients[0]
    assert client is not None
    crowded.node.intake.close(client.outbox)
    assert crowded.told().most_shed == [Refused("10.0.0.7", 22 - ROOM)]


def test_what_was_shed_longer_ago_is_not_of_the_last_minute() -> None:
    lately, counts = Lately(), [0, 0, 0, 0]
    for second in range(200):
        counts[2] += second < 20
        lately.tick(counts, float(second))
    assert lately.of(counts) == (0, 0, 0, 0)
    counts[1] += 7
    assert lately.of(counts) == (0, 7, 0, 0)
    for second in range(200, 200 + NOTES + 1):
        lately.tick(counts, float(second))
    assert lately.of(counts) == (0, 0, 0, 0)


def test_a_minute_is_one_though_ticks_come_late() -> None:
    lately, now_s = Lately(1), 100.0
    lately.tick([0], now_s)
    while now_s < 101 + NOTES:
        now_s += 0.45
        lately.tick([9], now_s)
    assert lately.of([9]) == (0,)


def test_what_a_node_does_not_tell_is_not_known() -> None:
    crowded = Crowded()
    crowded.crowd()
    older = crowded.told(Counters)
    for name in list(older.facts):
        if name.split(" ")[0] in (
            "offered",
            "admitted",
            "shed",
            "requests",
            "window",
            "brownout",
            "deferred",
            "most",
        ):
            del older.facts[name]
    assert older.pressure is None
    assert "shed" not in str(row(older)[-1])
    told = View.between(Sample.of(older), Sample.of(older)).as_json()
    for name in ("offered_per_s", "shed_per_s", "under_way", "window", "brownout", "deferred_bytes"):
        assert told[name] is None
    none = crowded.told()
    none.facts["window"] = ""
    assert none.as_json()["window"] is None


def test_top_has_rates_of_what_came_and_what_became_of_it() -> None:
    crowded = Crowded()
    crowded.offer(SET)
    crowded.step()
    earlier = Sample.of(crowded.told(Counters))
    crowded.crowd()
    crowded.step(0.25)
    later = Sample.of(crowded.told(Counters))
    view = View.between(earlier, later)
    told = view.as_json()
    assert told["offered_per_s"] == {"admin": 0.0, "read": 4.0, "write": 40.0, "bulk": 0.0}
    assert sum(told["admitted_per_s"].values()) == pytest.approx(2 * (ROOM - 1))
    assert sum(told["shed_per_s"].values()) == pytest.approx(2 * (23 - ROOM))
    heads, line = [
        each for each in shown(view).splitlines() if "OFFERED/S" in each or f"{ROOM} of {ROOM}" in each
    ]
    assert " ".join(heads.split()) == "NODE OFFERED/S ADMITTED/S SHED/S UNDER WAY WINDOW BROWNOUT DEFERRED"
    assert line.split()[:4] == ["n1", "44", "14", "30"]
    assert "OFFERED/S" in shown(view, 60)
    assert View.between(None, later).as_json()["offered_per_s"] is None


def test_each_figure_has_a_metric() -> None:
    crowded = Crowded()
    crowded.crowd()
    figures, page = crowded.node.intake.figures(), crowded.scraped()
    for at, kind in enumerate(CLASSES):
        assert page["basestore_requests_offered_total", kind] == figures.offered[at]
        assert page["basestore_requests_admitted_total", kind] == figures.admitted[at]
        assert page["basestore_requests_shed_total", kind] == figures.shed[at]
        assert page["basestore_requests_under_way", kind] == figures.under_way[at]
        assert page["basestore_requests_waiting", kind] == figures.waiting[at]
    assert page["basestore_requests_offered_total", "write"] == 20
    assert page["basestore_requests_under_way_max", ""] == ROOM
    assert page["basestore_requests_unopened_bytes", ""] == 0
    assert page["basestore_shed_retry_seconds", ""] == figures.retry_ms / 1e3
    assert page["basestore_window_requests", ""] == figures.window
    assert page["basestore_deferred_bytes_max", ""] == crowded.node.config.deferred_bytes_max
    crowded.node.intake.brownout.level = 1
    assert crowded.scraped()["basestore_brownout_level", ""] == 1


def test_explain_tells_how_it_fared_itself() -> None:
    crowded = Crowded()
    for other in (1, 2):
        crowded.world.release(0, other)
    client = crowded.world.clients[0]
    assert client is not None
    crowded.node.intake.brownout.level = 1
    (call,) = crowded.offer(Explain(1, "default", b"k", 1000))
    crowded.world.monotonic += 0.03125  # nobody had taken it up until then
    crowded.world.settle()
    assert call.answer is not None
    told = explanation(call.answer, "default", b"k", crowded.world.cluster.names)
    window = crowded.node.intake.windows.of(crowded.node.intake.caller(client.outbox))
    assert told.fared == ("admin", 31, window, 1)
    assert told.as_json()["waited_ms"] == 31
    last = in_words(told).splitlines()[-1]
    assert last.startswith("request    class admin, waited 31 ms; window ")
    assert last.endswith("brownout 1: the node leaves out speculation and read repair by lot")


def test_explain_says_what_it_does_not_know() -> None:
    crowded = Crowded()
    for other in (1, 2):
        crowded.world.release(0, other)
    (call,) = crowded.offer(Explain(1, "default", b"k", 1000))
    crowded.world.settle()
    assert isinstance(call.answer, Explained)
    older = call.answer._replace(kind=-1, waited_ms=-1, window=-1, brownout=-1)
    told = explanation(older, "default", b"k", crowded.world.cluster.names)
    assert told.as_json()["window"] is None
    assert in_words(told).splitlines()[-1] == "request    class ?, waited ? ms; window ?; brownout ?"


def test_explain_says_that_a_write_lies_deferred_and_where() -> None:
    world = World(3)
    world.lose = lambda sent: isinstance(sent.message, Hinted)
    defer(world, 0)
    world.settle()
    call = world.ask(1, lambda request: Explain(request, "default", b"k", 1000))
    world.settle()
    assert isinstance(call.answer, Explained)
    told = explanation(call.answer, "default", b"k", world.cluster.names)
    assert {(hint.at, hint.deferred) for hint in told.hints} == {("n1", True)}
    why = "for it had too much to do, or a limit was in the way (basestore status)"
    assert f"deferred   n1 kept the write for later, {why}" in in_words(told)
    older = explanation(call.answer._replace(deferred=b""), "default", b"k", world.cluster.names)
    assert {hint.as_json()["deferred"] for hint in older.hints} == {None}


def test_a_hint_of_a_write_that_was_begun_is_not_deferred() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    call = world.ask(0, lambda request: Explain(request, "default", b"k", 1000))
    world.settle()
    assert isinstance(call.answer, Explained)
    told = explanation(call.answer, "default", b"k", world.cluster.names)
    assert [hint.deferred for hint in told.hints] == [False]
    assert "deferred" not in in_words(told)
