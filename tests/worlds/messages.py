"""Hypothesis strategies for messages of every kind."""

from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from basestore.protocol.codec import KINDS

LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(1 << 64), (1 << 64) - 1),
    bytes: st.binary(max_size=30),
    str: st.text(max_size=20),
    bool: st.booleans(),
    Any: st.integers(0, 9) | st.text(max_size=5),
}


def fields(kind: type[Any]) -> list[Any]:
    hints = get_type_hints(kind)
    return [hints[name] for name in kind._fields]


def values(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is list:
        return st.lists(LEAVES[get_args(hint)[0]], max_size=5)
    return LEAVES[hint]


def messages_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(*map(values, fields(kind))).map(kind._make)


any_message = st.one_of([messages_of(kind) for kind in KINDS.values()])

batches = st.lists(any_message, max_size=8)
