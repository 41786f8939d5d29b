"""Watchers: clients of a world that watch, one answer after the other, as `Store.watch` does."""

from basestore.protocol.client import Watch, Watched
from basestore.results.readers import watched
from basestore.results.receipts import Change, Event, Gap, Progress
from tests.worlds.world import TICK_S, Call, World

POLL_MS = 900
ANSWER_TICKS_MAX = 40


class Watcher:
    """One watch at a node. `held`: what a reader makes of its changes, by the versions that it was told;
    `gaps` and `marks`: stamps, as they came; `token`: the last."""

    def __init__(
        self, world: World, at: int, prefix: bytes = b"", bucket: str = "default", *, token: str = "",
        everything: bool = False, bytes_max: int = 1 << 18,
    ) -> None:  # fmt: skip
        self.world, self.at = world, at
        self.prefix, self.bucket, self.everything, self.bytes_max = prefix, bucket, everything, bytes_max
        self.token, self.feed = token, 0
        self.changes: list[Change] = []
        self.gaps: list[int] = []
        self.marks: list[Progress] = []
        self._call: Call | None = None

    @property
    def told(self) -> list[tuple[bytes, bytes | None]]:
        return [(change.key, change.value) for change in self.changes]

    @property
    def held(self) -> dict[bytes, bytes | None]:
        """By key the value of the greatest version."""
        ordered = sorted(self.changes, key=lambda change: change.order)
        return {change.key: change.value for change in ordered}

    def ask(self) -> Call:
        """The next part of it."""
        token = self.token if not self.feed else ""
        self._call = self.world.ask(
            self.at,
            lambda request: Watch(
                request, self.bucket, self.prefix, token, self.feed, self.everything, self.bytes_max, POLL_MS
            ),
        )
        return self._call

    def hear(self) -> list[Event]:
        """What has come in answer; raises the error that came instead."""
        assert self._call is not None
        self.world.settle()
        reply, self._call = self._call.reply(), None
        self.feed, events = watched(reply)
        for event in events:
            if isinstance(event, Change):
                self.changes.append(event)
            elif isinstance(event, Gap):
                self.gaps.append(event.stable)
            else:
                self.marks.append(event)
                self.token = event.token
        assert isinstance(reply, Watched)
        return events

    def poll(self) -> list[Event]:
        """Ask, and let time pass until there is an answer."""
        call = self.ask()
        self.world.settle()
        for _ in range(ANSWER_TICKS_MAX):
            if call.done:
                return self.hear()
            self.world.run(TICK_S)
        raise AssertionError("a watch was not answered in time")

    def follow(self, seconds: float) -> None:
        """For so long."""
        until_s = self.world.monotonic + seconds
        while self.world.monotonic < until_s:
            self.poll()

    def begin(self) -> "Watcher":
        """Until there is a token: what is written from now on is told."""
        while not self.token:
            self.poll()
        return self

    def move(self, at: int) -> None:
        """From now on at another node, from the last token."""
        self.at, self.feed, self._call = at, 0, None
