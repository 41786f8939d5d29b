"""Lock holders: programs that take locks by the steps of the product's leases, write under them, fenced, and
give them back; and the laws that are held against what they were told.

    tokens      a token is of one holder
    belief      two never believe in one lock at the same time, though their clocks go at different rates
    fences      who believes is not fenced off; who was passed over is: what is written under a lock never
                goes back to an earlier token (`lock_worlds.py`)

A holder stands still now and then, for longer than its lease lasts, and then writes before it looks at its
clock. It crashes: another one comes in its place, and its lock, with what was ephemeral, is left.
"""

from typing import TYPE_CHECKING, Any

from basestore.client.calls import Calls, transacted
from basestore.client.coordination import lease
from basestore.client.coordination.fence import fenced_rows
from basestore.client.coordination.lease import Steps, Wanted, not_renewed
from basestore.client.coordination.tenure import Tenure
from basestore.client.coordination.transaction import Row
from basestore.errors import BasestoreError, FencedOff, InvalidRequest, LeaseLost, OutcomeUnknown, ReadTimeout
from basestore.protocol.client import SET, Get
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Names
from tests.simulation.clockwork import Stream
from tests.simulation.watchers import Wire

if TYPE_CHECKING:
    from tests.simulation.lock_worlds import LockWorld

TIMEOUT_S = 0.6
GRACE_S = 0.4
RATES = (0.9, 1.0, 1.0, 1.1)  # at which clocks of holders go
SECONDS = (0.5, 0.7, 1.0)  # that a lease lasts
WAIT_S = 6.0
STANDS, CRASHES, GIVES_SOON, EPHEMERAL = 0.06, 0.05, 0.1, 0.3
STANDS_S = 3.0
UNCONDITIONAL = (0, b"")


class Written:
    """What was written under a lock. `told`: that it was done, or certainly not, or None: not known."""

    def __init__(self, lock: str, token: int, value: bytes) -> None:
        self.lock, self.token, self.value = lock, token, value
        self.told: bool | None = None


