"""What is written to a log once, and what is counted.

Covers `observe/complaints.py`.
"""

from basestore.observe.complaints import COMPLAINT_S, KINDS_MAX, Complaints


def test_the_same_text_is_told_once_a_minute() -> None:
    complaints = Complaints()
    assert complaints.tell(30, "no room", "", 0.0)
    assert not complaints.tell(30, "no room", "", COMPLAINT_S - 1)
    assert complaints.tell(30, "no key", "", 1.0)
    assert complaints.rest(COMPLAINT_S) == []
    assert complaints.tell(30, "no room", "", COMPLAINT_S)


def test_of_a_kind_one_is_told_a_minute_and_then_how_many_more_there_were() -> None:
    complaints = Complaints()
    told = [complaints.tell(20, f"version {number}", "versions", number / 100) for number in range(1500)]
    assert told == [True] + [False] * 1499
    assert complaints.rest(COMPLAINT_S - 1) == []
    assert complaints.rest(COMPLAINT_S) == [(20, "1499 more like this: version 0")]
    assert complaints.rest(COMPLAINT_S) == []
    assert complaints.tell(20, "version 7", "versions", COMPLAINT_S)


def test_there_is_a_bound_on_what_is_remembered_and_beyond_it_little_is_told() -> None:
    complaints = Complaints()
    told = [complaints.tell(20, f"text {number}", "", 0.0) for number in range(3 * KINDS_MAX)]
    assert sum(told) == KINDS_MAX + 1
    (rest,) = complaints.rest(COMPLAINT_S)
    assert rest == (20, f"{2 * KINDS_MAX - 1} more like this: text {KINDS_MAX}")
    assert complaints.tell(20, "text 0", "", COMPLAINT_S)
