"""Own settings: those of a cluster's settings that basestore itself goes by, all under `moves.`.

    moves.at_once            so many partitions move at once, in the cluster
    moves.at_once_to         so many to one member
    moves.at_once_from       so many of one member, that it holds

Whole numbers above 0. What is none, and a name that is none of these, is refused by the node that is asked to
set it. It is not refused as an entry is applied, for every release must say the same of an entry, and
earlier ones take it: so whoever reads these settings passes over what makes no sense.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

PREFIX: Final = "moves."
MOVES: Final[Mapping[str, int]] = {"moves.at_once": 64, "moves.at_once_to": 16, "moves.at_once_from": 32}
NUMBER_MAX: Final = 999_999_999


class Bounds(NamedTuple):
    """How many partitions are moved at once: in the cluster, to a member, and of one."""

    at_once: int
    to: int
    of: int


def bounds(settings: Mapping[str, str]) -> Bounds:
    """As the cluster's settings have them; what is no number above 0 counts for nothing."""
    return Bounds(*(_number(settings.get(key, "")) or usual for key, usual in MOVES.items()))


def wrong_setting(key: str, value: str) -> str:
    """Why this is not to be set, and what is right; empty if nothing is wrong with it."""
    if not key.startswith(PREFIX):
        return ""
    if key not in MOVES:
        return (
            f"names that begin with {PREFIX} are those that basestore itself goes by: {', '.join(MOVES)}. "
            f"Take one of these, or another name for a setting of your own"
        )
    if not _number(value):
        return (
            f"{key} is a whole number from 1 to {NUMBER_MAX}: how many partitions move at once. Without it "
            f"{MOVES[key]} do (basestore settings unset {key})"
        )
    return ""


def _number(text: str) -> int:
    """0 for what is none."""
    whole = text.isascii() and text.isdecimal() and len(text) <= len(str(NUMBER_MAX))
    return int(text) if whole else 0
