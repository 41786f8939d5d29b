"""Registry: every message that may travel, by the number that stands for it on the wire.

A message is a NamedTuple class that states three things in one place:

    @message(35)                                    its number, never used for another message
    class Held(NamedTuple):
        id: int                                     its fields: int, bool, bytes, str, a list of one of
        record: bytes                               these, or a list of rows
        stable: int

        def check(self) -> str:                     what makes no sense in it, or nothing
            return "carries no record" if 0 < len(self.record) < RECORD_BYTES_MIN else ""

`codec` checks the types of the fields, then calls `check`, before anybody is handed the message: a
receiver need not look at lengths again. A message without a `check` says by `unchecked` why it needs none.
What only a node can judge (whether it knows a member, whether it holds a row) is not checked here.

A *row* is a NamedTuple of plain fields (int, bool, bytes, str), for lists in messages that are rare.
Messages on the path of a request keep flat lists instead: rows cost a Python object each.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

Class = TypeVar("Class", bound=type[Any])

PLAIN: Final = frozenset((int, bool, bytes, str))

# Why a message has no check.
ANYTHING: Final = "whatever its fields hold makes sense, or is compared and found to be nobody's"
ANSWERED: Final = "who asks for something impossible is told so in an answer"


class RowForm(NamedTuple):
    """A field that is a list of rows: its place in the message, the rows' class, and their fields' types."""

    place: int
    make: type[Any]
    types: tuple[type, ...]


class Form(NamedTuple):
    """How a message is checked: types of its fields, of its lists' elements, its rows, its check."""

    make: type[Any]
    types: tuple[type, ...]
    lists: tuple[tuple[int, type], ...]
    rows: tuple[RowForm, ...]
    check: Callable[[Any], str] | None


FORMS: Final[dict[int, Form]] = {}
NUMBERS: Final[dict[type[Any], int]] = {}


def message(number: int, *, unchecked: str = "") -> Callable[[Class], Class]:
    """Register a message under its number. `unchecked`: why it has no `check`."""

    def register(make: Class) -> Class:
        if number in FORMS:
            raise TypeError(f"{FORMS[number].make.__name__} and {make.__name__} are both number {number}")
        check = getattr(make, "check", None)
        if (check is None) != bool(unchecked):
            raise TypeError(f"{make.__name__} needs a `check`, or `unchecked`: why it has none")
        FORMS[number] = _form(make, check)
        NUMBERS[make] = number
        return make

    return register


def _form(make: type[Any], check: Callable[[Any], str] | None) -> Form:
    hints = get_type_hints(make)
    fields = [hints[name] for name in make._fields]
    elements = [(place, get_args(hint)[0]) for place, hint in enumerate(fields) if get_origin(hint) is list]
    rows = tuple(RowForm(place, row, _plain_types(row)) for place, row in elements if hasattr(row, "_fields"))
    lists = tuple((place, element) for place, element in elements if element in PLAIN)
    return Form(make, tuple(get_origin(hint) or hint for hint in fields), lists, rows, check)


def _plain_types(row: type[Any]) -> tuple[type, ...]:
    hints = get_type_hints(row)
    types = tuple(hints[name] for name in row._fields)
    if not PLAIN.issuperset(types):  # one level more would be refused when it arrives
        raise TypeError(f"the row {row.__name__} has a field that is neither int, bool, bytes nor str")
    return types
