"""A watch of a store: what it yields, how it goes on where its node is lost, and how it ends.

Covers `Watching` of `client/retrying.py`.
"""

from contextlib import aclosing
from typing import Any

import pytest

from basestore import Change, Gap, InvalidRequest, Overloaded, Progress, ReadTimeout, Unavailable
from basestore.repair.version import Version
from tests.worlds.fake_feeds import FEED, STAMP, Feeds, meta, watched
from tests.worlds.fakes import fake
from tests.worlds.flavours import FLAVOURS, run

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


async def take(store: Any, count: int, **options: Any) -> list[Any]:
    """So many events."""
    events = []
    async with aclosing(store.watch("user/", **options)) as watching:
        async for event in watching:
            events.append(event)
            if len(events) == count:
                break
    return events


def test_changes_gaps_and_progress_are_told_as_they_come(flavour: str) -> None:
    feeds = Feeds(
        [
            watched(
                b"user/1", meta(STAMP, expires_ms=5), b"v", b"user/2", meta(STAMP + 1, deleted=True), b""
            ),
            watched(gap=STAMP + 2, token="token", stable=STAMP + 3),
        ]
    )

    async def body(store: Any) -> None:
        first, second, gap, progress = await take(store, 4, bucket="once")
        version = Version(STAMP, 1, 1)
        assert first == Change(b"user/1", b"v", version, version.encode(), 5)
        assert (second.key, second.value, second.deleted) == (b"user/2", None, True)
        assert gap == Gap(STAMP + 2)
        assert progress == Progress(STAMP + 3, "token", 0)
        assert progress.stable_ms == 1_760_000_000_000

    with fake(answer=feeds) as node:
        run(flavour, node.endpoint, body)
    first, second = feeds.asked
    assert (first.bucket, first.prefix, first.token, first.feed) == ("once", b"user/", "", 0)
    assert (second.token, second.feed) == ("", FEED)


def test_where_an_answer_is_lost_it_begins_anew_from_the_last_token(flavour: str) -> None:
    feeds = Feeds(
        [
            watched(token="first"),
            watched(b"k", meta(STAMP), b"v"),
            Overloaded("overloaded: too much; nothing was done. Try again later"),
            watched(b"k", meta(STAMP), b"v", token="second"),
        ]
    )

    async def body(store: Any) -> None:
        events = await take(store, 4)
        assert [type(event) for event in events] == [Progress, Change, Change, Progress]

    with fake(answer=feeds) as node:
        run(flavour, node.endpoint, body)
    assert [(each.token, each.feed) for each in feeds.asked] == [
        ("", 0), ("", FEED), ("", FEED), ("first", FEED),
    ]  # fmt: skip


def test_a_feed_that_the_node_has_forgotten_is_begun_anew(flavour: str) -> None:
    feeds = Feeds([watched(token="first"), watched(feed=0), watched(b"k", meta(STAMP), b"v", feed=9)])

    async def body(store: Any) -> None:
        assert [type(event) for event in await take(store, 2)] == [Progress, Change]

    with fake(answer=feeds) as node:
        run(flavour, node.endpoint, body)
    assert [(each.token, each.feed) for each in feeds.asked] == [("", 0), ("", FEED), ("first", FEED)]


def test_before_there_is_a_token_a_watch_that_begins_anew_tells_a_gap(flavour: str) -> None:
    feeds = Feeds(
        [watched(b"k", meta(STAMP), b"v"), Unavailable(1, 0), watched(b"l", meta(STAMP), b"w", token="token")]
    )

    async def body(store: Any) -> None:
        events = await take(store, 4, everything=True)
        assert [type(event) for event in events] == [Change, Gap, Change, Progress]
        assert events[1] == Gap(0)

    with fake(answer=feeds) as node:
        run(flavour, node.endpoint, body)
    assert all(each.everything for each in feeds.asked)


def test_after_its_patience_a_watch_raises_what_kept_it(flavour: str) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(ReadTimeout):
            await take(store, 1, timeout=0.1, patience=0.5)

    with fake(answer=Feeds([])) as node:
        run(flavour, node.endpoint, body)


def test_what_the_node_refuses_for_good_is_raised_at_once(flavour: str) -> None:
    feeds = Feeds([InvalidRequest("the token is damaged")])

    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match="damaged"):
            await take(store, 1, token="x", patience=60)

    with fake(answer=feeds) as node:
        run(flavour, node.endpoint, body)
    assert feeds.asked[0].token == "x"


@pytest.mark.parametrize(
    "options",
    [{"token": ""}, {"token": 7}, {"token": "x", "everything": True}, {"bucket": ""}, {"timeout": -1}],
)
def test_bad_arguments_are_refused_before_anything_is_asked(flavour: str, options: dict[str, Any]) -> None:
    feeds = Feeds([])

    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest):
            await take(store, 1, **options)

    with fake(answer=feeds) as node:
        run(flavour, node.endpoint, body)
    assert feeds.asked == []
