"""Each checker on a history that is good and on one that is bad."""

import pytest

from basestore.consistency import Level
from tests.simulation import history as h
from tests.simulation.checkers import judge
from tests.simulation.history import History, Operation

ONE, QUORUM, ALL = Level.ONE, Level.QUORUM, Level.ALL


class Story:
    """Writes a history down, an operation after the other, a second each."""

    def __init__(self) -> None:
        self.history = History()
        self.now = 0.0

    def _add(self, kind: str, key: str, level: Level, outcome: str, version: int, client: int) -> Operation:
        bucket = "once" if key.startswith("once") else "default"
        op = self.history.begin(client, kind, bucket, key, level)
        op.start, op.end, op.outcome = self.now, self.now + 0.5, outcome
        op.version = version.to_bytes(24) if version else b""
        self.now += 1
        return op

    def put(
        self, version: int, key: str = "k", level: Level = QUORUM, outcome: str = h.STORED, client: int = 0
    ) -> Operation:
        op = self._add(h.SET, key, level, outcome, version, client)
        op.value = b"%d." % op.number
        return op

    def delete(self, version: int, key: str = "k", outcome: str = h.STORED) -> Operation:
        return self._add(h.DELETE, key, QUORUM, outcome, version, 0)

    def get(self, of: Operation | None, level: Level = QUORUM, client: int = 0, key: str = "k") -> Operation:
        op = self._add(h.GET, key, level, h.FOUND, 0, client)
        if of is not None:
            op.version, op.value, op.found = of.version, of.value, of.kind == h.SET
        return op

    def scan(self, *shown: Operation, after: bytes = b"", cursor: bytes | None = None) -> Operation:
        op = self._add(h.SCAN, "", QUORUM, h.FOUND, 0, 0)
        op.after, op.cursor = after, cursor
        op.page = [(each.key, each.value, each.version) for each in shown]
        return op

    def wrong(self) -> set[str]:
        return {violation.check for violation in judge(self.history)}


def test_reads_that_follow_the_writes_are_right() -> None:
    story = Story()
    first = story.put(1)
    story.get(first)
    second = story.put(2)
    story.get(second)
    story.get(second, ALL)
    assert story.wrong() == set()


def test_an_acknowledged_write_that_nobody_finds_is_lost() -> None:
    story = Story()
    story.put(1)
    story.get(None, client=1)
    assert story.wrong() == {"lost writes", "linearizable"}


def test_after_a_ruin_what_was_acknowledged_may_be_there_or_not_and_nothing_else() -> None:
    for ruined, wrong in ((False, {"lost writes", "linearizable"}), (True, set())):
        story = Story()
        written = story.put(1)
        story.get(written)
        if ruined:
            story.history.ruined(lambda each: True)
        story.get(None, client=1)
        assert story.wrong() == wrong
    story.get(story.put(2))
    story.get(written)
    assert story.wrong()


def test_a_client_that_does_not_find_its_own_write_is_told_so() -> None:
    story = Story()
    old = story.put(1, client=1)
    story.put(2)
    story.get(old)
    assert "read your writes" in story.wrong()


def test_reads_must_not_go_back_even_past_a_write_that_failed() -> None:
    story = Story()
    old = story.put(1)
    new = story.put(2, outcome=h.TIMEOUT)
    story.get(new, client=1)
    story.get(old, client=1)
    assert "monotonic reads" in story.wrong()


def test_a_write_without_an_answer_may_show_at_any_time_or_never() -> None:
    story = Story()
    old = story.put(1)
    late = story.put(2, outcome=h.TIMEOUT)
    story.get(old)
    story.get(late)
    story.put(3, outcome=h.SUPERSEDED)
    story.get(late, ALL)
    assert story.wrong() == set()


def test_a_superseded_write_that_shows_late_is_no_fault() -> None:
    story = Story()
    loser = story.put(1, outcome=h.SUPERSEDED)
    story.get(loser)
    assert story.wrong() == set()


def test_what_was_deleted_must_not_come_back() -> None:
    story = Story()
    first = story.put(1)
    story.delete(2)
    story.get(first)
    assert "deletes" in story.wrong()


