"""Marks: what is noted of rows takes so much memory and no more, and what has gone is known no more."""

from hypothesis import given
from hypothesis import strategies as st

from basestore.storage.marks import MARK_BYTES, Marks

ROWS = st.integers(0, 30).map(lambda number: b"row %02d" % number)
ONE = MARK_BYTES + len(b"row 00")
steps = st.lists(st.lists(ROWS, min_size=1, max_size=8, unique=True) | ROWS | st.none(), max_size=40)


@given(steps, st.integers(0, 12))
def test_marks_are_counted_bounded_and_never_of_before(
    story: list[list[bytes] | bytes | None], room: int
) -> None:
    marks = Marks(room * ONE)
    last: dict[bytes, bytes] = {}
    for number, step in enumerate(story):
        mark = b"%d" % number
        if isinstance(step, bytes):
            marks.forget(step)
            last.pop(step, None)
        elif step is None:
            marks.clear()
            last.clear()
        else:
            marks.note_all(step, [mark] * len(step))
            last.update(dict.fromkeys(step, mark))
        assert marks.bytes <= room * ONE
        assert marks.bytes == len(marks.of) * ONE
        assert marks.of.items() <= last.items()


def test_the_oldest_go_first() -> None:
    marks = Marks(3 * ONE)
    for number in range(5):
        marks.note(b"row %02d" % number, b"mark")
    assert list(marks.of) == [b"row 02", b"row 03", b"row 04"]
