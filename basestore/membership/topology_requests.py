"""Topology requests: what clients ask about the cluster itself, and how it is answered.

    ReadTopology      in one of three modes (`asking.py`)
    ReadHistory       what entries have said, in words, as far back as this node's log goes
    ChangeTopology    an entry is decided, and the answer says what has become of it

Bad requests are refused here; whether a change makes sense is decided with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final

from basestore.cluster.outbox import Outbox, weight
from basestore.coordinator.admission import check_timeout
from basestore.coordinator.context import Context, refuse
from basestore.errors import InvalidRequest, NoLeader, RequestFailed
from basestore.instant import Instant
from basestore.membership.membership import Membership
from basestore.protocol.limits import SERIAL_SINCE
from basestore.protocol.membership import (
    CONSISTENT,
    DEFAULT,
    STALE,
    ChangeTopology,
    HistoryRow,
    HistoryTold,
    ReadHistory,
    ReadTopology,
    TopologyChanged,
    TopologyTold,
)
from basestore.repair.rule import Rule
from basestore.topology.changes import (
    MOVES_SINCE,
    OF_MOVES,
    CancelMoves,
    Change,
    CreateBucket,
    RemoveMember,
    ReplaceMember,
    SetSetting,
    TakeBack,
)
from basestore.topology.entries import encode_entry, read_suggested
from basestore.topology.own_settings import wrong_setting
from basestore.topology.topology import Outcome, Topology

ROWS_MAX: Final = 1000


class TopologyRequests:
    """Of one node. `requests`: by the class of what a client asks."""

    def __init__(self, context: Context, membership: Membership) -> None:
        self._context, self._membership = context, membership
        self._told: Topology | None = None
        self._telling = dict[bool, bytes]()  # by whether who asks knows of serial buckets
        self.requests: Mapping[type, Callable[[Outbox, Any, Instant], None]] = {
            ReadTopology: self._refusing(self._read),
            ReadHistory: self._refusing(self._read_history),
            ChangeTopology: self._refusing(self._change),
        }

    def _refusing(
        self, begin: Callable[[Outbox, Any, Instant], None]
    ) -> Callable[[Outbox, Any, Instant], None]:
        def call(outbox: Outbox, request: Any, now: Instant) -> None:
            try:
                check_timeout(self._context, request.timeout_ms)
                begin(outbox, request, now)
            except (InvalidRequest, RequestFailed) as error:
                refuse(self._context, outbox, request.id, error)

        return call

    # --- reads -----------------------------------------------------------------------------------

    def _read(self, outbox: Outbox, request: ReadTopology, now: Instant) -> None:
        if request.mode == STALE:
            self._tell(outbox, request.id, None, now)
        elif request.mode in (DEFAULT, CONSISTENT):
            end = partial(self._tell, outbox, request.id)
            self._membership.asking.read(request.timeout_ms / 1e3, end, now, lease=request.mode == DEFAULT)
        else:
            raise InvalidRequest("there is no such mode; read in mode default, consistent or stale")

    def _tell(self, outbox: Outbox, request: int, error: RequestFailed | None, now: Instant) -> None:
        membership, peers = self._membership, self._context.peers
        group, told, leader = membership.group, membership.following.told, membership.leader
        topology = group.topology
        if error is not None or topology is None:
            error = error or NoLeader(leader.absence("nothing can be read", now))
            refuse(self._context, outbox, request, error)
            return
        raft, number = group.raft, leader.number(now)
        voters = sorted(voter.number for voter in raft.voters) if raft is not None else []
        learners = sorted({voter.number for voter in membership.leading.learners} - set(voters))
        epochs = [peers.number_of[peers.me], group.epoch]
        for member, at in sorted(told.items()):
            epochs += (peers.number_of[member], at.epoch)
        answer = TopologyTold(
            request, self._encoded(topology, outbox.version), group.group,
            -1 if number is None else number, leader.heard_ms(now), raft.term if raft is not None else 0,
            voters, learners, epochs,
        )  # fmt: skip
        outbox.put(answer, weight(answer))

    def _encoded(self, topology: Topology, version: int) -> bytes:
        """As clients are told of it, made once: they ask for no outcomes, which are most of its bytes."""
        if topology is not self._told:
            self._told, self._telling = topology, {}
        serial = version >= SERIAL_SINCE
        if serial not in self._telling:
            told = replace(topology, outcomes={})
            self._telling[serial] = (told if serial else told.without_serial()).encode()
        return self._telling[serial]

    def _read_history(self, outbox: Outbox, request: ReadHistory, now: Instant) -> None:
        if not 0 < request.limit <= ROWS_MAX or request.after < -1:
            raise InvalidRequest(f"ask for 1 to {ROWS_MAX} entries of the history, behind an epoch")
        group = self._membership.group
        history, last = group.log.history, group.epoch
        first = min(history.first or last + 1, last + 1)
        after = last - request.limit if request.after < 0 else request.after
        lines = islice(history.between(after, last), request.limit)
        answer = HistoryTold(request.id, first, last, [HistoryRow(*line) for line in lines])
        outbox.put(answer, weight(answer))

    # --- changes ---------------------------------------------------------------------------------

    def _change(self, outbox: Outbox, request: ChangeTopology, now: Instant) -> None:
        try:
            said = read_suggested(request.entry)
            me, change = self._membership.group.me.number, self._meant(said.change)
            entry = encode_entry(said._replace(change=change, by=me, wall_ms=now.wall_ms))
        except ValueError as error:
            raise InvalidRequest(f"the change cannot be made: {error}") from None
        self._check(change, now)

        def end(became: Outcome | RequestFailed, now: Instant) -> None:
            if isinstance(became, Outcome):
                outbox.put(TopologyChanged(request.id, became.epoch, became.error, became.number))
            else:
                refuse(self._context, outbox, request.id, became)

        self._membership.asking.change(entry, request.timeout_ms / 1e3, end, now, again=request.again)

    def _meant(self, change: Change) -> Change:
        """What is asked for, in the latest words that all members can read."""
        if isinstance(change, CancelMoves) and not self._context.feature_level.lacks(SERIAL_SINCE):
            return TakeBack(change.partitions)
        return change

    def _check(self, change: Change, now: Instant) -> None:
        """InvalidRequest for what not all members can read yet, for who is called dead, and is not, and for a
        setting of basestore's own that makes no sense."""
        if isinstance(change, SetSetting) and (wrong := wrong_setting(*change)):
            raise InvalidRequest(wrong)
        if isinstance(change, OF_MOVES) and (lacks := self._context.feature_level.lacks(MOVES_SINCE)):
            raise InvalidRequest(f"nothing can be moved yet: {lacks}")
        if isinstance(change, TakeBack) and (lacks := self._context.feature_level.lacks(SERIAL_SINCE)):
            raise InvalidRequest(f"moves can be cancelled at once only (kind 15): {lacks}")
        serial = change.rule if isinstance(change, CreateBucket) and Rule(change.rule).serial else ""
        if serial and (lacks := self._context.feature_level.lacks(SERIAL_SINCE)):
            raise InvalidRequest(f"no bucket can have rule {serial} yet: {lacks}")
        dead = isinstance(change, RemoveMember) or (isinstance(change, ReplaceMember) and change.dead)
        index = self._context.peers.index_of.get(change.number) if dead else None  # type: ignore[union-attr]
        if index is None:
            return
        peers = self._context.peers
        if index == peers.me or peers.hears(index, now):
            name = peers.all[index].name
            raise InvalidRequest(
                f"{name} answers, so it is not dead: have it drained, which loses nothing (`basestore node "
                f"drain {name}`); or stop it for good first"
            )