def test_a_delete_without_an_answer_explains_a_missing_key() -> None:
    story = Story()
    story.put(1)
    gone = story.delete(0, outcome=h.GONE)
    read = story.get(gone)
    read.version = (2).to_bytes(24)
    assert story.wrong() == set()


def test_a_refused_write_must_never_show() -> None:
    story = Story()
    refused = story.put(0, outcome=h.REFUSED)
    read = story.get(refused)
    read.version = (1).to_bytes(24)
    assert "phantoms" in story.wrong()


def test_a_value_that_nobody_wrote_is_a_phantom() -> None:
    story = Story()
    read = story.get(story.put(1))
    read.value = b"77."
    assert "phantoms" in story.wrong()


def test_two_writes_of_one_version_are_found() -> None:
    story = Story()
    story.put(1)
    story.put(1)
    assert "versions" in story.wrong()


def test_a_retry_that_ran_twice_is_found() -> None:
    story = Story()
    twice = story.put(1)
    read = story.get(twice)
    read.version = (2).to_bytes(24)
    assert "versions" in story.wrong()


def test_a_write_at_one_is_known_to_all_in_the_end() -> None:
    story = Story()
    weak = story.put(1, level=ONE)
    story.get(None)  # a quorum need not know it yet
    story.get(weak, ALL)
    assert story.wrong() == set()
    story = Story()
    story.put(1, level=ONE)
    story.get(None, ALL)
    assert story.wrong() == {"lost writes"}


def test_a_write_at_one_may_be_lost_with_a_disk() -> None:
    story = Story()
    story.put(1, level=ONE)
    story.get(None, ALL)
    story.history.stores_lost = True
    assert story.wrong() == set()


def test_a_read_at_one_may_be_old() -> None:
    story = Story()
    old = story.put(1)
    story.put(2)
    story.get(old, ONE)
    assert story.wrong() == set()


def test_a_first_write_key_is_not_won_twice() -> None:
    story = Story()
    story.put(1, "once1")
    story.put(2, "once1")
    assert "two winners" in story.wrong()


def test_contenders_for_a_first_write_key_may_overlap() -> None:
    story = Story()
    winner = story.put(2, "once1")
    contender = story.put(1, "once1")
    contender.start = winner.start
    story.get(contender, key="once1")
    assert story.wrong() == set()


def test_a_first_write_key_does_not_change_to_a_later_record() -> None:
    story = Story()
    first = story.put(1, "once1")
    later = story.put(2, "once1", outcome=h.TIMEOUT)
    story.get(first, key="once1", client=2)
    story.get(later, key="once1", client=1)
    assert "lost writes" in story.wrong()


def test_a_scan_shows_what_is_stored_and_nothing_old() -> None:
    story = Story()
    a, b = story.put(1, "a"), story.put(2, "b")
    story.scan(a, b)
    assert story.wrong() == set()
    story.scan(a)
    assert story.wrong() == {"scans"}


def test_a_page_answers_for_the_keys_between_its_ends_alone() -> None:
    story = Story()
    a, b = story.put(1, "a"), story.put(2, "b")
    story.scan(a, cursor=b"a")
    story.scan(b, after=b"a")
    assert story.wrong() == set()
    story.scan(a, cursor=b"b")
    assert story.wrong() == {"scans"}


@pytest.mark.parametrize("names", ["ba", "aab"])
def test_a_page_out_of_order_or_with_what_came_before_is_found(names: str) -> None:
    story = Story()
    stored = {name: story.put(at + 1, name) for at, name in enumerate("ab")}
    story.scan(*(stored[name] for name in names[-2:]), after=b"" if names == "ba" else b"a")
    assert story.wrong() == {"scans"}


def test_a_scan_that_shows_an_old_record_is_found() -> None:
    story = Story()
    old = story.put(1, "a")
    story.put(2, "a")
    story.scan(old)
    assert story.wrong() == {"scans"}


def test_without_fsync_only_phantoms_and_versions_are_judged() -> None:
    story = Story()
    story.put(1)
    story.get(None)
    story.history.sync = False
    story.history.crashed()
    assert story.wrong() == set()


def test_without_fsync_and_without_a_crash_everything_is_judged() -> None:
    story = Story()
    story.put(1)
    story.get(None)
    story.history.sync = False
    assert "read your writes" in story.wrong()


