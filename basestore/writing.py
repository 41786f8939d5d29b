"""Writing: the story of one set or delete.

    begin       a first-write bucket at QUORUM or ALL reads first: a record found is LOST to
    send        one Apply to every replica; a hint for each that is not alive
    applied, superseded, rejected, lost, kept
                the tally counts; the verdict is answered as soon as it stands
    alarm       the deadline: what has not answered gets a hint, the caller hears WriteTimeout

The write goes on after the answer, until every replica has answered or has a hint. A write that
was stamped is never stamped again: who repeats it passes the version on.
"""

from typing import TYPE_CHECKING

from basestore.consistency import Level, ReplicaState, Tally, Verdict
from basestore.errors import Overloaded, ReadTimeout, ReplicaFailure, RequestFailed, WriteTimeout
from basestore.messages import DIRECT, Apply, Failed, Keep, Written, Rejected
from basestore.operation import Operation
from basestore.outbox import SMALL_BYTES, Outbox
from basestore.peers import Instant
from basestore.reading import Finding
from repair.rule import Rule
from repair.version import VERSION_BYTES, Record, Version

if TYPE_CHECKING:
    from basestore.coordinator import Coordinator

STORED, SUPERSEDED, LOST = 0, 1, 2
PROVISIONAL = 1


class Writing(Operation):
    """One write at its coordinator."""

    __slots__ = (
        "_answered", "_client", "_coordinator", "_deadline", "_hints_asked", "_level", "_reasons",
        "_record", "_replicas", "_request", "_row", "_rule", "_tally", "_winner",
    )  # fmt: skip

    def __init__(
        self,
        coordinator: "Coordinator",
        client: Outbox,
        request: int,
        row: bytes,
        rule: Rule,
        replicas: tuple[int, ...],
        level: Level,
        size: int,
    ) -> None:
        super().__init__(size)
        self._coordinator = coordinator
        self._client = client
        self._request = request
        self._row = row
        self._rule = rule
        self._replicas = replicas
        self._level = level
        self._tally = Tally(len(replicas), level)
        self._answered = False
        self._hints_asked = 0
        self._winner = b""
        self._reasons: dict[str, str] = {}

    def begin(
        self,
        value: bytes,
        ttl_ms: int,
        tombstone: bool,
        repeated: Version | None,
        deadline: float,
        now: Instant,
    ) -> None:
        """Stamp, place and send; in a first-write bucket at QUORUM or ALL, read first."""
        self._deadline = deadline

        def write(at: Instant) -> None:
            version = repeated or self._coordinator.stamp(self._row, at)
            if version is None:
                self._fail(
                    Overloaded(
                        "overloaded: the clock's ceiling is not durable yet; nothing was done. Try again"
                    )
                )
                return
            expires_ms = version.wall_ms + ttl_ms if ttl_ms else 0
            self._record = Record.seal(
                self._coordinator.digester, self._row, version, value,
                tombstone=tombstone, expires_ms=expires_ms,
            )  # fmt: skip
            self._send(at)

        if self._rule is Rule.LAST_WRITE_WINS or self._level < Level.QUORUM:
            write(now)
            return

        def after_read(result: Finding | RequestFailed) -> None:
            if isinstance(result, RequestFailed):
                self._fail(_not_begun(result))
            elif result.record is None or result.record.version == repeated:
                write(result.at)
            else:
                version = repeated.encode() if repeated else b""
                self._answer(LOST, version, result.record.head)

        self._coordinator.read(self._row, self._rule, self._level, deadline, after_read, now)

    def _send(self, now: Instant) -> None:
        coordinator = self._coordinator
        request = coordinator.operations.issue(self)
        deadline_ms = now.wall_ms + int((self._deadline - now.monotonic) * 1e3)
        message = Apply(request, self._row, self._record.blob, DIRECT, deadline_ms)
        size = len(self._row) + len(self._record.blob) + SMALL_BYTES
        alive, send = coordinator.peers.alive, coordinator.peers.send
        missed = [
            replica for replica in self._replicas if not (alive[replica] and send(replica, message, size))
        ]
        for replica in missed:
            self._hint(replica, "not alive")
        alarm = self._deadline
        if self._level is Level.ANY:
            alarm = now.monotonic + (alarm - now.monotonic) / 2
        coordinator.operations.alarm_at(request, alarm)

    def _hint(self, replica: int, reason: str) -> None:
        """Ask this node to keep a hint for a replica that does not confirm."""
        coordinator = self._coordinator
        self._reasons.setdefault(coordinator.names[replica], reason)
        only_copy = self._level is Level.ANY and not self._tally.applied
        message = Keep(self.ids[0], replica, self._row, self._record.blob, only_copy)
        if replica != coordinator.peers.me and coordinator.peers.send(coordinator.peers.me, message):
            self._hints_asked += 1
        else:
            self._note(replica, ReplicaState.FAILED)

    def applied(self, member: int, request: int, now: Instant) -> None:
        self._note(member, ReplicaState.APPLIED)

    def superseded(self, member: int, request: int, head: bytes, now: Instant) -> None:
        if not self._winner or self._rule.beats(head, self._winner):
            self._winner = head
        self._note(member, ReplicaState.SUPERSEDED)

    def rejected(self, member: int, request: int, answer: Rejected, now: Instant) -> None:
        self._reasons[self._coordinator.names[member]] = answer.reason
        self._note(member, ReplicaState.FAILED)
        if answer.passing:
            self._hint(member, answer.reason)

    def kept(self, member: int, stored: bool, now: Instant) -> None:
        self._hints_asked -= 1
        self._note(member, ReplicaState.HINTED if stored else ReplicaState.FAILED)

    def lost(self, member: int, now: Instant) -> None:
        if member in self._replicas and self._state(member) == ReplicaState.PENDING:
            self._hint(member, "the link was lost")

    def alarm(self, now: Instant) -> None:
        """The deadline; at ANY half-way, so that hints are durable before it."""
        for replica in self._replicas:
            if self._state(replica) == ReplicaState.PENDING:
                self._hint(replica, "no answer in time")
        if not self._answered:
            if now.monotonic < self._deadline:
                self._coordinator.operations.alarm_at(self.ids[0], self._deadline)
                return
            tally = self._tally
            version = self._record.version
            self._fail(
                WriteTimeout(
                    f"timeout: {tally.applied} of {tally.required} required replicas confirmed in time; the write "
                    f"may have happened. Repeat it with version {version} (it is then the same write), or read",
                    tally.applied, tally.required, version,
                )
            )  # fmt: skip
        self._coordinator.operations.drop(self)

    def _state(self, replica: int) -> ReplicaState:
        return self._tally.states[self._replicas.index(replica)]

    def _note(self, replica: int, state: ReplicaState) -> None:
        tally = self._tally
        tally.record(self._replicas.index(replica), state)
        if not self._answered:
            verdict = tally.verdict
            if verdict is Verdict.STORED:
                self._answer(STORED, self._record.blob[:VERSION_BYTES], b"")
            elif verdict is Verdict.SUPERSEDED:
                outcome = SUPERSEDED if self._rule is Rule.LAST_WRITE_WINS else LOST
                self._answer(outcome, self._record.blob[:VERSION_BYTES], self._winner)
            elif verdict is Verdict.FAILED and not (self._level is Level.ANY and self._hints_asked):
                self._fail(self._failure())
        if self._answered and not tally.waiting:
            self._coordinator.operations.drop(self)

    def _answer(self, outcome: int, version: bytes, winner: bytes) -> None:
        self._answered = True
        tally = self._tally
        states = [word for pair in zip(self._replicas, tally.states, strict=True) for word in pair]
        acknowledged = tally.applied
        self._client.put(
            Written(
                self._request,
                outcome,
                0 if self._rule is Rule.LAST_WRITE_WINS else PROVISIONAL,
                version,
                tally.required,
                acknowledged,
                states,
                winner[:VERSION_BYTES],
            )
        )

    def _failure(self) -> ReplicaFailure:
        version = self._record.version
        tally = self._tally
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self._reasons.items())
        return ReplicaFailure(
            f"failed: {tally.applied} of {tally.required} required replicas applied the write, others refused or were "
            f"lost ({reasons}). It may have happened: repeat it with version {version}, or read",
            self._reasons,
            version,
        )

    def _fail(self, error: RequestFailed) -> None:
        self._answered = True
        version = error.version.encode() if error.version else b""
        self._client.put(Failed(self._request, error.code, str(error), version, error.details()))


def _not_begun(error: RequestFailed) -> RequestFailed:
    """The read before a first write failed: say that the write itself was not sent."""
    if isinstance(error, ReadTimeout):
        text = f"timeout before the write was sent ({error}); nothing was written"
        return ReadTimeout(text, error.received, error.required, None)
    return error
