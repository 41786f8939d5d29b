"""What a sketch says of how often keys are asked for, and which ones are called hot."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.intake.hot_keys import (
    CANDIDATES,
    COUNT_MAX,
    KEY_BYTES_KEPT,
    SHOWN,
    SHOWN_PER_S_MIN,
    HotKey,
    HotKeys,
    Sketch,
    digest,
)

SEED = bytes(range(16))
NAME = b"\x07default"
# Few different words, so that keys do share cells.
CROWDED = st.lists(st.integers(0, 3), min_size=4, max_size=4).map(lambda words: bytes(8)[:4] + bytes(words))
ADDED = st.lists(st.tuples(CROWDED, st.integers(1, 1000)) | st.integers(1, 3), max_size=60)


def known_as(key: bytes) -> bytes:
    return digest(SEED, NAME, key)


@given(ADDED)
def test_no_count_is_too_small_though_they_are_halved(added: list[tuple[bytes, int] | int]) -> None:
    sketch, true = Sketch(), Counter[bytes]()
    for each in added:
        if isinstance(each, int):
            sketch.halve(each)
            true = Counter({key: count >> each for key, count in true.items()})
        else:
            key, times = each
            true[key] += times
            assert sketch.add(key, times) == sketch.count(key)
    assert all(sketch.count(key) >= count for key, count in true.items())


@given(st.lists(st.integers(0, COUNT_MAX), min_size=1, max_size=30), st.integers(0, 40))
@settings(max_examples=50)
def test_halving_halves_each_count_and_no_other_one(counts: list[int], times: int) -> None:
    sketch = Sketch()
    keys = [known_as(b"%d" % number) for number in range(len(counts))]
    for key, count in zip(keys, counts, strict=True):
        sketch.add(key, count)
    before = list(map(sketch.count, keys))
    sketch.halve(times)
    assert list(map(sketch.count, keys)) == [count >> times for count in before]
    assert sketch.count(known_as(b"nobody")) <= max(counts) >> times


def test_what_is_left_over_of_a_cell_that_is_halved_goes_into_no_other_one() -> None:
    sketch, keys = Sketch(), [known_as(b"%d" % number) for number in range(10_000)]
    for key in keys:
        if not sketch.count(key):
            sketch.add(key)
    sketch.halve()
    assert set(map(sketch.count, keys)) == {0}


def test_a_count_stops_at_what_a_cell_holds() -> None:
    sketch = Sketch()
    for _ in range(2):
        sketch.add(known_as(b"k"), COUNT_MAX - 1)
    assert sketch.count(known_as(b"k")) == COUNT_MAX
    sketch.halve()
    assert sketch.count(known_as(b"k")) == COUNT_MAX >> 1


def test_few_keys_are_taken_for_others() -> None:
    sketch = Sketch()
    keys = [known_as(b"%d" % number) for number in range(2000)]
    for key in keys:
        sketch.add(key)
    assert sum(sketch.count(key) > 1 for key in keys) < 20


def test_which_keys_share_cells_depends_on_the_seed() -> None:
    other = bytes(16)
    assert digest(SEED, NAME, b"k") != digest(other, NAME, b"k")
    assert digest(SEED, NAME, b"k") != digest(SEED, b"\x04once", b"k")


def ask(hot: HotKeys, key: bytes, times: int, now_s: float, bucket: str = "default") -> None:
    hot.pass_time(now_s)
    for _ in range(times):
        hot.add(known_as(key), bucket, key)


def test_the_rate_of_a_key_that_is_asked_for_steadily_is_told_at_any_moment_of_a_second() -> None:
    hot = HotKeys(sampled=16)
    for tenth in range(200):
        ask(hot, b"k", 50, 1000 + tenth / 10)
        if tenth > 100:
            (found,) = hot.hottest(1000 + tenth / 10 + 0.05)
            assert found._replace(per_s=0) == HotKey("default", b"k", 1, 0)
            assert 0.9 * 16 * 500 < found.per_s < 1.1 * 16 * 500


def test_the_hottest_are_named_first_and_only_a_few() -> None:
    hot = HotKeys()
    for number in range(3 * CANDIDATES):
        ask(hot, b"%02d" % number, SHOWN_PER_S_MIN + 10 * number, 1000.0)
    hottest = [b"%02d" % (3 * CANDIDATES - 1 - rank) for rank in range(SHOWN)]
    assert [each.key for each in hot.hottest(1000.0)] == hottest


def test_a_key_that_becomes_hot_late_is_named_though_others_were_there_before() -> None:
    hot = HotKeys()
    for number in range(CANDIDATES):
        ask(hot, b"%02d" % number, 2 * SHOWN_PER_S_MIN, 1000.0)
    ask(hot, b"late", 3 * SHOWN_PER_S_MIN, 1000.5)
    assert hot.hottest(1000.5)[0].key == b"late"


def test_once_many_that_were_hotter_are_over_another_one_is_named() -> None:
    hot = HotKeys()
    for number in range(2 * CANDIDATES):
        ask(hot, b"%02d" % number, 1000, 1000.0)
    ask(hot, b"late", 2 * SHOWN_PER_S_MIN, 1020.0)
    assert [each.key for each in hot.hottest(1020.0)] == [b"late"]


def test_what_is_asked_for_no_more_is_forgotten_and_what_is_rare_never_named() -> None:
    hot = HotKeys()
    ask(hot, b"k", 10 * SHOWN_PER_S_MIN, 1000.0)
    ask(hot, b"rare", SHOWN_PER_S_MIN // 2, 1000.0)
    assert [each.key for each in hot.hottest(1000.0)] == [b"k"]
    assert hot.hottest(1010.0) == []
    assert hot.hottest(1e9) == []
    assert hot.hottest(5.0) == []  # a clock that is behind asks for nothing that is over


def test_of_a_long_key_the_beginning_is_kept_and_its_size() -> None:
    hot = HotKeys()
    ask(hot, b"x" * 70_000, 1000, 1000.0)
    assert hot.hottest(1000.0) == [HotKey("default", b"x" * KEY_BYTES_KEPT, 70_000, 1000)]
