"""Who has to go when there are too many strangers, or when connections hold too much.

Covers `server/slots.py`; with sockets it is met in `test_connections.py`.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import trio

from basestore.cluster.outbox import Outbox
from basestore.intake.caller import Caller, Tenant
from basestore.protocol.client import Set
from basestore.protocol.codec import Decoder
from basestore.server import slots as module
from basestore.server.slots import Client, Slots


@dataclass(eq=False)
class Stranger:
    """A link that says nothing."""

    host: str = ""
    gone: bool = False
    held: int = 0
    partial_since: float | None = None
    put_off: bool = False

    @property
    def scope(self) -> "Stranger":
        return self

    def cancel(self) -> None:
        self.gone = True


def arrive(slots: Slots, host: str) -> Any:
    stranger: Any = Stranger(host)
    slots.arrive(stranger)
    return stranger


def slots_of(strangers: int) -> Slots:
    return Slots(strangers, 1, lambda level, text: None)


def test_of_one_host_the_one_that_has_kept_silent_longest_goes() -> None:
    slots = slots_of(3)
    first, second, third = (arrive(slots, "10.0.0.9") for _ in range(3))
    slots.stir(first)
    arrive(slots, "10.0.0.9")
    assert [stranger.gone for stranger in (first, second, third)] == [False, True, False]


def test_many_from_one_host_take_no_place_of_others() -> None:
    slots = slots_of(4)
    member = arrive(slots, "10.0.0.1")
    for _ in range(100):
        arrive(slots, "10.0.0.9")
    assert not member.gone


def test_who_had_to_go_is_no_stranger_again_by_what_it_had_said() -> None:
    slots = slots_of(1)
    first = arrive(slots, "10.0.0.1")
    second = arrive(slots, "10.0.0.1")
    slots.stir(first)
    third = arrive(slots, "10.0.0.1")
    arrive(slots, "10.0.0.1")
    assert first.gone
    assert second.gone
    assert third.gone


BUDGET = 1000


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten clients may hold a hundred bytes each."""
    monkeypatch.setattr(module, "HELD_BYTES_MAX", BUDGET)


def holding(slots: Slots, *held: int) -> list[Any]:
    """Links of clients that hold so much each."""
    links: list[Any] = [Stranger(held=each) for each in held]
    for link in links:
        outbox = Outbox(set())
        slots.clients[outbox] = Client(link, Caller(outbox, Tenant(""), Decoder()), 0.0)
    return links


def gone(slots: Slots, links: list[Any], members: int = 0, at_s: float = 0.0) -> list[bool]:
    """Who is, after a look at that time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio, "current_time", lambda: at_s)
        slots.watch(members)
    return [link.gone for link in links]


def looked_at(first_s: float) -> tuple[Slots, list[Any]]:
    """Three clients, every half second from then on until now."""
    slots = Slots(1, 10, lambda level, text: None)
    links = holding(slots, 1, 1, 1)
    for half in range(int(2 * first_s), 0):
        gone(slots, links, at_s=half / 2)
    return slots, links


def test_a_client_that_does_not_end_a_frame_goes_unless_more_of_it_lies_there() -> None:
    slots, links = looked_at(-20.0)
    late, unread, new = links
    late.partial_since = unread.partial_since = -module.FRAME_S_MAX
    new.partial_since = -module.FRAME_S_MAX + 0.1
    unread.put_off = True
    assert gone(slots, links) == [True, False, False]
    unread.put_off = False  # and nothing of what lay there ended its frame
    assert gone(slots, links) == [True, True, False]


def test_while_this_node_did_not_run_nobody_was_late() -> None:
    slots, links = looked_at(-20.0)
    links[0].partial_since = -1.0
    assert gone(slots, links, at_s=15.0) == [False] * 3  # nobody had looked since -0.5
    for half in range(2 * int(module.FRAME_S_MAX)):
        assert gone(slots, links, at_s=15.0 + half / 2) == [False] * 3
    assert gone(slots, links, at_s=15.0 + module.FRAME_S_MAX) == [True, False, False]


@pytest.mark.usefixtures("budget")
def test_those_that_hold_most_go_until_the_rest_is_within_the_budget() -> None:
    slots = Slots(1, 10, lambda level, text: None)
    links = holding(slots, 300, 400, 200, 600)
    assert gone(slots, links) == [False, False, False, True]
    assert slots.held == 900
    assert gone(slots, links) == [False, False, False, True]
    assert slots.held == 900  # of those that are there


@pytest.mark.usefixtures("budget")
def test_what_strangers_and_members_hold_counts_too() -> None:
    slots = Slots(1, 10, lambda level, text: None)
    links = holding(slots, 300, 400)
    assert gone(slots, links, members=300) == [False, False]
    arrive(slots, "10.0.0.9").held = 100
    assert gone(slots, links, members=300) == [False, True]
    assert slots.held == 700


@pytest.mark.usefixtures("budget")
def test_nobody_goes_that_keeps_within_an_equal_share_however_much_members_hold() -> None:
    slots = Slots(1, 10, lambda level, text: None)
    links = holding(slots, 100, 101, 0)
    assert gone(slots, links, members=BUDGET) == [False, True, False]


def test_what_waits_unopened_or_opened_for_room_and_what_waits_to_be_taken_is_held() -> None:
    outbox = Outbox(set())
    link: Any = Stranger(held=1)
    client = Client(link, Caller(outbox, Tenant(""), Decoder()), 0.0)
    assert client.held == 1
    client.caller.bytes += 10
    outbox.put(Set(1, "default", b"k", b"", 2, 1000, 0, b""), 100)
    assert client.held == 111
    client.caller.rest = 1, [Set(1, "default", b"k", bytes(5000), 2, 1000, 0, b"")], 5000
    assert client.held == 5111
