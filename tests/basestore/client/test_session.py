"""The session by itself: what it remembers, by which rule, how much, and what its token carries."""

import string
import zlib
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.client.session import CHECKSUM_BYTES, TOKEN_FORM, Session
from basestore.errors import ConnectionLost, InvalidRequest, SessionFull
from basestore.protocol.client import (
    OUTCOME_DEFERRED,
    OUTCOME_LOST,
    OUTCOME_STORED,
    OUTCOME_SUPERSEDED,
    UNTAKEN,
    Delete,
    Failed,
    Get,
    Got,
    Scan,
    Set,
    Written,
)
from basestore.protocol.codec import Message
from basestore.protocol.limits import KEY_BYTES_MAX
from basestore.repair.rule import Rule
from basestore.repair.version import Identity, Version
from basestore.results.readers import revised
from basestore.results.receipts import Item, ReadResult

CLUSTER = bytes(range(16))


def new(keys_max: int = 100) -> Session:
    return Session(CLUSTER, {"once": Rule.FIRST_WRITE_WINS}, keys_max)


def version(stamp: int) -> bytes:
    return Version(stamp, 1, 1).encode()


def known(stamp: int) -> bytes:
    return Identity(b"proposed", Version(stamp, 1, 1), b"checked!").encode()


def setting(key: str, bucket: str = "default") -> Set:
    return Set(1, bucket, key.encode(), b"v", 2, 1000, 0, b"")


def getting(key: str, bucket: str = "default") -> Get:
    return Get(1, bucket, key.encode(), 1, 1000, b"", True)


def written(outcome: int, own: int, better: int | None = None) -> Written:
    return Written(1, outcome, 0, known(own), 2, 2, [], b"" if better is None else version(better), 0)


def got(stamp: int | None, *, found: bool = True) -> Got:
    return Got(1, found, b"v" if found else b"", b"" if stamp is None else version(stamp), 0, 1, 1, False, 0)


def do(session: Session, request: Set | Get | Delete, answer: Message | ConnectionLost | None) -> None:
    session.end(session.begin(request), answer)


def item(key: bytes, stamp: int) -> Item:
    return Item(key, b"%d" % stamp, Version(stamp, 1, 1), None)


# --- what it learns --------------------------------------------------------------------------------


def test_what_was_deferred_is_known_and_that_no_replica_has_it_yet() -> None:
    session = new()
    kept = Written(1, OUTCOME_DEFERRED, 0, known(5), 1, 0, [0, 3], b"", 0, bytes(16))
    session.end(session.begin(setting("k")), kept)
    assert session.begin(getting("k")).floor == version(5) + UNTAKEN


@pytest.mark.parametrize(
    ("answer", "floor"),
    [
        (written(OUTCOME_STORED, 5), 5),
        (written(OUTCOME_SUPERSEDED, 5, 9), 9),
        (written(OUTCOME_LOST, 5, 3), 3),
        (Failed(1, 5, "timeout", known(5), ["1", "2"]), None),
        (ConnectionLost("gone"), None),
        (None, None),
    ],
    ids=["stored", "superseded", "lost", "timeout", "connection lost", "cancelled"],
)
def test_of_a_write_it_remembers_what_the_caller_was_told(
    answer: Message | ConnectionLost | None, floor: int | None
) -> None:
    session = new()
    do(session, setting("k"), answer)
    assert session.floor("default", b"k") == (b"" if floor is None else version(floor))
    assert len(session) == (floor is not None)


@pytest.mark.parametrize("found", [True, False])
def test_of_a_read_it_remembers_the_version_tombstones_and_expired_ones_included(found: bool) -> None:
    session = new()
    do(session, getting("k"), got(5, found=found))
    assert session.floor("default", b"k") == version(5)


def test_of_a_key_that_nobody_knows_it_remembers_nothing() -> None:
    session = new()
    do(session, getting("k"), got(None, found=False))
    assert len(session) == 0


def test_every_read_names_the_version_seen_of_its_key_and_bucket() -> None:
    session = new()
    do(session, setting("k"), written(OUTCOME_STORED, 5))
    assert session.begin(getting("k")).floor == version(5)
    assert session.begin(getting("other")).floor == b""
    assert session.begin(getting("k", "once")).floor == b""
    scan = Scan(1, "default", b"", b"", 10, 1, 1000)
    assert session.begin(scan) == scan


def test_a_session_within_a_session_names_the_newer_of_both_versions() -> None:
    outer, inner = new(), new()
    do(outer, setting("k"), written(OUTCOME_STORED, 5))
    do(inner, setting("k"), written(OUTCOME_STORED, 7))
    assert outer.begin(inner.begin(getting("k"))).floor == version(7)
    assert inner.begin(outer.begin(getting("k"))).floor == version(7)


