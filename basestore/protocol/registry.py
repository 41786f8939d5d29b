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

Each side of a connection says in its first words which versions of the wire it speaks, and the connection
speaks the highest that both do. A kind belongs to a version, and a field that was added later, always at the
end and with a default, to another; a row never changes:

    @message(12, added={"degrade_ms": 9})           on a connection that speaks 8 this field does not travel:
    class Get(NamedTuple):                          it is cut off by who sends, and has its default at who
        ...                                         receives
        degrade_ms: int = 0
    @message(1004, since=9, ...)                    on a connection that speaks 8 nobody may send this

Who is about to say something that the other side cannot hear asks `unspeakable` first. A kind from ADVISORY
on says something that may be left unheard: who does not know it names it in the log, and goes on.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST

Class = TypeVar("Class", bound=type[Any])

PLAIN: Final = frozenset((int, bool, bytes, str))

# Why a message has no check.
ANYTHING: Final = "whatever its fields hold makes sense, or is compared and found to be nobody's"
ANSWERED: Final = "who asks for something impossible is told so in an answer"

ADVISORY: Final = 1000  # kinds from here on may be left unheard
HANDSHAKE: Final = range(1, 10)  # kinds that are said before it is settled which version is spoken


class RowForm(NamedTuple):
    """A field that is a list of rows: its place in the message, the rows' class, and their fields' types."""

    place: int
    make: type[Any]
    types: tuple[type, ...]


class Form(NamedTuple):
    """How a message is checked: types of its fields, of its lists' elements, its rows, its check. `absent`:
    what fields have that do not travel."""

    make: type[Any]
    types: tuple[type, ...]
    lists: tuple[tuple[int, type], ...]
    rows: tuple[RowForm, ...]
    check: Callable[[Any], str] | None
    absent: tuple[Any, ...] = ()


class Dates(NamedTuple):
    """Since which version a kind is spoken, and each of its fields."""

    since: int
    fields: tuple[int, ...]


FORMS: Final[dict[int, Form]] = {}
NUMBERS: Final[dict[type[Any], int]] = {}
DATES: Final[dict[type[Any], Dates]] = {}


def message(
    number: int, *, unchecked: str = "", since: int = WIRE_LOWEST, added: Mapping[str, int] | None = None
) -> Callable[[Class], Class]:
    """Register a message under its number. `unchecked`: why it has no `check`; `since`: the version that it
    belongs to; `added`: the versions that fields of its end belong to, where these are later ones."""

    def register(make: Class) -> Class:
        if number in FORMS:
            raise TypeError(f"{FORMS[number].make.__name__} and {make.__name__} are both number {number}")
        check = getattr(make, "check", None)
        if (check is None) != bool(unchecked):
            raise TypeError(f"{make.__name__} needs a `check`, or `unchecked`: why it has none")
        if number in HANDSHAKE and (added or since != WIRE_LOWEST):
            raise TypeError(f"{make.__name__} is said before a version is settled: all must know all of it")
        DATES[make] = _dates(make, since, added or {})
        FORMS[number] = _form(make, check)
        NUMBERS[make] = number
        return make

    return register


def _dates(make: type[Any], since: int, added: Mapping[str, int]) -> Dates:
    name = make.__name__
    if not added.keys() <= make._field_defaults.keys():
        raise TypeError(f"{name} has no such fields, or no defaults for them: {', '.join(added)}")
    fields = tuple(added.get(each, since) for each in make._fields)
    if sorted(fields) != list(fields):  # what an older version speaks is the beginning of each message
        raise TypeError(f"{name} has a field in front of an older one; fields are added at the end")
    if not WIRE_LOWEST <= since <= fields[-1] <= WIRE_HIGHEST:
        raise TypeError(f"{name} belongs to a version that is not spoken here")
    return Dates(since, fields)


@cache
def forms_of(version: int) -> dict[int, Form]:
    """The forms of what a connection of this version carries, by number."""
    if version == WIRE_HIGHEST:
        return FORMS
    forms = {}
    for number, form in FORMS.items():
        since, fields = DATES[form.make]
        if since <= version:
            spoken = sum(each <= version for each in fields)
            absent = tuple(form.make._field_defaults[each] for each in form.make._fields[spoken:])
            lists = tuple(each for each in form.lists if each[0] < spoken)
            rows = tuple(each for each in form.rows if each.place < spoken)
            forms[number] = Form(form.make, form.types[:spoken], lists, rows, form.check, absent)
    return forms


@cache
def cuts_of(version: int) -> dict[type[Any], int]:
    """How many fields a connection of this version carries, of each class that it carries at all."""
    return {form.make: len(form.types) for form in forms_of(version).values()}


def unspeakable(said: Any, version: int) -> int:
    """The version that is needed to say this, if a connection of `version` cannot carry all of it; or 0."""
    if version >= WIRE_HIGHEST:
        return 0
    since, fields = DATES[type(said)]
    if since > version:
        return since
    needed = 0
    for name, date in zip(said._fields, fields, strict=True):
        if date > version and getattr(said, name) != said._field_defaults[name]:
            needed = max(needed, date)
    return needed


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