@pytest.mark.parametrize(("crash_s", "wrong"), [(2.0, set()), (50.0, {"lost writes"})])
def test_with_interval_what_was_written_seconds_before_the_first_crash_is_kept(
    crash_s: float, wrong: set[str]
) -> None:
    story = Story()
    story.put(1, level=ALL)
    story.get(None, ALL)
    story.history.sync, story.history.interval, story.history.crash_s = False, True, crash_s
    assert story.wrong() == wrong


def test_a_staleness_bound_is_kept() -> None:
    for stale_ms, wrong in ((5000, set()), (500, {"staleness"})):
        story = Story()
        old = story.put(1)
        story.put(2).acknowledged = 1
        story.now += 2
        read = story.get(old, ONE)
        read.tell, read.stale_ms = True, stale_ms
        assert story.wrong() == wrong


def test_a_read_is_not_staler_than_it_was_allowed_to_be() -> None:
    for stale_ms, escalated, wrong in ((400, False, set()), (-1, False, {"staleness"}), (-1, True, set())):
        story = Story()
        read = story.get(story.put(1), ONE)
        read.tell, read.stale_ms_max, read.stale_ms, read.escalated = True, 500, stale_ms, escalated
        assert story.wrong() == wrong


def test_what_was_final_is_all_that_is_shown() -> None:
    story = Story()
    first = story.put(2, "once1")
    story.get(first, ONE, key="once1").final = 2
    late = story.put(3, "once1", outcome=h.LOST)
    late.winner = first.version
    shown = story.get(first, ONE, key="once1")
    shown.shown = True
    assert story.wrong() == set()
    earlier = story.put(1, "once1", outcome=h.TIMEOUT)
    story.get(earlier, ONE, key="once1").shown = True
    assert story.wrong() == {"final"}


def test_a_page_in_a_session_shows_nothing_older_than_it_was_told() -> None:
    for in_session, wrong in ((False, set()), (True, {"sessions"})):
        story = Story()
        old = story.put(1, "a")
        story.put(2, "a", level=ONE).session = in_session
        scan = story.scan(old)
        scan.level, scan.session = ONE, True
        assert story.wrong() == wrong


@pytest.mark.parametrize(
    ("deleted", "shown", "wrong"),
    [(True, False, set()), (False, False, {"sessions"}), (True, True, {"sessions"})],
)
def test_a_session_that_deleted_a_key_may_find_nothing_but_nothing_older(
    deleted: bool, shown: bool, wrong: set[str]
) -> None:
    story = Story()
    old = story.put(1, level=ONE)
    seen = story.put(2, level=ONE)
    seen.kind, seen.session = h.DELETE if deleted else h.SET, True
    read = story.get(old, ONE)
    read.session, read.shown = True, shown
    assert story.wrong() == wrong


def test_a_delete_whose_hint_came_too_late_may_show_under_a_later_version() -> None:
    for late, wrong in ((True, set()), (False, {"linearizable"})):
        story = Story()
        gone = story.delete(2)
        gone.level, gone.acknowledged = Level.ANY, 0
        gone.strong = False
        if late:
            story.history.late["default", "k"] = [gone.version]
        anew = story.get(None)
        anew.version = (7).to_bytes(24)
        assert story.wrong() == wrong


def test_on_a_first_write_key_a_write_that_was_repeated_unstamped_may_have_two_versions() -> None:
    for anew, wrong in ((True, set()), (False, {"versions"})):
        story = Story()
        write = story.put(2, "once1")
        write.anew = anew
        read = story.get(write, key="once1")
        read.version = (1).to_bytes(24)  # of its first attempt, which had arrived after all
        assert story.wrong() == wrong


def test_no_first_write_loses_to_itself() -> None:
    for own, wrong in ((False, set()), (True, {"lost to itself"})):
        story = Story()
        write = story.put(0, "once1", outcome=h.LOST)
        winner = story.put(1, "once1", outcome=h.TIMEOUT, client=1)
        write.winner = (1).to_bytes(24)
        winner.version = b""
        read = story.get(write if own else winner, key="once1")
        read.version = write.winner
        assert story.wrong() == wrong
