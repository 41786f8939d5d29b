"""Settings that basestore itself goes by. Covers `topology/own_settings.py`."""

import pytest

from basestore.topology.own_settings import MOVES, Bounds, bounds, wrong_setting


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, Bounds(64, 16, 32)),
        ({"moves.at_once": "1", "moves.at_once_to": "2", "moves.at_once_from": "3"}, Bounds(1, 2, 3)),
        ({"moves.at_once": "0", "moves.at_once_to": "-2", "moves.at_once_from": "x"}, Bounds(64, 16, 32)),
        ({"moves.at_once": "٣", "moves.at_once_to": "9" * 10}, Bounds(64, 16, 32)),
    ],
)
def test_bounds_are_settings_and_what_is_no_number_counts_for_nothing(
    settings: dict[str, str], allowed: Bounds
) -> None:
    assert bounds(settings) == allowed


@pytest.mark.parametrize("key", MOVES)
@pytest.mark.parametrize("value", ["banana", "", "0", "-1", "1.5", " 8", "٣", "9" * 10, "8\n"])
def test_what_is_no_number_above_0_is_not_to_be_set(key: str, value: str) -> None:
    assert f"{key} is a whole number from 1 to 999999999" in wrong_setting(key, value)
    assert not wrong_setting(key.removeprefix("moves."), value)


@pytest.mark.parametrize("value", ["1", "08", "9" * 9])
def test_a_number_is(value: str) -> None:
    assert {wrong_setting(key, value) for key in MOVES} == {""}
    assert set(bounds(dict.fromkeys(MOVES, value))) == {int(value)}


@pytest.mark.parametrize("key", ["moves.", "moves.at_onec", "moves.at_once.to"])
def test_a_name_that_only_looks_like_one_of_them_is_not_to_be_set(key: str) -> None:
    told = wrong_setting(key, "8")
    assert all(name in told for name in MOVES)