def test_of_a_write_that_only_hints_keep_it_says_so_until_a_replica_has_shown_it() -> None:
    session, other = new(), new()
    do(session, setting("k"), written(OUTCOME_STORED, 5)._replace(acknowledged=0))
    assert session.begin(getting("k")).floor == version(5) + UNTAKEN
    assert other.begin(session.begin(getting("k"))).floor == version(5) + UNTAKEN
    other.merge(session.token)
    assert other.begin(getting("k")).floor == version(5) + UNTAKEN
    do(other, getting("k"), got(5))
    assert other.begin(getting("k")).floor == version(5)
    assert other.begin(session.begin(getting("k"))).floor == version(5)
    assert session.begin(other.begin(getting("k"))).floor == version(5)


operations = st.lists(
    st.tuples(st.sampled_from(["default", "once"]), st.sampled_from("abc"), st.integers(1, 50)), max_size=30
)


@given(operations, st.randoms(use_true_random=False))
def test_whatever_order_answers_come_in_the_newest_by_the_buckets_rule_is_kept(
    told: list[tuple[str, str, int]], order: object
) -> None:
    session = new()
    requests = [(session.begin(getting(key, bucket)), stamp) for bucket, key, stamp in told]
    order.shuffle(requests)  # type: ignore[attr-defined]
    for request, stamp in requests:
        session.end(request, got(stamp))
    for bucket, newest in (("default", max), ("once", min)):
        for key in "abc":
            stamps = [stamp for b, k, stamp in told if (b, k) == (bucket, key)]
            assert session.floor(bucket, key.encode()) == (version(newest(stamps)) if stamps else b"")
    assert len(session) == len({(bucket, key) for bucket, key, _ in told})


# --- how much it remembers -------------------------------------------------------------------------


def test_a_key_too_many_is_refused_before_it_is_sent_and_nothing_is_forgotten() -> None:
    session = new(keys_max=2)
    do(session, setting("a"), written(OUTCOME_STORED, 1))
    do(session, getting("b"), got(2))
    for request in (setting("c"), getting("c"), Delete(1, "default", b"c", 2, 1000, b""), setting("a", "x")):
        with pytest.raises(SessionFull, match=r"seen 2 keys.*greater keys_max"):
            session.begin(request)
    do(session, setting("a"), written(OUTCOME_STORED, 3))
    assert session.begin(getting("a")).floor == version(3)
    assert session.begin(getting("b")).floor == version(2)


def test_room_is_set_aside_for_what_is_under_way_and_given_back() -> None:
    session = new(keys_max=2)
    first, again, second = (session.begin(setting(key)) for key in "aab")
    with pytest.raises(SessionFull):
        session.begin(setting("c"))
    session.end(first, None)
    with pytest.raises(SessionFull):
        session.begin(setting("c"))  # the other write of the key is still under way
    session.end(again, None)
    third = session.begin(setting("c"))
    session.end(second, written(OUTCOME_STORED, 1))
    session.end(third, written(OUTCOME_STORED, 2))
    assert len(session) == 2


def test_long_keys_count_by_their_bytes() -> None:
    session = new(keys_max=10)
    do(session, setting("k" * KEY_BYTES_MAX), written(OUTCOME_STORED, 1))
    with pytest.raises(SessionFull, match="bytes together"):
        session.begin(setting("l" * KEY_BYTES_MAX))
    do(session, setting("short"), written(OUTCOME_STORED, 1))


class Dumb:
    """A session with a set of keys seen and a list of keys under way."""

    def __init__(self, keys_max: int) -> None:
        self.keys_max = keys_max
        self.seen: set[str] = set()
        self.under_way: list[str] = []

    @property
    def kept(self) -> int:
        return len(self.seen | set(self.under_way))

    def begin(self, key: str) -> bool:
        if key not in self.seen and key not in self.under_way and self.kept == self.keys_max:
            return False
        self.under_way.append(key)
        return True


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "learn", "lose", "show", "merge"]), st.sampled_from("abcdef"))
    )
)
def test_room_is_counted_as_a_dumb_model_counts_it(steps: list[tuple[str, str]]) -> None:
    session, model = new(keys_max=3), Dumb(3)
    under_way: list[tuple[str, Get]] = []
    for step, key in steps:
        before = (session.token, len(session))
        if step == "begin":
            if model.begin(key):
                under_way.append((key, session.begin(getting(key))))
            else:
                with pytest.raises(SessionFull):
                    session.begin(getting(key))
        elif step in ("learn", "lose"):
            if not under_way:
                continue
            name, request = under_way.pop(0)
            model.under_way.remove(name)
            if step == "learn":
                model.seen.add(name)
            session.end(request, got(7) if step == "learn" else None)
        elif model.begin(key):  # what is shown, or comes with a token, needs room like a request
            model.under_way.remove(key)
            model.seen.add(key)
            if step == "show":
                session.show("default", key.encode(), version(7))
            else:
                other = new()
                other.show("default", key.encode(), version(7))
                session.merge(other.token)
        else:
            with pytest.raises(SessionFull):
                session.show("default", key.encode(), version(7))
            assert (session.token, len(session)) == before
        assert len(session) == len(model.seen)