class LockHolder:
    """One of them."""

    tenant, lies = "", False

    def __init__(self, world: "LockWorld", index: int) -> None:
        self.world, self.index = world, index
        self.stream = Stream(world.plan.seed, f"lock holder {index}")
        self._rate = self.stream.pick(RATES)
        self._calls = Calls("quorum", TIMEOUT_S)
        self._wire: Wire | None = None
        self._request = self._lives = self._values = 0
        self._call: Any = None
        self._steps: Steps = self._life()
        self.ended = False

    def delay(self) -> float:
        return 5e-5 + self.stream.exponential(0.0003)

    def clock(self) -> float:
        """Its own, which has gone from the beginning as fast as it does."""
        return self.world.clockwork.now * self._rate

    def real_s(self, moment: float) -> float:
        """By the world's time, of a moment by its own."""
        return moment / self._rate

    # --- what it does ------------------------------------------------------------------------

    def begin(self) -> None:
        self.world.clockwork.after(self.stream.random() * 0.5, self._resume)

    def _life(self) -> Steps:
        stream = self.stream
        while True:
            lock = stream.pick(self.world.locks)
            self._lives += 1
            holder = b"%08d%08d" % (self.index, self._lives)
            wanted = Wanted.of(lock.encode(), stream.pick(SECONDS), WAIT_S, f"h{self.index}", TIMEOUT_S)
            try:
                tenure: Tenure = yield from lease.taking(self._calls, wanted, holder, self.clock)
            except BasestoreError as error:
                self._count("not taken", error)
                yield stream.exponential(0.2)
                continue
            self.world.took(self, lock, tenure)
            try:
                yield from self._hold(lock, wanted, tenure)
            except LeaseLost:
                self.world.counts["locks: lost"] += 1
            self.world.let_go(self, lock)
            yield stream.exponential(0.1)

    def _hold(self, lock: str, wanted: Wanted, tenure: Tenure) -> Steps:
        """Until it gives the lock back, or loses it, or crashes."""
        stream = self.stream
        while True:
            if stream.chance(STANDS):
                self.world.counts["locks: a holder stands still"] += 1
                yield stream.uniform(0.1, STANDS_S)
            elif self.clock() >= tenure.believed_until_s:
                raise not_renewed(wanted.name)
            elif self.clock() >= tenure.due_s:
                yield from self._while_believed(
                    lease.renewing(self._calls, wanted.name, tenure, self.clock), tenure
                )
                self.world.believes(self, lock, tenure)
                continue
            if stream.chance(CRASHES):
                self.world.counts["locks: a holder crashes"] += 1
                return
            if stream.chance(GIVES_SOON):
                yield from self._give(lock, wanted, tenure)
                return
            if stream.chance(EPHEMERAL):
                yield from self._add_ephemeral(lock, wanted, tenure)
            else:
                yield from self._write(lock, tenure)
            yield stream.exponential(0.05)

    def _while_believed(self, steps: Steps, tenure: Tenure) -> Steps:
        """As the leases of the product carry a renewal: no longer than it is believed in."""
        try:
            step = next(steps)
            while True:
                if self.clock() >= tenure.believed_until_s:
                    raise not_renewed(b"it")
                try:
                    told = yield step
                except BasestoreError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(told)
        except StopIteration:
            return

    def _give(self, lock: str, wanted: Wanted, tenure: Tenure) -> Steps:
        self.world.let_go(self, lock)  # it does not believe any more from when it gives it back
        try:
            yield from lease.giving(self._calls, wanted, tenure)
        except BasestoreError as error:
            self._count("not given back", error)
        else:
            self.world.counts["locks: given back"] += 1

    def _add_ephemeral(self, lock: str, wanted: Wanted, tenure: Tenure) -> Steps:
        key = "cas", b"e%d-%d" % (self.index, self.stream.below(2))
        change = Row(*key, SET, b"", b"%d" % tenure.row.token, 0)
        try:
            yield from lease.changing(self._calls, wanted, tenure, change, self.clock)
        except LeaseLost:
            raise
        except BasestoreError as error:
            self._count("no ephemeral key", error)
        else:
            self.world.counts["locks: ephemeral"] += 1

    def _write(self, lock: str, tenure: Tenure) -> Steps:
        token = tenure.row.token
        self._values += 1
        value = b"%d %d %d" % (token, self.index, self._values)
        written = self.world.writes(lock, token, value)
        place = ("cas", self.world.guarded(lock))
        fence = f"{lock}:{token}"
        rows = fenced_rows(place, transacted(value, None), UNCONDITIONAL, fence, plain=True)
        try:
            yield self._calls.fenced(rows, None)
        except FencedOff:
            written.told = False
            self.world.counts["locks: fenced off"] += 1
            if self.clock() < tenure.believed_until_s:
                self.world.blame("locks", f"h{self.index} believes in {fence}, and is fenced off")
            raise not_renewed(lock.encode()) from None
        except BasestoreError as error:
            written.told = False if error.definite else None
            self._count("not written", error)
        else:
            written.told = True
            self.world.counts["locks: written under one"] += 1

    def _count(self, what: str, error: BasestoreError) -> None:
        self.world.counts[f"locks: {what}: {type(error).__name__}"] += 1
        if isinstance(error, InvalidRequest):
            self.world.blame("locks", f"h{self.index} is told {error}")

    # --- how it is carried ---------------------------------------------------------------------

    def _resume(self, told: Any = None, error: BasestoreError | None = None) -> None:
        if self.ended:
            return
        step = self._steps.send(told) if error is None else self._steps.throw(error)
        if isinstance(step, float):
            self.world.clockwork.after(step, self._resume)
        else:
            self._ask(step)

    def _ask(self, call: Any) -> None:
        wire = self._wire
        if wire is None or wire.leaving or wire.life != wire.machine.life or wire.machine.node is None:
            running = [machine for machine in self.world.roster.members if machine.node is not None]
            wire = self._wire = Wire(self, self.stream.pick(running)) if running else None  # type: ignore[arg-type]
        if wire is None:
            error = ReadTimeout("no node runs", None, None, None)
            self.world.clockwork.after(0.1, self._resume, None, error)
            return
        self._request += 1
        self._call = call
        self._message: Message = call.make(self._request)
        wire.ask(self._message)
        self.world.clockwork.after(TIMEOUT_S + GRACE_S, self._give_up, wire, self._request)

    def hear(self, wire: Wire, message: Message) -> None:
        if wire is not self._wire or message.id != self._request:  # type: ignore[attr-defined]
            return
        self._request += 1
        try:
            told = self._call.read(message, Names())
        except BasestoreError as error:
            self._resume(None, error)
        else:
            self._resume(told)

    def _give_up(self, wire: Wire, request: int) -> None:
        if wire is self._wire and request == self._request:
            self._miss()

    def lose(self, wire: Wire) -> None:
        if wire is self._wire and wire.number == self._request and not self.ended:
            self._miss()

    def _miss(self) -> None:
        """No answer comes: of what it wrote nobody knows."""
        self._wire = None
        self._request += 1
        if isinstance(self._message, Get):
            self._resume(None, ReadTimeout("no answer", None, None, None))
        else:
            self._resume(None, OutcomeUnknown("no answer", None, None))
