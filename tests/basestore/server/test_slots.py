"""Who has to go when there are too many strangers.

Covers `server/slots.py`; with sockets it is met in `test_connections.py`.
"""

from dataclasses import dataclass
from typing import Any

from basestore.server.slots import Slots


@dataclass(eq=False)
class Stranger:
    """A link that says nothing."""

    host: str
    gone: bool = False

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