@pytest.mark.parametrize("keys_max", [0, -1, "10", 1.5, None])
def test_room_for_no_key_makes_no_sense(keys_max: object) -> None:
    with pytest.raises(InvalidRequest, match="at least 1 key"):
        new(keys_max)  # type: ignore[arg-type]


# --- scans -----------------------------------------------------------------------------------------


def test_what_a_page_shows_older_or_not_at_all_is_doubtful() -> None:
    session = new()
    for key in (b"a", b"user/0", b"user/1", b"user/2", b"user/3", b"user/4", b"zoo"):
        session.show("default", key, version(5))
    session.show("once", b"user/2", version(5))
    page = [item(b"user/1", 4), item(b"user/2", 5), item(b"user/3", 6), item(b"user/3a", 1)]
    doubtful = session.doubtful("default", b"user/", b"user/0", b"user/4", page)
    assert doubtful == [b"user/1", b"user/4"]
    assert session.doubtful("default", b"user/", b"", b"user/3a", page) == [b"user/0", b"user/1"]
    assert session.doubtful("default", b"", b"user/4", None, []) == [b"zoo"]
    assert session.doubtful("once", b"", b"", None, page) == []
    assert session.doubtful("once", b"", b"", None, [item(b"user/2", 6)]) == [b"user/2"]
    assert session.doubtful("unknown", b"", b"", None, page) == []


def test_a_page_is_revised_by_what_single_reads_found() -> None:
    def read(stamp: int, value: bytes | None) -> ReadResult:
        return ReadResult(value is not None, value, Version(stamp, 1, 1), None, 1, 1, 1, False, 0)  # type: ignore[arg-type]

    page = [item(b"b", 1), item(b"d", 1), item(b"e", 1)]
    shown = revised(page, [b"a", b"d", b"e"], [read(2, b"new"), read(2, None), read(3, b"newer")])
    assert [(each.key, each.value) for each in shown] == [(b"a", b"new"), (b"b", b"1"), (b"e", b"newer")]
    with pytest.raises(ConnectionLost):
        revised(page, [b"d"], [ConnectionLost("gone")])


# --- tokens ----------------------------------------------------------------------------------------

contents = st.dictionaries(
    st.tuples(st.sampled_from(["default", "once", "grün"]), st.binary(min_size=1, max_size=20)),
    st.tuples(*[st.integers(0, (1 << 64) - 1)] * 3),
    max_size=20,
)


def holding(content: dict[tuple[str, bytes], tuple[int, int, int]]) -> Session:
    session = new()
    for (bucket, key), words in content.items():
        session.show(bucket, key, Version(*words).encode())
    return session


@given(contents)
def test_a_token_carries_all_that_was_seen(content: dict[tuple[str, bytes], tuple[int, int, int]]) -> None:
    session = holding(content)
    resumed = new()
    resumed.merge(session.token)
    assert resumed.token == session.token
    assert len(resumed) == len(content)
    for (bucket, key), words in content.items():
        assert resumed.floor(bucket, key) == Version(*words).encode()


@given(contents, contents)
def test_merging_is_the_same_in_either_order_and_repeats_do_not_matter(
    one: dict[tuple[str, bytes], tuple[int, int, int]], two: dict[tuple[str, bytes], tuple[int, int, int]]
) -> None:
    a, b = holding(one), holding(two)
    token = a.token
    a.merge(b.token)
    b.merge(token)
    b.merge(token)
    assert a.token == b.token
    for (bucket, key), words in (one | two).items():
        stamps = [Version(*c[bucket, key]) for c in (one, two) if (bucket, key) in c]
        newest = min(stamps) if bucket == "once" else max(stamps)
        assert a.floor(bucket, key) == newest.encode(), words


def test_a_token_is_small_and_can_stand_in_a_url() -> None:
    session = new(10_000)
    for number in range(1000):
        session.show(
            "default", b"user/%d" % number, Version((1 << 60) + number * 70_000, 7 << 48, number).encode()
        )
    token = session.token
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")
    assert len(token) < 20 * 1000
    assert len(new().token) < 64


