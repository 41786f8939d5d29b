"""Watchers: who follow what the clients write, at one node after the other, as the product's stores do; and
the law that is held against all that they are told.

When a mark is told, what stands on the disks of those that hold a row then must have been told of every row:
its version, or one that beats it, if its stamp is at or below the mark; unless a gap was told that it may be
behind. A reader makes up for a gap by reading all anew: here, by looking at the disks.

A watcher goes on at another node when its own is lost or lets it wait, and now and then for no reason; or
another process does, from an old token, which knows nothing of what was told behind that.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from basestore.client.calls import Calls
from basestore.client.retrying import Watching
from basestore.cluster.outbox import Outbox
from basestore.errors import BasestoreError, InvalidRequest, ReadTimeout
from basestore.intake.caller import ROOM_MAX
from basestore.protocol.client import Credit, Shed
from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.handshake import Goodbye, Names
from basestore.results.receipts import Change, Event, Gap, Progress
from basestore.rows import rows_begin
from tests.simulation import stored as s
from tests.simulation.clockwork import Stream

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

BUCKETS = ("default", "default", "once")
PREFIXES = (b"", b"", b"k")
TIMEOUT_S = 0.6
GRACE_S = 0.6
PATIENCE_S = 1e9
SAVED_MAX = 4
LAW = "marks"
Saved = tuple[str, dict[bytes, bytes], int, dict[bytes, bytes]]
NEVER = b""


class Wire:
    """A watcher's connection to a machine, for as long as both last; one question at a time."""

    def __init__(self, watcher: "Watcher", machine: "Machine") -> None:
        self.client, self.machine, self.life = watcher, machine, machine.life
        self.leaving, self.number = False, 0
        self.outbox: Outbox = machine.open_client(self)  # type: ignore[arg-type]

    def ask(self, message: Message) -> None:
        self.number = message.id  # type: ignore[attr-defined]
        machine, watcher = self.machine, self.client
        arguments = machine.hear_client, self.outbox, self.life, message
        watcher.world.clockwork.after(watcher.delay(), machine.enter, *arguments)

    def carry(self, messages: list[Message]) -> None:
        """Answers leave the node, perhaps behind a goodbye."""
        watcher = self.client
        for message in decode(encode(messages)):
            if isinstance(message, Goodbye):
                self.leaving = True
            else:
                watcher.world.clockwork.after(watcher.delay(), watcher.hear, self, message)

    def heed(self, message: Shed | Credit) -> None:
        """It asks for one thing at a time."""

    def room(self) -> int:
        return ROOM_MAX

    @property
    def waits(self) -> bool:
        """An answer that does not come before its node ends is asked for elsewhere."""
        return False

    def lost(self) -> None:
        """The machine is gone."""
        self.client.world.clockwork.after(0.0, self.client.lose, self)

    def close(self) -> None:
        if self.machine.life == self.life:
            self.machine.close_client(self.outbox)


