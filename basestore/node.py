"""Node: one member of a cluster as a synchronous state machine.

Who drives it calls, in any order but never two at a time:

    link, receive, unlink          a link to a peer stands, has brought messages, is gone
    open_client, intake.close      a client has connected, has gone
    intake.offer(client, ...)      it has asked: begun or refused with the next step. Disconnect whom the
                        intake calls `broken`, and take another step while it is `ready`
    tick(now)           time has passed (by when, `rest` says: some twenty times a second, or two)
    operations.tick(now)    the same in between, when an alarm is due (`operations.alarm_due_s`)
    step(now)           after each burst of the above: handles what this node says to itself, stores what
                        was staged; returns the newest barrier not yet durable, if there is one
    durable(b, now)     a sync that began after `step` returned `b` has ended; call `step` again
    close(now)          the last call; afterwards sync and close the engine

Syncs may be as rare as the durability setting allows, but not while the group commit is `urgent`. After a
step the driver breaks all links if `introductions.take_relink` says so, takes what lies in the outboxes that
`ready` names, and clears `ready`: one that it cannot empty now is not named again, so it comes back to it.

Time is the argument `now`, randomness `fresh`: whole clusters run in one process, simulated. Owns its rooms,
and which of them a message is for. It is a peer of itself: what it says to it, `step` takes from an outbox.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from basestore.anti_entropy.birth import Birth
from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.anti_entropy.exchange import LocalSide
from basestore.anti_entropy.exchanges import Exchanges
from basestore.anti_entropy.healing import Healing
from basestore.anti_entropy.maintenance import Maintenance
from basestore.anti_entropy.pace import Pace
from basestore.anti_entropy.recovery import Recovery
from basestore.anti_entropy.scheduler import Scheduler
from basestore.batches.batches import Batches
from basestore.cluster.operations import ANSWERS, Operations
from basestore.cluster.outbox import OUTBOX_BYTES_MAX, Outbox
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement
from basestore.config import NodeConfig
from basestore.coordinator.context import Context
from basestore.coordinator.coordinator import REQUESTS
from basestore.coordinator.stamper import Stamper
from basestore.feeds.feeds import Feeds
from basestore.groups.turn import GROUPED, Turn
from basestore.handoff.debts import DebtCheck, Debts
from basestore.handoff.deferred_writes import DeferredWrites
from basestore.handoff.delivery import Delivery
from basestore.handoff.dropped_hints import DroppedHints
from basestore.handoff.hints import Hints
from basestore.handoff.late_hints import LateHints
from basestore.handoff.moved_hints import MovedHints
from basestore.instant import Instant
from basestore.intake.clipping import Clipping
from basestore.intake.intake import Intake
from basestore.membership.adoption import Adoption
from basestore.membership.group_log import open_log
from basestore.membership.membership import Membership
from basestore.membership.topology_requests import TopologyRequests
from basestore.metrics import Metrics
from basestore.moves.moves import Moves
from basestore.observe import status
from basestore.observe.inspect import Inspector, answer_inspect
from basestore.observe.node_requests import NodeRequests
from basestore.observe.report import Report
from basestore.observe.rest import Rest
from basestore.observe.trace import answer_trace
from basestore.peering.acknowledgements import Acknowledgements
from basestore.peering.heartbeats import Heartbeats
from basestore.peering.introductions import Introductions
from basestore.protocol.anti_entropy import KnownLosses
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Goodbye
from basestore.protocol.heartbeats import Ping, Pong
from basestore.protocol.operator import Inspect, Trace
from basestore.protocol.replication import Keep
from basestore.registers.registers import Registers
from basestore.repair.clock import HybridClock
from basestore.repair.version import Digester, origin_of
from basestore.replica.admission import Admission
from basestore.replica.clock_ceiling import ClockCeiling, stored_ahead_ms, stored_ceiling
from basestore.replica.disk_space import DiskSpace
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import Fresh, StoreIdentity
from basestore.replica.losses import Losses
from basestore.replica.replica import Replica
from basestore.replica.store_facts import open_level
from basestore.replica.summaries import Summaries
from basestore.replica.sync_watch import SyncWatch
from basestore.storage.engine import Engine
from basestore.topology.buckets import Buckets
from basestore.transactions.transactions import Transactions


class Node:
    """One member. `ready` holds the outboxes that have something to send."""

    def __init__(
        self, config: NodeConfig, engine: Engine, fresh: Fresh, now: Instant, labels: Mapping[str, str]
    ) -> None:
        """Open the store. Then, in this order: `step`, sync the engine, `accept_loss`, `durable` with
        the barrier that `step` returned; only now let messages in. `labels` are shown as they are."""
        self.group_commit = GroupCommit(engine, fresh.generation, waits=config.syncs == "always")
        log, config, self.let_go = open_log(self.group_commit, config)
        self.config, self.engine, self.name, cluster = config, engine, config.name, config.cluster
        self.me, self.ready, marks = cluster.member_index(config.name), set[Outbox](), config.marks_bytes_max
        placement, digester, self.metrics = Placement.of(cluster, log.seats), Digester(cluster.key), Metrics()
        buckets = Buckets(cluster.buckets, config.bucket_options, log.topology)
        self.disk_space = DiskSpace(config, self.group_commit)
        self.summaries = Summaries(self.group_commit, placement.held_by(self.me))
        first, spare = stored_ceiling(engine, self.summaries.closed), placement.spare
        self.clock = HybridClock(first, cluster.drift_ms_max, ahead=config.clock_is_right)
        self.replica = Replica(self.group_commit, self.summaries, buckets, digester, self.clock, marks)
        self.peers = Peers(cluster.names, self.me, self.ready, cluster.drift_ms_max, spare, log.formers)
        self.peers.clock.open(now, vouched=config.clock_is_right, ahead_ms=stored_ahead_ms(engine))
        self.feature_level = open_level(self.group_commit, config, self.peers)
        origin = origin_of(config.member.number, fresh.incarnation)
        self.operations = Operations((fresh.incarnation & 0xFFFF) << 40)
        self.context = Context(
            placement, self.peers, self.operations, self.metrics, digester, self.feature_level,
            Stamper(self.clock, self.peers.clock, origin, cluster.partitions), self.group_commit,
            buckets, cluster.timeout_ms_max, config.read_repair,
        )  # fmt: skip
        self.identity = StoreIdentity(self.group_commit, config, fresh, now, log.joining)
        level, seed = self.feature_level, fresh.generation
        self.membership = Membership(config, log, self.identity, level, self.peers, seed, now)
        self._begin_handoff(buckets, placement, now)
        self.clipping = Clipping(config, buckets, fresh.generation, self.metrics, self.deferred_writes)
        self.intake = Intake(self.receive_client, self.deferred_writes.defer_all, config.requests_max)
        self._birth = Birth(self.group_commit, self.summaries, self.identity, self.peers, self.clock)
        self._begin_anti_entropy(placement, fresh, now)
        self.admission = Admission(
            self.replica, self.group_commit, self.identity, self.peers, self.operations,
            self.certificates.in_use, placement,
        )  # fmt: skip
        finishing, admission = self.certificates.finishing, self.admission
        accepts = partial(self.membership.acceptor_of, self.me)
        self.registers = Registers(self.context, self.replica, accepts, finishing, admission, seed)
        self.turn = Turn(self.context, self.registers.receive)
        self.feeds = Feeds(self.context, self.replica, self.certificates, self.identity, cluster.id, fresh)
        admission.handlers.update(self.registers.acceptors.handlers)  # what it has held back goes on there
        self.sync_watch = SyncWatch(self.group_commit, self.metrics, config.syncs)
        self._ceiling = ClockCeiling(self.group_commit, self.clock, self.peers.clock, self.identity)
        self._begin_talk(fresh, now, labels)
        self._handlers = self._peer_handlers()
        self._ceiling.tick(now)
        self.introductions.settle(now)

    def _begin_talk(self, fresh: Fresh, now: Instant, labels: Mapping[str, str]) -> None:
        """What members say to each other, what is said of this node, and the door for what clients ask."""
        identity, peers, commit = self.identity, self.peers, self.group_commit
        self.transactions = Transactions(self.context, self.registers, self.replica)
        self.batches = Batches(self.context, self.replica, self.admission, self.certificates)
        self.introductions = Introductions(identity, peers, commit, fresh, self.exchanges.take_proof_of_loss)
        config, membership, admission, context = self.config, self.membership, self.admission, self.context
        self.moved_hints = MovedHints(self.hints, self.debts, context.placement, self.certificates.in_use)
        self._adoption = Adoption(
            config.cluster, context.buckets, self.replica, self.maintenance, self.recovery, peers, admission
        )
        self._adoption.begin(membership.group, commit, self.intake.tell, self.moved_hints.look, now)
        self.moves = Moves(context, membership, self.certificates, self.summaries, self.closed_stamps)
        self.recovery.waits, self.recovery.is_new = membership.following.lacks, membership.newcomer.is_new
        membership.begin_anew, membership.leading.table = admission.begin_anew, context.placement.replicas
        self.clipping.closed, self.hints.leaving = membership.closed, membership.leaving
        intake, delivery, late, hints = self.intake, self.delivery, self.late_hints, self.hints
        self._heartbeats = Heartbeats(
            identity, peers, self.clock, self._birth, self.closed_stamps, self.feature_level, commit
        )
        self._heartbeats.alone, self._heartbeats.membership = hints.alone, membership
        membership.forgetting.watch(self.maintenance.purged_upto, lambda: self.dropped_hints.upto)
        self.report = Report(
            config, dict(labels), identity, peers, self.replica, commit, self.operations, self.exchanges,
            self.certificates, self.recovery, hints, self.debts, self.metrics, self.losses, context.stamper,
            self.disk_space, self.feature_level, self.clipping, intake, now, now, membership,
            self.registers.acceptors, self.transactions, self.feeds, self.batches,
        )  # fmt: skip
        context.load.door, context.load.retry_ms = intake.door, lambda: intake.windows.retry_ms
        self.rest = Rest(self.operations, self.group_commit, self.scheduler, delivery, late, intake)
        own = NodeRequests(context, self.report, self.recovery, hints, delivery, late)
        topology = TopologyRequests(context, membership)
        rooms = (own, topology, self.moves, self.feeds, self.transactions, self.batches)
        self._own_requests = {kind: begin for each in rooms for kind, begin in each.requests.items()}

    def _begin_handoff(self, buckets: Buckets, placement: Placement, now: Instant) -> None:
        commit, open_ms = self.group_commit, self.config.cluster.open_ms
        self.debts = Debts(commit, self.peers, self.metrics)
        self.losses = Losses(commit, self.summaries, self.peers, self.clock, placement.meeting)
        self.hints = Hints(
            commit, buckets, self.losses, self.metrics, self.config, self.debts,
            lambda row, head, numbers: self.admission.taken_by(row, head, numbers),
        )  # fmt: skip
        self.dropped_hints = DroppedHints(commit, self.hints, buckets)
        self.delivery = Delivery(self.hints, self.peers, self.operations, self.replica.intact)
        self.late_hints = LateHints(self.hints, buckets.rules, self.context)
        self.deferred_writes = DeferredWrites(self.hints, self.context, open_ms, self.identity)
        self._debt_check = DebtCheck(
            self.debts, self.summaries, placement, self.peers, self.operations, self.clock, now
        )

    def _begin_anti_entropy(self, placement: Placement, fresh: Fresh, now: Instant) -> None:
        cluster, request_s_max = self.config.cluster, self.config.cluster.timeout_ms_max / 1e3
        commit, replica, identity = self.group_commit, self.replica, self.identity
        peers, metrics, losses = self.peers, self.metrics, self.losses
        self.certificates = proofs = Certificates(commit, self.summaries, identity, placement, peers)
        self.closed_stamps = ClosedStamps(
            self.summaries, identity, peers, self.clock, cluster.closed_lag_ms, now,
            durable=self.engine.persistent,
        )  # fmt: skip
        self.maintenance = Maintenance(commit, replica, identity, self.certificates, metrics, now)
        local = LocalSide(
            commit, replica, identity, self.certificates, self.closed_stamps, self.maintenance, metrics,
            Pace(self.operations.issued + self.operations.served), losses,
        )  # fmt: skip
        self.exchanges = Exchanges(local, peers, int.from_bytes(fresh.generation[:4]))
        self.scheduler = Scheduler(local, self.exchanges, peers, self.operations, self.debts.of, now)
        self.healing = Healing(replica, proofs, peers, self.operations, metrics, losses, request_s_max)
        self.recovery = Recovery(local, self.scheduler, request_s_max)
        self._inspector = Inspector(
            self.config, identity, peers, self.clock, self.context.stamper, replica, self.certificates,
            self.maintenance, self.hints, metrics, losses, commit,
        )  # fmt: skip

    # --- what the driver calls ---------------------------------------------------------------

    def open_client(self, bytes_max: float = OUTBOX_BYTES_MAX, **caller: Any) -> Outbox:
        """A client has connected (`caller`: as `Intake.open` takes it); its answers come in the outbox."""
        return self._adoption.greet(self.intake.open(Outbox(self.ready, bytes_max), **caller).outbox)

    def receive_client(self, outbox: Outbox, messages: list[Message], now: Instant) -> Message | None:
        """Begin requests that the intake has let in. Returns the first that no client may say, if any."""
        for message in self.clipping.let_in(outbox, messages, now):
            kind = type(message)
            if kind in GROUPED:
                self.turn.add(outbox, message)
            elif kind in REQUESTS:
                self.registers.receive(outbox, message, now)
            elif kind in self._own_requests:
                self._own_requests[kind](outbox, message, now)
            else:
                return message
        return None

    def link(self, member: int, now: Instant) -> Outbox:
        """A link to a peer stands. Give the outbox back to `receive` and `unlink`."""
        replaced = self.peers.all[member].linked
        outbox = self.peers.link(member, now)
        self.losses.introduce(outbox)
        outbox.put(self.identity.claim())
        self.membership.following.greet(member, outbox)
        outbox.put(self._heartbeats.make(now))  # at once: until it is answered, nothing may be stamped
        if replaced:  # what was under way on the old one is lost, as if it had been unlinked
            self._lost(member, now)
        return outbox

    def unlink(self, member: int, outbox: Outbox, now: Instant) -> None:
        """That link is gone, with all that was on its way."""
        if self.peers.unlink(member, outbox, now):
            self.membership.following.lost(member)
            self._lost(member, now)

    def _lost(self, member: int, now: Instant) -> None:
        self.operations.lost(member, now)
        self.exchanges.lost(member)

    def receive(self, member: int, outbox: Outbox, messages: list[Message], now: Instant) -> Message | None:
        """Messages of a peer. Returns the first that no peer may say, if any. What still comes on a
        link that was replaced is not heard: it may be of a store that the peer has lost.
        ProtocolError when one has the form of a message but makes no sense."""
        if outbox.closed:
            return None
        self.peers.hear(member, now)
        for message in messages:
            if (handler := self._handlers.get(type(message))) is not None:
                handler(member, outbox, message, now)
            elif type(message) in ANSWERS:
                self.operations.answer(member, message, now)
            else:
                return message
        return None

    def tick(self, now: Instant) -> None:
        """Deadlines, heartbeats, deliveries, exchanges, and the clock's ceiling."""
        self.report.ticked, self.rest.ticked_s = now, now.monotonic
        self.operations.tick(now)
        self.context.load.brownout = self._heartbeats.brownout = self.intake.tick(now)
        self.clipping.tick(now)
        self.sync_watch.tick(now)
        self.peers.note_disk(self.me, bool(self.group_commit.refusal))
        self.closed_stamps.hear_only_copies(self.me, self.hints.alone(), now)
        for member in self.peers.tick(now, self._heartbeats.make):
            self.operations.lost(member, now)
        self.introductions.tick(now)
        self.admission.tick(now)
        self.group_commit.offer_again()  # not with every step: it takes as long as to store the batch
        if not self.group_commit.stalled:  # all this stages more
            self.dropped_hints.tick()
            rooms = self.moved_hints, self.delivery, self._debt_check, self.late_hints, self.healing
            for room in (*rooms, self.recovery, self.identity):
                room.tick(now)
            self.feature_level.tick()
            for each in (self.registers, self.transactions, self.batches, self._ceiling):
                each.tick(now)
        self.membership.tick(now)
        self.moves.tick(now)
        self.feeds.tick(now)
        self.scheduler.tick(now, self.context.load.brownout)

    def step(self, now: Instant) -> int | None:
        """One batch is stored, or more if what this node then hears of itself stages again."""
        self._birth.tick(now, self._heartbeats.make)
        self.introductions.settle(now)
        self.intake.admit(now, self.peers.backlog)
        self.turn.begin(now)
        self.clipping.defer(now)
        self.membership.step(now)
        if self.context.stamper.parked and not self.group_commit.stalled:
            self._ceiling.tick(now)  # it may be what they wait for
            self.context.stamper.resume(now)
        while True:
            self._talk_to_self(now)
            self.registers.tell()
            self.feeds.step(now)
            if not self.group_commit.stalled:
                self.summaries.summary_log.checkpoint(self.certificates.passed)
                if self.group_commit.rows and not self.operations.count:  # what is due soon may go with it
                    self.identity.tick(now)
                    self._ceiling.tick(now)
            # Staged last before the commit: a batch must have the sums of all records in it.
            self.summaries.summary_log.write()
            self.group_commit.commit()
            # Refused by the engine: the next step offers the batch again, and until then nothing is scanned.
            if self.group_commit.stalled:
                break
            if not self.peers.all[self.me].outbox.messages and not self.scheduler.work(now):
                break
        self.intake.settle()
        newest = self.group_commit.sequence
        return newest if newest > self.group_commit.durable_sequence else None

    def durable(self, barrier: int, now: Instant) -> None:
        """All batches up to `barrier` are durable. Replies leave; call `step` afterwards."""
        self.group_commit.durable(barrier)
        self.introductions.settle(now)

    @property
    def state(self) -> str:
        """up, starting (not yet known to be whole), forgetful, or left (the cluster)."""
        return status.state(self.identity)

    @property
    def reason(self) -> str:
        """Why the store does not count, in words; empty when it does."""
        return status.reason(self.identity, self.peers, self.certificates)

    @property
    def linked(self) -> bool:
        """Whether every other member counts for levels, as seen from here, and this one too."""
        return self.peers.all_alive

    def close(self, now: Instant) -> None:
        """Keep hints for whoever has not answered, and say in the store that it was closed cleanly."""
        for operation in list(self.operations.each()):
            operation.closing(now)
        self._talk_to_self(now)
        # In one batch with the hints: what says "closed cleanly" must not be there without them.
        self.identity.close()
        self._ceiling.close()
        self.summaries.summary_log.write()
        self.group_commit.offer_again()
        self.group_commit.commit()

    # --- inside ------------------------------------------------------------------------------

    def _talk_to_self(self, now: Instant) -> None:
        mine, answer = self.peers.all[self.me].outbox, self.operations.answer
        while mine.messages:
            for message in mine.take():
                handler = self._handlers.get(type(message))
                handler(self.me, mine, message, now) if handler else answer(self.me, message, now)
        self.ready.discard(mine)

    def _peer_handlers(self) -> dict[type, Callable[[int, Outbox, Any, Instant], None]]:
        """What each message of a peer sets going."""
        rooms = (
            self.admission, Acknowledgements(self.operations, self.identity, self.peers), self.exchanges,
            self.membership, self.moves, self.registers, self.feeds, self.introductions, self.batches,
        )  # fmt: skip
        return {
            **{kind: handle for room in rooms for kind, handle in room.handlers.items()},
            Trace: partial(answer_trace, self._inspector, self.registers.acceptors),
            Inspect: partial(answer_inspect, self._inspector, self.scheduler, self.healing),
            Keep: lambda member, outbox, message, now: self.hints.keep(outbox, message),
            KnownLosses: lambda member, outbox, message, now: self.losses.hear(outbox, message),
            Ping: self._heartbeats.hear,
            Pong: lambda member, outbox, message, now: self.peers.clock.hear(member, message, now),
            Goodbye: lambda member, outbox, message, now: self.peers.goodbye(member, now),
        }