def test_every_cut_and_every_altered_character_is_noticed() -> None:
    session = new()
    session.show("default", b"k", version(5))
    token = session.token
    for end in range(len(token)):
        with pytest.raises(InvalidRequest, match="Pass it whole"):
            new().merge(token[:end])
    for at in range(len(token)):
        for other in "A_.é \n=":
            if token[at] != other:
                with pytest.raises(InvalidRequest, match="Pass it whole"):
                    new().merge(token[:at] + other + token[at + 1 :])
    for more in (token + "A", token + "=", token + "\n", " " + token, token * 2):
        with pytest.raises(InvalidRequest, match="Pass it whole"):
            new().merge(more)


@given(st.text() | st.text(alphabet=string.ascii_letters + "-_", min_size=8).map(TOKEN_FORM.__add__))
def test_what_is_no_token_is_an_invalid_request(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Pass it whole"):
        new().merge(text)


def test_only_text_is_a_token() -> None:
    with pytest.raises(InvalidRequest, match="is a str, not bytes"):
        new().merge(b"s1.")  # type: ignore[arg-type]


def forged(content: bytes) -> str:
    body = CLUSTER + content
    checksum = blake2b(body, digest_size=CHECKSUM_BYTES, person=b"session-token").digest()
    return TOKEN_FORM + urlsafe_b64encode(body + checksum).decode().rstrip("=")


SENSELESS_ROWS: list[Any] = [
    5,
    "text",
    {"a": 1},
    [5],
    [["default"]],
    [["default", 5]],
    [["default", [b"k"]]],
    [["default", [b"k", b"short"]]],
    [[b"default", [b"k", version(1)]]],
    [["default", ["k", version(1)]]],
    [["default", [b"", version(1)]]],
    [[[[[[[]]]]]]],
]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not compressed",
        zlib.compress(b"\xff"),
        zlib.compress(cbor2.dumps([]))[:-1],
        zlib.compress(cbor2.dumps([])) + b"more",
        *(
            zlib.compress(cbor2.dumps(rows))
            for rows in SENSELESS_ROWS
        ),
    ],
)  # fmt: skip
def test_a_forged_token_is_refused_and_nothing_of_it_is_taken(content: bytes) -> None:
    session = new()
    with pytest.raises(InvalidRequest, match="Pass it whole"):
        session.merge(forged(content))
    assert len(session) == 0


def test_a_token_that_unpacks_to_too_much_is_refused_early() -> None:
    bomb = forged(zlib.compress(bytes(50 << 20)))
    with pytest.raises(SessionFull, match="greater keys_max"):
        new(keys_max=10).merge(bomb)


def test_a_token_of_another_cluster_is_refused_with_both_names() -> None:
    other = Session(bytes(16), {})
    with pytest.raises(InvalidRequest) as refused:
        other.merge(new().token)
    assert CLUSTER.hex() in str(refused.value)
    assert bytes(16).hex() in str(refused.value)
    assert "Use it there" in str(refused.value)


def test_a_token_with_more_keys_than_there_is_room_for_is_refused_as_a_whole() -> None:
    big, small = new(), new(keys_max=3)
    for key in (b"a", b"b", b"c"):
        big.show("default", key, version(5))
    small.show("default", b"c", version(1))
    small.show("default", b"d", version(1))
    before = small.token
    with pytest.raises(SessionFull):
        small.merge(big.token)
    assert small.token == before


# --- what its writes come after --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        (written(OUTCOME_STORED, 5), 5),
        (written(OUTCOME_SUPERSEDED, 5, 9), 9),
        (got(7), 7),
        (got(7, found=False), 7),
        (Failed(1, 5, "timeout", known(5), ["1", "2"]), 5),
        (Failed(1, 3, "overloaded", b"", []), 0),
        (ConnectionLost("gone"), 0),
        (None, 0),
    ],
)
def test_a_write_comes_after_all_that_was_seen_of_any_key(answer: Any, after: int) -> None:
    session = new()
    do(session, getting("a") if isinstance(answer, Got) else setting("a"), answer)
    do(session, getting("b"), got(3) if after else None)  # older, and of another key
    assert session.begin(setting("c")).after == after
    assert session.begin(Delete(1, "default", b"c", 2, 1000, b"")).after == after


def test_a_token_carries_what_writes_come_after_and_what_a_scan_shows_counts() -> None:
    one, other = new(), new()
    do(one, setting("a"), written(OUTCOME_STORED, 5))
    other.show("default", b"b", version(8))
    third = new()
    third.merge(one.token)
    assert third.begin(setting("c")).after == 5
    third.merge(other.token)
    assert third.begin(setting("c")).after == 8


def test_a_session_within_a_session_asks_for_the_later_of_both() -> None:
    inner, outer = new(), new()
    do(inner, setting("a"), written(OUTCOME_STORED, 5))
    do(outer, setting("a"), written(OUTCOME_STORED, 9))
    assert outer.begin(inner.begin(setting("c"))).after == 9
    assert inner.begin(outer.begin(setting("c"))).after == 9