class Watcher:
    """One of them. `heard`: by row the version that beats all others that it was told; `saved`: tokens, with
    what was heard by then."""

    tenant, lies = "", False

    def __init__(self, world: "PlannedWorld", index: int) -> None:
        self.world, self.index = world, index
        self._stream = Stream(world.plan.seed, f"watcher {index}")
        self._bucket, self._prefix = self._stream.pick(BUCKETS), self._stream.pick(PREFIXES)
        self._everything = self._stream.chance(0.5)
        self._slow_s = self._stream.pick((0.0, 0.02, 0.1, 0.3, 0.6))
        self._restless = self._stream.pick((0.0, 0.02, 0.1, 0.3))
        self._bytes_max = self._stream.pick((1, 1, 1000, 1 << 18))
        self.heard: dict[bytes, bytes] = {}
        self._base: int | None = 0 if self._everything else None  # what came up to this need not be told
        self._seen: set[tuple[bytes, bytes]] = set()  # what was held when it began
        self._known: dict[bytes, bytes] = {}  # by row, what it need not be told
        self.excused: set[int] = set()  # partitions of which something may have been lost
        self.saved: list[Saved] = []
        self.mark = 0
        self._request = 0
        self._wire: Wire | None = None
        self._watching = self._new(None)
        self._call = self._watching.poll()
        self.ended = False

    def _new(self, token: str | None) -> Watching:
        everything = self._everything and token is None
        calls = Calls("quorum", TIMEOUT_S)
        return Watching(calls, self._prefix, self._bucket, token, everything, TIMEOUT_S, PATIENCE_S)

    def delay(self) -> float:
        return 5e-5 + self._stream.exponential(0.0003)

    # --- asking ------------------------------------------------------------------------------

    def begin(self) -> None:
        self.world.clockwork.after(self._stream.random() * 0.3, self._ask)

    def _ask(self) -> None:
        if self.ended:
            return
        wire = self._wire
        if wire is None or wire.leaving or wire.life != wire.machine.life or wire.machine.node is None:
            wire = self._connect()
        if wire is None:
            self.world.clockwork.after(0.1, self._ask)
            return
        self._request += 1
        self._call = self._watching.poll()
        message = self._call.make(self._request)
        if self._bytes_max < 1 << 18:
            message = message._replace(bytes_max=self._bytes_max)
        wire.ask(message)
        self.world.clockwork.after(TIMEOUT_S + GRACE_S, self._give_up, wire, self._request)

    def _connect(self) -> Wire | None:
        running = [machine for machine in self.world.roster.members if machine.node is not None]
        self._wire = Wire(self, self._stream.pick(running)) if running else None
        return self._wire

    def _again(self, error: BasestoreError) -> None:
        pause_s = self._watching.failed(error, self.world.clockwork.now, self._stream.random)
        self.world.clockwork.after(min(pause_s, 0.3), self._ask)

    def _give_up(self, wire: Wire, request: int) -> None:
        if wire is self._wire and request == self._request:
            self.world.counts["watch: no answer in time"] += 1
            self._miss()

    def lose(self, wire: Wire) -> None:
        if wire is self._wire and not self.ended:
            self._miss()

    def _miss(self) -> None:
        self._wire = None
        self._request += 1  # whatever comes yet is not heard
        self._again(ReadTimeout("no answer", None, None, None))

    # --- hearing -----------------------------------------------------------------------------

    def hear(self, wire: Wire, message: Message) -> None:
        if wire is not self._wire or message.id != self._request:  # type: ignore[attr-defined]
            return
        try:
            events = self._call.read(message, Names())
        except InvalidRequest as error:
            self.world.blame(LAW, f"watcher {self.index} is refused: {error}")
            return
        except BasestoreError as error:
            self.world.counts["watch: refused for now"] += 1
            self._again(error)
            return
        for event in events:
            self._take(event)
        self._go_on()

    def _take(self, event: Event) -> None:
        world = self.world
        if isinstance(event, Change):
            row = world.row(self._bucket, event.key.decode())
            world.counts["watch: change"] += 1
            self._told(row, event)
            known = self.heard.get(row, NEVER)
            if not known or s.beats(row, event.order, known):
                self.heard[row] = event.order
            elif event.order != known:
                world.counts["watch: older told again"] += 1
        elif isinstance(event, Gap):
            world.counts["watch: gap"] += 1
            self._read_all()
        else:
            self._judge(event)

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        """What stands on the disks of those that count, of each row that is watched."""
        bucket, world = self._bucket.encode(), self.world
        for machine in world.roster.members:
            node = machine.node
            if node is None or machine.impaired or not node.identity.counts:
                continue
            for partition, summary in node.summaries.of.items():
                if partition in self.excused or partition in node.summaries.unfit or summary.lossy:
                    continue
                start = s.DATA + rows_begin(partition, bucket) + self._prefix
                for key, blob in machine.disk.scan(start, start + b"\xff"):
                    if world.intact(key, blob):
                        yield key[1:], blob

    def _told(self, row: bytes, change: Change) -> None:
        """What is told is durable somewhere, or was beaten there."""
        world, holdings = self.world, self.world.witness.holdings
        if not holdings.taken(row, change.order):
            world.blame("told", f"watcher {self.index} was told of a version that nobody took: {change}")
        elif world.history.sync and s.partition_of(row) not in self.excused:
            replicas = [each for each in world.roster.members if not each.impaired]
            lost = len(replicas) < len(world.roster.members)
            if not lost and not any(holdings.durable(each, row, change.order) for each in replicas):
                world.blame("told", f"watcher {self.index} was told of what no disk holds: {change}")

    def _knows(self, row: bytes, version: bytes) -> bool:
        known = self.heard.get(row, NEVER)
        return bool(known) and (known == version or s.beats(row, known, version))

    def _read_all(self) -> None:
        """What was deleted is not there: nothing older of it will be missed."""
        held: dict[bytes, bytes] = {}
        self._known = self._newest()
        for row, blob in self._rows():
            if row not in held or s.beats(row, blob[: s.VERSION], held[row]):
                held[row] = blob[: s.VERSION]
        for row in list(self.heard):
            if row not in held:
                del self.heard[row]
        for row, version in held.items():
            if not self._knows(row, version):
                self.heard[row] = version

    def _judge(self, mark: Progress) -> None:
        """All at or below it was told."""
        self.world.counts["watch: mark"] += 1
        self.world.counts["watch: mark of something"] += mark.stable > 0
        if self._base is None:
            self._base = mark.stable
            self._seen = {(row, blob[: s.VERSION]) for row, blob in self._rows()}
            self._known = self._newest()
        elif mark.stable < self.mark:
            self.world.blame(LAW, f"watcher {self.index}: a mark goes back, {self.mark} to {mark.stable}")
        self.mark = mark.stable
        self._lacks(mark.stable)
        self._skips(mark.stable)
        self.saved.append((mark.token, dict(self.heard), self.mark, self._known))
        del self.saved[:-SAVED_MAX]

    def _lacks(self, upto: int) -> bool:
        """Whether something was not told by now that should have been."""
        lacking, there = False, set[bytes]()
        for row, blob in self._rows():
            version = blob[: s.VERSION]
            there.add(row)
            if not (self._base or 0) < s.stamp_of(version) <= upto or (row, version) in self._seen:
                continue
            if not self._knows(row, version) and (row in self.heard or not s.is_tombstone(blob)):
                lacking = True
                if upto < s.STAMP_MAX:
                    known = self.heard.get(row, NEVER).hex()
                    text = (
                        f"{s.key_of(row)} {version.hex()}, but {known or 'nothing'}, before the mark {upto}"
                    )
                    self.world.blame(LAW, f"watcher {self.index} was not told of {text}")
        for row in self.heard.keys() - there:  # purged: its deletion had to be told before
            newest = self.world.witness.holdings.newest(row)
            excused = s.partition_of(row) in self.excused or not s.stamp_of(newest) <= upto < s.STAMP_MAX
            if not excused and not self._knows(row, newest) and self._all_count():
                self.world.blame(LAW, f"watcher {self.index} was not told that {s.key_of(row)} was deleted")
        return lacking

    def _newest(self) -> dict[bytes, bytes]:
        """What who reads all now may know, by row."""
        holdings = self.world.witness.holdings
        return {row: holdings.newest(row) for row in holdings.rows()}

    def _skips(self, upto: int) -> None:
        """Of each row what it held at the mark was told, or something later: not only what it holds now."""
        holdings, bucket = self.world.witness.holdings, self._bucket.encode()
        for row in holdings.rows():
            watched = s.bucket_of(row) == bucket and row[3 + row[2] :].startswith(self._prefix)
            if not watched or s.partition_of(row) in self.excused:
                continue
            version, known = holdings.newest(row, upto), self._known.get(row, NEVER)
            if not version or s.stamp_of(version) <= (self._base or 0) or self._knows(row, version):
                continue
            if known and (known == version or s.beats(row, known, version)):
                continue
            if row in self.heard or not holdings.ends(row, version):
                text = f"{s.key_of(row)} {version.hex()} before the mark {upto}"
                self.world.blame(
                    LAW, f"watcher {self.index} was neither told of {text} nor of anything later"
                )

    def _all_count(self) -> bool:
        """Whether what stands nowhere is nowhere."""
        nodes = [machine.node for machine in self.world.roster.members]
        return all(node is not None and node.identity.counts for node in nodes)

    def has_all(self) -> bool:
        """Whether all that is held was told."""
        return not self._lacks(s.STAMP_MAX)

    # --- ends --------------------------------------------------------------------------------

    def end(self) -> None:
        """It asks no more, and its connection is closed."""
        self.ended = True
        self._request += 1
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def resume(self) -> None:
        """Another process goes on, from the last token."""
        self.ended = False
        self._from_token(self.saved[-1] if self.saved else None)
        self._ask()

    def _from_token(self, saved: Saved | None) -> None:
        self._watching = self._new(saved[0] if saved else None)
        self.heard, self.mark = (dict(saved[1]), saved[2]) if saved else ({}, 0)
        self._known = saved[3] if saved else {}
        if saved is None and not self._everything:
            self._base = None

    def _go_on(self) -> None:
        """The next, soon or not; perhaps elsewhere, perhaps as another process."""
        if self.ended:
            return
        if self._stream.chance(self._restless):
            if self._wire is not None:
                self._wire.close()
                self._wire = None
            if self.saved and self._stream.chance(0.5):
                self._from_token(self._stream.pick(self.saved))
                self.world.counts["watch: from an old token"] += 1
            else:
                self._watching.failed(ReadTimeout("elsewhere", None, None, None), self.world.clockwork.now)
                self.world.counts["watch: elsewhere"] += 1
        self.world.clockwork.after(self._slow_s * self._stream.random(), self._ask)
