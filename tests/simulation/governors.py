"""Governors: who has the cluster changed, and reads what it is, while the clients ask what clients do.

    changes    settings set and unset; buckets created and dropped, names used anew. What was not answered is
               asked for again under the same id, perhaps at another node
    reads      of the topology, in each of the three modes, at any node
    rows       of the buckets that come and go: written and read

What is told is held against what was decided (`log_watch.py`). A change that is acknowledged is in the log
once, by its id. A read in mode consistent or default has all that anybody knew to be decided when it was
asked; in mode stale what its node had then, and it says when a leader was heard of. Of a bucket that was
dropped nothing shows under the next of its name, and of one that is there what was acknowledged.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from basestore.consensus.leadership import QUORUM_S
from basestore.consistency import Level
from basestore.errors import InvalidRequest
from basestore.protocol.client import OUTCOME_STORED, Failed, Get, Got, Set, Written
from basestore.protocol.codec import Message
from basestore.protocol.membership import (
    CONSISTENT,
    DEFAULT,
    STALE,
    ChangeTopology,
    ReadTopology,
    TopologyChanged,
    TopologyTold,
)
from basestore.topology.changes import Change, CreateBucket, DropBucket, SetSetting, UnsetSetting
from basestore.topology.entries import Suggestion, encode_entry
from tests.simulation.clockwork import Stream
from tests.simulation.decided import DATA, Form, topology
from tests.simulation.log_watch import voter_of
from tests.simulation.operators import Heard, Line

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

EVERY_S = 0.15
MOST = 120  # that one asks in a world
CHANGE_MS, READ_MS, ROW_MS = 1000, 800, 500
MODES = {STALE: "stale", DEFAULT: "default", CONSISTENT: "consistent"}
BUCKETS, SETTINGS, KEYS = ("b1", "b2"), ("x", "y", "z"), (b"k1", b"k2")
RULE = "last-write-wins"
VOTERS_MAX = 5
UNBOUNDED = 1 << 40
LAST_S = 20.0  # by then a healed cluster has decided one more
HEARD_SLACK_S = 1.0


class Kept(NamedTuple):
    """A write that has ended: under which numbers its bucket can have been; its version, where it was stored;
    when it ended."""

    value: bytes
    until: int
    version: bytes
    end_s: float


class Telling(Line):
    """A line of a governor, who looks at its node as an answer leaves."""

    def __init__(self, governor: "Governor", machine: "Machine", heard: Heard) -> None:
        super().__init__(governor, machine, heard)
        self._governor, self._node = governor, machine

    def carry(self, messages: list[Message]) -> None:
        for answer in messages:
            self._governor.leaving(self._node, answer)
        super().carry(messages)


class Governor:
    """One of them."""

    tenant, lies = "", False

    def __init__(self, world: "PlannedWorld", index: int) -> None:
        self.world = world
        self.index = index
        self._stream = Stream(world.plan.seed, f"governor {index}")
        self._request = self._asked = self._count = 0
        self._unknown: list[tuple[int, Change]] = []  # changes of which nothing was told
        self._kept: dict[tuple[str, bytes], list[Kept]] = {}
        self._left: dict[int, tuple[int, int]] = {}  # by request: epochs of the node that answered
        self._stale: dict[tuple[int, int], int] = {}  # by machine and life: the last epoch that was told

    # --- what is asked ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask something, unless the clients' time is over."""
        world = self.world
        if world.clockwork.now < world.plan.seconds and self._asked < MOST:
            wait_s = EVERY_S * (20 if world.resting else 1)
            world.clockwork.after(self._stream.exponential(wait_s), self.ask_any)

    def ask_any(self) -> None:
        self._asked += 1
        stream = self._stream
        machine = stream.pick(self.world.machines)
        what = stream.weighted([
            (self._set, 3.0), (self._bucket, 2.0), (self._again, 1.0), (self._read, 6.0), (self._write, 3.0),
            (self._get, 4.0),
        ])  # fmt: skip
        if machine.node is not None:
            what(machine)
        self.begin()

    def _ask(self, machine: "Machine", message: Message, timeout_ms: int, heard: Heard) -> None:
        if self.world.recording:
            self.world.say(machine.index, "a governor asks", repr(message))
        Telling(self, machine, heard).ask(message, timeout_ms / 1e3)

    def _next(self) -> int:
        self._request += 1
        return self._request

    # --- changes ---------------------------------------------------------------------------------

    def _set(self, machine: "Machine") -> None:
        key = self._stream.pick(SETTINGS)
        unset = self._stream.chance(0.15)
        self.change(machine, UnsetSetting(key) if unset else SetSetting(key, str(self._asked)))

    def _bucket(self, machine: "Machine") -> None:
        """The other of the two: create it, or drop it."""
        name, log = self._stream.pick(BUCKETS), self.world.log_watch.log
        there = log is not None and name in log.buckets(log.last)
        self.change(machine, DropBucket(name) if there else CreateBucket(name, RULE, [0, 0, 0, 0]))

    def _again(self, machine: "Machine") -> None:
        """What nobody has answered is asked for again."""
        if self._unknown:
            identity, change = self._unknown.pop(0)
            self.world.counts["log: change repeated"] += 1
            self.change(machine, change, identity)

    def change(
        self, machine: "Machine", change: Change, identity: int = 0,
        after: Callable[[bool], None] = lambda told: None,
    ) -> None:  # fmt: skip
        """Have it decided; `after`: whether it was."""
        self._count += 1
        number = identity or (self.index << 32) + self._count

        def heard(answer: Message | None) -> None:
            if isinstance(answer, TopologyChanged):
                self._judge_change(machine, number, answer)
            else:
                code = answer.code if isinstance(answer, Failed) else "lost"
                self.world.counts[f"log: change not answered: {code}"] += 1
                self._unknown.append((number, change))
            after(isinstance(answer, TopologyChanged))

        entry = encode_entry(Suggestion(change, number, 0, 0))
        self._ask(machine, ChangeTopology(self._next(), entry, CHANGE_MS, False), CHANGE_MS, heard)

    def _judge_change(self, machine: "Machine", number: int, told: TopologyChanged) -> None:
        """It is in the log, and has counted once."""
        watch, world, log = self.world.log_watch, self.world, self.world.log_watch.log
        world.counts["log: change acknowledged" if not told.error else "log: change refused"] += 1
        if watch.blind or log is None:
            return
        name = f"n{machine.index + 1} says that change {number} is epoch {told.epoch}"
        became = log.became.get(number)
        if became is None:
            world.blame("acknowledged", f"{name}, and it is nowhere in the log")
        elif (became.epoch, became.taken, became.number) != (told.epoch, not told.error, told.number):
            world.blame("acknowledged", f"{name}, {told.error or told.number}; decided was {became}")
        elif log.entries[told.epoch - 1].kind != DATA:
            world.blame("acknowledged", f"{name}, where another entry stands")

    # --- reads -----------------------------------------------------------------------------------

    def _read(self, machine: "Machine") -> None:
        self.read(machine, self._stream.pick((STALE, DEFAULT, CONSISTENT)))

    def read(self, machine: "Machine", mode: int) -> None:
        """What is the cluster?"""
        watch, began_s, life = self.world.log_watch, self.world.clockwork.now, machine.life
        known, pauses = watch.last, machine.pauses
        had = -1 if machine.node is None else self._epoch_at(machine)

        def heard(answer: Message | None) -> None:
            if not isinstance(answer, TopologyTold):
                code = answer.code if isinstance(answer, Failed) else "lost"
                self.world.counts[f"log: {MODES[mode]} read not answered: {code}"] += 1
                return
            self.world.counts[f"log: {MODES[mode]} read"] += 1
            if watch.blind or not answer.topology:
                return
            name = f"a {MODES[mode]} read at n{machine.index + 1}, asked at {began_s:.4f},"
            self._judge_told(name, answer)
            if mode == STALE:
                self._judge_stale(name, machine, life, had, pauses, answer)
            elif topology(answer.topology).epoch < known:
                text = f"{name} shows epoch {topology(answer.topology).epoch}: {known} was decided then"
                self.world.blame(f"{MODES[mode]} reads", text)

        self._ask(machine, ReadTopology(self._next(), mode, READ_MS), READ_MS, heard)

    def _judge_told(self, name: str, answer: TopologyTold) -> None:
        """It was so at that epoch."""
        log, told, world = self.world.log_watch.log, topology(answer.topology), self.world
        assert log is not None
        form, known = Form.of(answer.topology), log.forms.get(told.epoch)
        if told.epoch > log.last:
            world.blame("in use", f"{name} shows epoch {told.epoch}, and {log.last} are decided")
        elif (known or form).told != form.told or told.settings != log.settings(told.epoch):
            world.blame("topologies", f"{name} shows at {told.epoch} what is not decided: {told}")

    def _judge_stale(
        self, name: str, machine: "Machine", life: int, had: int, pauses: int, answer: TopologyTold
    ) -> None:
        """What the node had, at least; and a leader cannot have been heard of when there was none."""
        world, epoch = self.world, topology(answer.topology).epoch
        least = max(had if machine.life == life else -1, self._stale.get((machine.index, life), -1))
        if epoch < least:
            world.blame("stale reads", f"{name} shows epoch {epoch}, and the node had {least}")
        self._stale[machine.index, life] = max(epoch, least)
        leads = world.log_watch.leader is not None
        gone_s = 0.0 if leads else world.clockwork.now - world.log_watch.led_s
        paused = pauses or any(each.pauses for each in world.machines)
        if answer.heard_ms >= 0 and not paused and answer.heard_ms / 1e3 < gone_s - QUORUM_S - HEARD_SLACK_S:
            text = f"{name} says that a leader was heard of {answer.heard_ms} ms ago"
            world.blame("stale reads", f"{text}, and for {gone_s:.1f} s there was none")

    # --- rows of buckets that come and go --------------------------------------------------------

    def _numbers(self, bucket: str, first: int, last: int) -> set[int]:
        """Of a bucket, at these epochs; 0: there is none."""
        log = self.world.log_watch.log
        if log is None:
            return {0}
        return {log.buckets(epoch).get(bucket, 0) for epoch in range(first, max(first, last) + 1)}

    def _epoch_at(self, machine: "Machine") -> int:
        """That a node goes by; none on a disk that is new to it, before it has heard of the log."""
        assert machine.node is not None
        return min(self.world.log_watch.seen[machine.index].epoch, machine.node.membership.group.epoch)

    def _write(self, machine: "Machine") -> None:
        watch, bucket, key = self.world.log_watch, self._stream.pick(BUCKETS), self._stream.pick(KEYS)
        request, had = self._next(), self._epoch_at(machine)
        value = b"row %d" % request  # not as clients' values begin

        def heard(answer: Message | None) -> None:
            numbers = self._numbers(bucket, had, watch.last)
            until = max(numbers) if answer is not None else UNBOUNDED
            self._judge_refused(f"a write to {bucket}", request, answer, bucket, had)
            stored = isinstance(answer, Written) and answer.outcome == OUTCOME_STORED
            self.world.counts["log: row stored" if stored else "log: row not stored"] += 1
            version = answer.version if isinstance(answer, Written) and stored and len(numbers) == 1 else b""
            kept = Kept(value, until, version, self.world.clockwork.now)
            self._kept.setdefault((bucket, key), []).append(kept)

        self._kept.setdefault((bucket, key), []).append(Kept(value, UNBOUNDED, b"", 0.0))
        asked = Set(request, bucket, key, value, Level.QUORUM, ROW_MS, 0, b"")
        self._ask(machine, asked, ROW_MS, heard)

    def _get(self, machine: "Machine") -> None:
        watch, bucket, key = self.world.log_watch, self._stream.pick(BUCKETS), self._stream.pick(KEYS)
        strong, began_s = self._stream.chance(0.7), self.world.clockwork.now
        had, request = self._epoch_at(machine), self._next()
        name = f"a read of {key!r} in {bucket} at n{machine.index + 1}, asked at {began_s:.4f},"

        def heard(answer: Message | None) -> None:
            if not isinstance(answer, Got):
                self._judge_refused(name, request, answer, bucket, had)
                self.world.counts["log: row not read"] += 1
                return
            self.world.counts["log: row read"] += 1
            before, epoch = self._left.pop(request)
            now = self._numbers(bucket, before, epoch) - {0}
            self._judge_shown(name, bucket, key, min(now, default=0), answer)
            same = self._numbers(bucket, had, epoch)
            if strong and len(same) == 1 and max(same) and not watch.blind and self.world.history.sync:
                self._judge_lost(name, bucket, key, max(same), began_s, answer)

        asked = Get(request, bucket, key, Level.QUORUM if strong else Level.ONE, ROW_MS, b"", True)
        self._ask(machine, asked, ROW_MS, heard)

    def _judge_refused(self, name: str, request: int, answer: Message | None, bucket: str, had: int) -> None:
        """No node refuses a bucket that there is, by all epochs that it can have gone by."""
        if not isinstance(answer, Failed) or answer.code != InvalidRequest.code:
            return
        epochs = self._left.pop(request, (had, had))
        numbers = self._numbers(bucket, min(had, *epochs), max(epochs))
        if 0 not in numbers and not self.world.log_watch.blind:
            self.world.blame("in use", f"{name} is refused, and there is one: {answer}")

    def _judge_shown(self, name: str, bucket: str, key: bytes, number: int, got: Got) -> None:
        """What was written to a bucket that was dropped before does not show."""
        if not got.found:
            return
        self.world.counts["log: row found"] += 1
        written = [kept.until for kept in self._kept.get((bucket, key), ()) if kept.value == got.value]
        if not written:
            self.world.blame("dropped buckets", f"{name} shows {got.value!r}: nobody wrote this")
        elif min(written) < number:
            text = f"{name} shows {got.value!r}, of bucket {min(written)} at most, and this is {number}"
            self.world.blame("dropped buckets", text)

    def _judge_lost(self, name: str, bucket: str, key: bytes, number: int, began_s: float, got: Got) -> None:
        """What a quorum has taken is there."""
        for kept in self._kept.get((bucket, key), ()):
            known = kept.version and kept.until == number and kept.end_s < began_s
            if known and got.version < kept.version:
                self.world.blame(
                    "lost writes", f"{name} shows {got.version.hex('-', 8)}, and {kept} was stored"
                )

    def ruined(self) -> None:
        """More stores are lost than can be survived: what was stored may be gone."""
        for key, kept in self._kept.items():
            self._kept[key] = [each._replace(version=b"") for each in kept]

    # --- in the end ------------------------------------------------------------------------------

    def leaving(self, machine: "Machine", answer: Message) -> None:
        """An answer leaves its node, whose present epoch, and the one before, may both have made it."""
        if isinstance(answer, Got | Failed):
            seen = self.world.log_watch.seen[machine.index]
            self._left[answer.id] = seen.before, seen.epoch

    def end(self) -> None:
        """Of a healed cluster one more change is decided, and comes to all."""
        world, watch, decided = self.world, self.world.log_watch, list[bool]()
        until = world.clockwork.now + LAST_S
        identity, at = (self.index << 32) + (1 << 31), 0
        while world.clockwork.now < until and not (decided and self._settled()):
            if not decided:
                machine = world.roster.members[at % len(world.roster.members)]
                at += 1
                if machine.node is not None:
                    said = SetSetting("last", "said")
                    self.change(machine, said, identity, lambda told: decided.append(told) if told else None)
            world.clockwork.run(world.clockwork.now + 0.5)
        if watch.blind or self._settled():
            return
        if watch.majority_lost:
            world.counts["log: a majority of its voters is lost"] += 1
        elif not decided:
            world.blame("log ends", f"nothing is decided {LAST_S} s after all is healed: {self._state()}")
        elif not self._settled():
            world.blame("log ends", f"not all know what is decided, or vote: {self._state()}")

    def _settled(self) -> bool:
        """Whether all go by the last epoch, and as many vote as are to, by the stores that they have."""
        machines, watch = self.world.roster.members, self.world.log_watch
        nodes = [machine.node for machine in machines]
        voting, wanted = watch.voting(), min(VOTERS_MAX, len(machines))
        votes = voting <= {voter_of(machine) for machine in machines} and len(voting) == (wanted - 1) | 1
        return votes and all(node and node.membership.group.epoch == watch.last for node in nodes)

    def _state(self) -> str:
        watch = self.world.log_watch
        epochs = [seen.epoch for seen in watch.seen]
        return f"epochs {epochs} of {watch.last}, voters {sorted(number for number, _ in watch.voting())}"
