"""What is begun, in what order, and what is refused; and that a refused request has left no trace."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.cluster.outbox import OUTBOX_BYTES_MAX, Outbox
from basestore.consistency import Level
from basestore.errors import InvalidRequest
from basestore.instant import Instant
from basestore.intake import intake as module
from basestore.intake.caller import Lane
from basestore.intake.figures import NOTES
from basestore.intake.intake import UNOPENED_BYTES_MAX, WAITING_ROOMS, Intake
from basestore.intake.room import ADMIN_MAX, BEGUN_BYTES_MAX, LAGGING_BYTES, LITTLE, SENT_BYTES_MAX
from basestore.protocol.client import Credit, Failed, Get, Scan, Set, Shed
from basestore.protocol.codec import Decoder
from basestore.protocol.envelopes import BULK, READ, WRITE, Skimmed, Unsealed, enveloped, unsealed
from basestore.protocol.operator import Status
from basestore.transport.frames import FrameReader

ROOM = 32
SET = Set(1, "default", b"k", b"v", 2, 5000, 0, b"proposed")
GET = Get(1, "default", b"k", 2, 5000, b"", True)
SCAN = Scan(1, "default", b"", b"", 10, 2, 5000)


class House:
    """An intake, and a node that answers when it is told to."""

    def __init__(self, room: int = ROOM) -> None:
        self.ready: set[Outbox] = set()
        self.begun: list[tuple[Outbox, Any]] = []
        self._lanes: list[Outbox] = []
        self.deferred: list[Any] = []
        self.keeps = False
        self.refuses = 0
        self.intake = Intake(self._begin, self._defer, room)
        self.now_s = 0.0
        self._next = 1

    def _begin(self, outbox: Outbox, requests: list[Any], now: Instant) -> Any:
        if any(isinstance(request, Credit) for request in requests):
            return requests[0]
        assert isinstance(outbox, Lane)
        self.begun += [(outbox.outbox, request) for request in requests]
        self._lanes += [outbox] * len(requests)
        return None

    def _defer(self, outbox: Outbox, requests: list[Any], now: Instant) -> int:
        self.deferred += requests
        for request in () if self.keeps else requests:
            outbox.put(request)  # whatever it is told: one answer
        return self.refuses

    @property
    def now(self) -> Instant:
        return Instant(int(self.now_s * 1000), self.now_s)

    def open(self, tenant: str = "t", **more: Any) -> Outbox:
        outbox = Outbox(self.ready)
        self.intake.open(outbox, tenant, **more)
        return outbox

    def ask(self, outbox: Outbox, request: Any, count: int = 1) -> bool:
        requests = [request._replace(id=self._next + number) for number in range(count)]
        self._next += count
        return self.intake.offer(outbox, unsealed(requests), self.now)

    def step(self, after_s: float = 0.0, backlog: int = 0) -> None:
        self.now_s += after_s
        self.intake.admit(self.now, backlog)
        self.intake.settle()

    def answer(self, count: int) -> None:
        self.answer_at(0, count)

    def answer_at(self, at: int, count: int = 1) -> None:
        for lane, (_, request) in zip(self._lanes[at : at + count], self.begun[at:], strict=False):
            lane.put(request)
        del self.begun[at : at + count], self._lanes[at : at + count]
        self.intake.settle()


def shed(outbox: Outbox) -> list[tuple[int, int]]:
    """What it was told that nothing was done of: first ids and numbers."""
    told: list[tuple[int, int]] = []
    for message in outbox.messages:
        if isinstance(message, Shed):
            told += zip(message.ranges[::2], message.ranges[1::2], strict=True)
    return told


def test_whose_requests_were_shed_is_counted_whichever_way_they_were_refused() -> None:
    house = House()
    crowding, waiting, deferring = (house.open(name) for name in ("crowding", "waiting", "deferring"))
    house.ask(crowding, SET, 200)
    house.step()
    house.ask(crowding, SET, 10)  # a frame for which there is no room
    house.intake.offer(waiting, [Skimmed(1, 3, WRITE)], house.now)
    house.refuses = 2
    house.ask(deferring, SET._replace(defer=True, level=Level.ANY.value), 5)
    house.step(1.0)
    told = dict(house.intake.figures().most_shed)
    assert told == {"crowding": sum(count for _, count in shed(crowding)), "waiting": 3, "deferring": 2}
    assert sum(told.values()) == sum(house.intake.shed)
    for outbox in (crowding, waiting, deferring):
        house.intake.close(outbox)
    assert dict(house.intake.figures().most_shed) == told
    for _ in range(NOTES + 1):
        house.now_s += 1
        house.intake.tick(house.now)
    assert house.intake.figures().most_shed == ()


def test_so_many_are_under_way_and_the_rest_waits() -> None:
    house = House()
    client = house.open()
    for _ in range(2 * ROOM):
        house.ask(client, SET)
    house.step()
    assert len(house.begun) == ROOM
    assert house.intake.waiting == ROOM
    assert not house.intake.ready
    house.answer(5)
    assert house.intake.ready
    house.step()
    assert len(house.begun) == ROOM


def test_what_waits_too_long_is_refused_in_one_answer_and_never_begun() -> None:
    house = House()
    client = house.open()
    for _ in range(2 * ROOM):
        house.ask(client, SET)
    house.step()
    begun = {request.id for _, request in house.begun}
    house.step(1.0)
    assert shed(client) == [(ROOM + 1, ROOM)]
    assert len([each for each in client.messages if isinstance(each, Shed)]) == 1
    house.answer(ROOM)
    house.step()
    assert not house.begun
    assert begun == set(range(1, ROOM + 1))
    assert house.intake.shed[WRITE] == ROOM


def test_what_has_lost_half_of_its_time_behind_one_with_more_is_refused_and_not_begun() -> None:
    house = House()
    client = house.open()
    house.ask(client, SET, ROOM)
    house.step()
    house.ask(client, SET)
    house.ask(client, SET._replace(timeout_ms=40))
    house.step(0.03)  # 100 ms for the first of the two, 20 for the other one
    house.answer(ROOM)
    house.step()
    assert [request.id for _, request in house.begun] == [ROOM + 1]
    assert shed(client) == [(ROOM + 2, 1)]
    assert not house.intake.unopened_bytes


def test_whose_answers_come_in_an_outbox_is_known_by_the_version_that_it_speaks() -> None:
    house = House()
    assert [house.open(decoder=Decoder(version)).version for version in (8, 9)] == [8, 9]


def test_what_has_lost_half_of_its_time_behind_who_takes_no_answers_is_refused_and_not_begun() -> None:
    house, room = House(), [1]
    client = house.open(room=lambda: room[0])
    house.ask(client, SET, 2)
    house.step()
    room[0] = 0
    for timeout_ms in (5000, 40, 5000):
        house.ask(client, SET._replace(timeout_ms=timeout_ms))
    house.step()
    house.step(0.03)
    room[0] = 8
    house.step()
    assert shed(client) == [(4, 1)]
    assert [request.id for _, request in house.begun] == [1, 2, 3, 5]
    assert not house.intake.unopened_bytes


def test_a_frame_that_is_refused_is_not_opened() -> None:
    house = House()
    client = house.open()
    broken = FrameReader()
    broken.keep_sealed()
    (frame,) = broken.feed(enveloped(b"this is no CBOR", 1, 1, 1000, WRITE))
    house.ask(client, SET, ROOM)
    house.intake.offer(client, [frame], house.now)
    house.step()
    house.step(1.0)
    assert shed(client) == [(1, 1)]
    assert not house.intake.broken
    house.answer(ROOM)
    house.intake.offer(client, [frame], house.now)
    house.step()
    assert client in house.intake.broken  # now it was opened


def test_an_operator_is_heard_in_a_full_house() -> None:
    house = House()
    client, operator = house.open(), house.open("operator")
    house.ask(client, SET, ROOM)
    house.step()
    for _ in range(2 * ADMIN_MAX):
        house.ask(operator, Status(1))
    house.step()
    heard = [request for _, request in house.begun if isinstance(request, Status)]
    assert len(heard) == ADMIN_MAX // 2


@pytest.mark.parametrize(("first", "later"), [(GET, SET), (SET, GET), (SET, SCAN), (GET, SCAN)])
def test_a_class_that_asks_has_its_floor(first: Any, later: Any) -> None:
    house, kind = House(), {Get: READ, Set: WRITE, Scan: BULK}[type(later)]
    client, other = house.open("a"), house.open("b")
    for _ in range(10 * ROOM):
        house.ask(client, first)
    house.ask(other, later)
    for _ in range(4 * ROOM):
        house.step()
        house.answer(1)
    assert house.intake.begun[kind] == 1


def test_reads_go_before_writes() -> None:
    house = House()
    client = house.open()
    house.ask(client, SET, ROOM)
    house.step()
    house.ask(client, SET)
    house.ask(client, GET)
    house.answer(1)
    house.step()
    assert isinstance(house.begun[-1][1], Get)


def test_nobody_holds_more_than_half_while_others_wait_and_who_holds_little_enters_a_full_house() -> None:
    house = House()
    greedy, polite = house.open("greedy"), house.open("polite")
    for _ in range(4 * ROOM):
        house.ask(greedy, SET)
    house.step()
    assert len(house.begun) == ROOM  # nobody else is there
    house.ask(polite, SET, 2)
    house.step()
    assert [outbox for outbox, _ in house.begun].count(polite) == 2


@pytest.mark.parametrize(("asked", "other"), [(GET, SET), (GET, SCAN), (SET, SCAN), (SCAN, GET)])
def test_others_wait_too_who_ask_for_something_of_another_class(asked: Any, other: Any) -> None:
    house = House()
    greedy, polite = house.open("greedy"), house.open("polite")
    for _ in range(2 * ROOM):
        house.ask(greedy, asked)
        house.ask(polite, other)
    house.step()
    assert [outbox for outbox, _ in house.begun].count(greedy) == ROOM // 2


# --- brownout ---------------------------------------------------------------------------------------


def pressed(house: House, ask: Callable[[], object]) -> int:
    """The level of the brownout after half a minute of which each second begins so."""
    for _ in range(30):
        ask()
        house.step(0.5)
        house.intake.tick(house.now)
        house.now_s += 0.5
    assert sum(house.intake.shed) > 0
    return house.intake.brownout.level


def test_a_node_that_does_not_keep_up_leaves_something_out() -> None:
    house = House()
    client = house.open()
    house.ask(client, SET, ROOM)
    house.step()
    assert pressed(house, lambda: house.ask(client, SET)) == 2


def test_who_sends_more_bytes_than_it_may_browns_out_nobody() -> None:
    house = House()
    client = house.open()
    large = SET._replace(value=bytes(1 << 19))

    def flood() -> None:
        assert not all(house.ask(client, large) for _ in range(4))
        house.step()  # there is room for what is left of it
        house.answer(len(house.begun))

    assert pressed(house, flood) == 0


def test_the_bytes_of_all_are_what_a_node_does_not_keep_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_UNOPENED_BYTES_MAX", 1 << 20)
    house = House()
    clients = [house.open(f"t{number}") for number in range(4)]

    def flood() -> None:
        for client in clients:
            house.ask(client, SET._replace(value=bytes(1 << 19)))
        house.step()
        house.answer(len(house.begun))

    assert pressed(house, flood) == 2


def test_who_takes_no_answers_browns_out_nobody() -> None:
    house = House()
    deaf = house.open("t", room=lambda: 0)
    house.ask(deaf, GET)
    house.step()

    def ask() -> None:
        house.ask(deaf, GET._replace(timeout_ms=100))
        house.step()

    assert pressed(house, ask) == 0


def test_who_leaves_no_time_browns_out_nobody() -> None:
    house = House()
    client = house.open()

    def ask() -> None:
        house.ask(client, GET._replace(timeout_ms=2))
        house.step(0.005)

    assert pressed(house, ask) == 0


def test_operators_who_ask_too_much_brown_out_nobody() -> None:
    house = House()
    operator = house.open()
    house.ask(operator, Status(1), ADMIN_MAX)
    house.step()
    assert pressed(house, lambda: house.ask(operator, Status(1))) == 0


def test_two_connections_of_a_tenant_are_not_served_twice_as_much() -> None:
    house = House()
    twice, once = [house.open("twice"), house.open("twice")], house.open("once")
    for _ in range(4 * ROOM):
        for outbox in (*twice, once):
            house.ask(outbox, SET)
    served = 0
    for _ in range(ROOM):
        house.step()
        served += sum(outbox is once for outbox, _ in house.begun[:4])
        house.answer(4)
    assert abs(served - 2 * ROOM) <= ROOM // 4


def test_too_many_bytes_are_refused_at_once_and_no_more_is_read() -> None:
    house = House()
    client = house.open()
    large = SET._replace(value=bytes(1 << 19))
    house.ask(client, SET, ROOM)
    house.step()
    assert [house.ask(client, large) for _ in range(4)] == [True, True, False, False]
    house.step()
    assert sum(count for _, count in shed(client)) == 2
    assert house.intake.unopened_bytes <= UNOPENED_BYTES_MAX + (1 << 20)


def test_what_could_only_wait_too_long_is_refused_when_it_comes() -> None:
    house = House()
    greedy, other = house.open("greedy"), house.open("other")
    for _ in range(2 * WAITING_ROOMS):
        house.ask(greedy, SET, ROOM)
    house.ask(greedy, GET)
    house.ask(other, SET)
    house.step()
    left = ROOM * (2 * WAITING_ROOMS - WAITING_ROOMS - 1)
    assert shed(greedy) == [(ROOM * (WAITING_ROOMS + 1) + 1, left)]
    assert not shed(other)
    assert any(request.id == 2 * WAITING_ROOMS * ROOM + 1 for _, request in house.begun)  # of another class


def test_who_has_crowded_a_class_is_skimmed_until_there_is_room_to_wait_again() -> None:
    house = House()
    greedy, other = house.open("greedy"), house.open("other")
    intake = house.intake
    for _ in range(2 * WAITING_ROOMS):
        assert not intake.shut(intake.caller(greedy)) or house.intake.waiting > WAITING_ROOMS * ROOM
        house.ask(greedy, SET, ROOM)
    assert set(intake.shut(intake.caller(greedy))) == {WRITE}
    assert set(intake.shut(intake.caller(house.open("greedy")))) == {WRITE}
    assert not intake.shut(intake.caller(other))
    intake.offer(greedy, [Skimmed(1000, 70, WRITE)], house.now)
    house.step()
    assert (1000, 70) in shed(greedy)
    house.step(1.0)  # all that waited was refused
    assert not intake.shut(intake.caller(greedy))
    # What was skimmed is not in memory any more, whatever there is room for when it is offered.
    intake.offer(greedy, [Skimmed(2000, 1, WRITE)], house.now)
    house.step()
    assert (2000, 1) in shed(greedy)


def test_what_may_be_deferred_is_not_refused_when_it_comes() -> None:
    house = House()
    client = house.open()
    for _ in range(2 * WAITING_ROOMS):
        house.ask(client, SET._replace(level=Level.ANY, defer=True), ROOM)
    house.step()
    assert not shed(client)
    house.step(1.0)
    assert not shed(client)
    assert len(house.deferred) == 2 * WAITING_ROOMS * ROOM - len(house.begun)


def test_what_may_not_be_deferred_after_all_counts_as_shed() -> None:
    house = House()
    house.refuses = 3
    house.ask(house.open(), SET, ROOM)
    house.step()
    house.ask(house.open(), SET._replace(level=Level.ANY), 5)
    house.step(1.0)
    assert house.intake.begun[WRITE] == ROOM + 2
    assert house.intake.shed[WRITE] == 3


def test_large_ones_fill_the_house_sooner_and_who_holds_little_enters_all_the_same() -> None:
    house = House(256)
    large = SET._replace(value=bytes(1 << 20))
    for _ in range(24):
        house.ask(house.open("greedy"), large)
    house.step()
    assert len(house.begun) * len(large.value) == BEGUN_BYTES_MAX
    assert not house.intake.ready
    house.ask(house.open("polite"), SET)
    house.step()
    assert house.begun[-1][1].value == SET.value
    house.answer(2)
    house.step()
    while house.begun:
        assert house.intake.room.bytes <= BEGUN_BYTES_MAX + 2 * len(large.value)
        house.answer(1)
        house.step()
    assert house.intake.room.bytes == 0
    assert sum(house.intake.begun) == 25


def test_while_another_node_does_not_keep_up_only_who_holds_little_is_begun() -> None:
    house = House()
    clients = house.open("t"), house.open("u")
    for client in clients:
        for _ in range(ROOM):
            house.ask(client, SET)
    house.step(backlog=LAGGING_BYTES + 1)
    assert not house.intake.ready
    for client in clients:
        assert [outbox for outbox, _ in house.begun].count(client) == ROOM // LITTLE
    house.step()
    assert len(house.begun) == ROOM


def test_what_waits_for_another_node_never_runs_over_though_the_rest_have_answered() -> None:
    house = House()
    large = SET._replace(value=bytes(1 << 20))
    clients = [house.open(tenant) for tenant in "tuvw"]
    backlog = 0
    for _ in range(OUTBOX_BYTES_MAX // len(large.value)):
        for client in clients:
            house.ask(client, large)
        house.step(backlog=backlog)
        backlog += len(house.begun) * len(large.value)  # nobody waits for the one that takes nothing
        house.answer(len(house.begun))
    assert SENT_BYTES_MAX <= backlog <= OUTBOX_BYTES_MAX
    house.step(backlog=LAGGING_BYTES)
    assert house.begun


def test_a_node_has_a_bound_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_UNOPENED_BYTES_MAX", 1 << 20)
    house = House()
    house.ask(house.open(), SET, ROOM)
    house.step()
    taken = [house.ask(house.open(f"t{number}"), SET._replace(value=bytes(1 << 19))) for number in range(4)]
    assert taken == [True, True, False, False]


def test_who_takes_no_answers_is_begun_no_further_and_holds_nobody_up() -> None:
    house = House()
    room = 3
    deaf, other = house.open("t", room=lambda: room), house.open("t")
    house.ask(deaf, GET, 5)
    house.ask(deaf, GET)
    house.ask(other, GET)
    house.step()
    assert [outbox for outbox, _ in house.begun].count(deaf) == room
    assert [outbox for outbox, _ in house.begun].count(other) == 1


def test_what_its_envelope_says_is_held_against_it() -> None:
    house = House()
    client = house.open()
    reader = FrameReader()
    reader.keep_sealed()
    (lie,) = reader.feed(enveloped(b"\x81\x83\x0e\x05\xf4", 6, 1, 0, 0))  # a Status of id 5
    house.intake.offer(client, [lie], house.now)
    house.step()
    assert "other requests" in house.intake.broken[client]


def test_what_no_client_may_say_is_named() -> None:
    house = House()
    client = house.open()
    house.intake.offer(client, [Unsealed(1, 1, 0, 0, [Credit(5)], 0)], house.now)
    house.step()
    assert "a Credit message is not for this" in house.intake.broken[client]


def test_a_kind_that_is_not_known_is_answered_and_the_connection_goes_on() -> None:
    house = House()
    client = house.open()
    reader = FrameReader()
    reader.keep_sealed()
    (newer,) = reader.feed(enveloped(b"\x81\x83\x19\x03\x84\x05\x07", 5, 2, 0, WRITE))  # kind 900
    house.intake.offer(client, [newer], house.now)
    house.ask(client, SET)
    house.step()
    refused = [message for message in client.messages if isinstance(message, Failed)]
    assert [message.id for message in refused] == [5, 6]
    assert {message.code for message in refused} == {InvalidRequest.code}
    assert "no message of kind 900" in refused[0].text
    assert len(house.begun) == 1
    assert not house.intake.broken


def test_what_has_waited_long_is_told_to_take_less_time() -> None:
    house = House()
    client = house.open()
    house.ask(client, SET, ROOM)
    house.step()
    house.ask(client, SET._replace(timeout_ms=400))
    house.now_s += 0.09
    house.answer(1)
    house.step()
    assert 300 <= house.begun[-1][1].timeout_ms <= 310


def test_what_is_answered_first_need_not_have_been_asked_first() -> None:
    house = House(256)
    console, operator = house.open("console"), house.open("operator")
    house.ask(console, GET, ADMIN_MAX)
    house.step()  # they hang, for a member is paused
    for _ in range(ADMIN_MAX):
        house.ask(console, Status(1))
        house.step(0.001)
        house.answer_at(ADMIN_MAX)
    assert house.intake.room.under_way == [0, ADMIN_MAX, 0, 0]
    house.ask(operator, Status(1))
    house.step()
    assert house.begun[-1][0] is operator


def test_no_tenant_holds_all_the_places_of_operators() -> None:
    house = House()
    greedy, other = house.open("greedy"), house.open("other")
    house.ask(greedy, Status(1), 4 * ADMIN_MAX)
    house.step()
    assert len(house.begun) == ADMIN_MAX // 2
    assert not house.intake.ready
    house.ask(other, Status(1))
    assert house.intake.ready
    house.step()
    assert house.begun[-1][0] is other


def test_what_is_deferred_takes_no_room() -> None:
    house = House()
    house.keeps = True  # and its disk is slow: nothing of it is answered
    writers, reader = house.open("writers"), house.open("reader")
    for _ in range(3):
        house.ask(writers, SET._replace(level=0), 2 * ROOM)
        house.step(0.2)
    house.ask(reader, GET)
    house.step()
    assert house.begun[-1][0] is reader
    assert len(house.deferred) >= 4 * ROOM


def test_who_comes_again_and_again_finds_no_more_room() -> None:
    house = House()
    for _ in range(10):
        client = house.open("t")
        house.ask(client, GET, ROOM)
        house.step(0.01)
        house.intake.close(client)
    assert len(house.begun) == ROOM
    house.answer(ROOM)
    house.ask(house.open("t"), GET, ROOM)
    house.step()
    assert len(house.begun) == ROOM


def test_what_may_be_deferred_is_handed_on_when_it_would_be_refused() -> None:
    house = House()
    client = house.open()
    house.ask(client, SET, ROOM)
    house.ask(client, SET._replace(level=0))
    house.ask(client, SET)
    house.step()
    house.step(1.0)
    assert [request.level for request in house.deferred] == [0]
    assert len(shed(client)) == 1


def test_windows_are_shared_among_those_who_ask_and_told_when_they_change() -> None:
    house = House(256)
    outboxes = [house.open(f"t{number}") for number in range(8)]
    for outbox in outboxes:
        house.ask(outbox, GET)
    house.intake.tick(house.now)
    house.step()
    house.answer(8)
    for outbox in outboxes:
        assert [message for message in outbox.messages if isinstance(message, Credit)] == [Credit(64)]


def test_who_is_gone_leaves_nothing() -> None:
    house = House()
    client = house.open()
    for _ in range(2 * ROOM):
        house.ask(client, SET)
    house.step()
    house.intake.close(client)
    assert house.intake.at_rest
    assert house.intake.unopened_bytes == 0
    assert house.intake.room.under_way == [0, 0, ROOM, 0]  # the node goes on with what it has begun
    house.answer(ROOM)
    assert house.intake.room.under_way == [0, 0, 0, 0]
    other = house.open("u")
    house.ask(other, SET, ROOM)
    house.step()
    assert sum(outbox is other for outbox, _ in house.begun) == ROOM


def test_who_is_gone_holds_nothing_of_what_there_was_no_room_for() -> None:
    house = House()
    deaf = house.open(room=lambda: 0)
    caller = house.intake.caller(deaf)
    house.ask(deaf, SET, 5)
    house.ask(deaf, SET)
    house.step()
    assert caller.clogged
    assert caller.held > house.intake.unopened_bytes > 0  # of the first, all; the other one is still closed
    house.intake.close(deaf)
    assert caller.held == house.intake.unopened_bytes == 0
    assert house.intake.at_rest


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([SET, GET, SCAN, Status(1), SET._replace(level=0)]),
            st.integers(1, 40), st.floats(0, 0.2), st.integers(0, 60),
        ),
        max_size=40,
    )
)  # fmt: skip
def test_each_request_is_begun_or_refused_and_never_both(drawn: list[Any]) -> None:
    house = House()
    clients = [house.open(f"t{number // 2}") for number in range(4)]
    asked, begun = 0, set[int]()
    for who, request, count, after_s, answers in drawn:
        house.ask(clients[who], request, count)
        asked += count
        house.step(after_s)
        begun |= {each.id for _, each in house.begun}
        house.answer(answers)
        assert sum(house.intake.room.under_way[1:]) <= 5 * ROOM // 4 + 40 + len(house.deferred)
    while not house.intake.at_rest or house.begun:
        house.step(0.01)
        begun |= {each.id for _, each in house.begun}
        house.answer(len(house.begun))
    lost = [each for outbox in clients for each in shed(outbox)]
    refused = {number for first, count in lost for number in range(first, first + count)}
    deferred = {request.id for request in house.deferred}
    assert not begun & refused
    assert not deferred & (begun | refused)
    assert len(begun) + len(refused) + len(deferred) == asked
    assert house.intake.room.under_way == [0, 0, 0, 0]
    assert house.intake.unopened_bytes == 0
