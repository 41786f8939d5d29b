"""Clockwork: order, and chance that a seed decides."""

from basestore.drill.clockwork import Chance, Clockwork


def test_things_happen_by_their_moment_and_then_as_they_were_planned() -> None:
    clockwork, happened = Clockwork(), list[tuple[str, float]]()

    def note(what: str) -> None:
        happened.append((what, clockwork.now_s))

    clockwork.after(2.0, note, "late")
    clockwork.at(1.0, note, "first")
    clockwork.at(1.0, note, "second")
    assert not clockwork.run(lambda: False, 3.0)
    assert happened == [("first", 1.0), ("second", 1.0), ("late", 2.0)]
    assert clockwork.now_s == 3.0


def test_what_should_have_happened_happens_now() -> None:
    clockwork, happened = Clockwork(), list[float]()
    clockwork.run(lambda: False, 5.0)
    clockwork.at(1.0, lambda: happened.append(clockwork.now_s))
    clockwork.run(lambda: False, 1.0)
    assert happened == [5.0]


def test_it_stops_as_soon_as_it_is_so() -> None:
    clockwork, count = Clockwork(), [0]

    def tick() -> None:
        count[0] += 1
        clockwork.after(1.0, tick)

    tick()
    assert clockwork.run(lambda: count[0] == 4, 10.0)
    assert clockwork.now_s == 3.0


def test_a_seed_and_a_concern_decide_what_is_drawn() -> None:
    def drawn(seed: int, concern: str) -> list[float]:
        chance = Chance(seed, concern)
        return [chance.uniform(2.0, 3.0) for _ in range(100)]

    assert drawn(1, "a") == drawn(1, "a")
    assert drawn(1, "a") != drawn(2, "a")
    assert drawn(1, "a") != drawn(1, "b")
    assert all(2.0 <= each < 3.0 for each in drawn(1, "a"))
    assert min(drawn(1, "a")) < 2.1 < 2.9 < max(drawn(1, "a"))
    assert len(Chance(1, "a").bytes(16)) == 16
