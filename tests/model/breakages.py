"""Breakages: the protocol with one of its rules left out, each put in by patching the model from outside.

    python -m tests.model --breakages [NAME ...]

What ANTI_ENTROPY's chapter "What breaks it" names is here, and every guard. A few cost no soundness:
`HARMLESS` says why.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection
from itertools import count
from typing import Any

from tests.model.breakages_in_doubt import IN_DOUBT
from tests.model.coordinator import Coordinator, Write
from tests.model.interleavings import INTERLEAVINGS
from tests.model.judge import Violation
from tests.model.patches import Breakage, Patch, broken, constant
from tests.model.record import STAMPS, Record, digest
from tests.model.replica import LAG, Answer, Claim, Replica, Snapshot, Store, Way
from tests.model.session import Base, Cert, Entry, List, Side
from tests.model.trial import play, trials
from tests.model.world import Delivery, ModelWorld


def unguarded(*ways: Way) -> list[Patch]:
    def made(refusal: Any) -> Any:
        def broken(self: Replica, record: Record, way: Way, holders: Collection[int]) -> Answer | None:
            answer: Answer | None = refusal(self, record, way, holders)
            return None if way in ways else answer

        return broken

    return [Patch(Replica, "refusal", made)]


def guarded_sessions(refusal: Any) -> Any:
    def broken(self: Replica, record: Record, way: Way, holders: Collection[int]) -> Answer | None:
        if way is Way.SESSION and record.stamp <= self.store.stable:
            return Answer.SETTLED
        answer: Answer | None = refusal(self, record, way, holders)
        return answer

    return broken


def superseded_as_applied(hear: Any) -> Any:
    def broken(self: Coordinator, stamp: int, place: int, store_id: int, answer: Answer) -> Write | None:
        write: Write | None = hear(self, stamp, place, store_id, answer)
        if write is not None and answer is Answer.SUPERSEDED:
            write.holders.add(store_id)
        return write

    return broken


def claim_of_any_tag(_: Any) -> Any:
    def broken(self: Replica) -> Claim:
        store, tag = self.store, tuple(self.store.ids)
        found = [store.certificates.get(peer) for peer in self.peers()]
        closed = [item.closed if item and item.peer_id in tag else 0 for item in found]
        return Claim(0 if store.forgetful else min(closed), tag)

    return broken


def settle_by(chosen: Callable[[Replica], list[int]], *, back: bool = False) -> Patch:
    def made(_: Any) -> Any:
        def broken(self: Replica) -> None:
            self.claims[self.place] = self.claim()
            closed = chosen(self)
            if len(closed) == len(self.store.ids):
                self.store.stable = max(0 if back else self.store.stable, min(closed))
            self.purge()

        return broken

    return Patch(Replica, "settle", made)


def closed_of_all(replica: Replica) -> list[int]:
    return [claim.closed for claim in replica.claims.values()]


def closed_of_own_tag(replica: Replica) -> list[int]:
    return [claim.closed for claim in replica.claims.values() if claim.tag == tuple(replica.store.ids)]


def closed_of_own(replica: Replica) -> list[int]:
    return [replica.claim().closed] * len(replica.store.ids)


def cert_at_the_end(field: str) -> Patch:
    def made(cert: Any) -> Any:
        def broken(self: Side) -> Cert:
            store = self.replica.store
            if field == "seq":
                return cert(self)._replace(seq=store.seq)  # type: ignore[no-any-return]
            ticks = max((row.record.stamp for row in store.rows.values()), default=0)
            store.closed = max(store.closed, 0 if store.forgetful else ticks - 20 * STAMPS)
            return cert(self)._replace(closed=0 if store.forgetful else store.closed)  # type: ignore[no-any-return]

        return broken

    return Patch(Side, "cert", made)


def prepare_without(*, purge: bool = True, adopt: bool = True) -> Patch:
    def made(_: Any) -> Any:
        def broken(self: Replica, floor: int) -> bool:
            self.adopt(floor if adopt else 0)
            if purge:
                self.purge()
            return True

        return broken

    return Patch(Replica, "prepare", made)


def purge_at_any_time(purge: Any) -> Any:
    def broken(self: Replica) -> None:
        snapshots, self.snapshots = self.snapshots, []
        for snapshot in snapshots:  # these lose the rows, as they would if nothing were kept of them
            snapshot.before.update(
                (key, None) for key in self.due(self.store.stable) if key not in snapshot.before
            )
        purge(self)
        self.snapshots = snapshots

    return broken


def lose_and_keep_the_id(_: Any) -> Any:
    def broken(self: Replica, image: Store | None, _store_id: int) -> None:
        self.store = (image or self.backup).copy()
        self.disk = self.store.copy()
        self.forget()

    return broken


def snapshot_of_the_forgetful(_: Any) -> Any:
    original = Replica.snapshot

    def broken(self: Replica, now: int, ghosts: Collection[int] = ()) -> Snapshot:
        shot = original(self, now, ghosts)
        shot.closed = self.close(now)
        return shot

    return broken


def claim_of_the_forgetful(_: Any) -> Any:
    def broken(self: Replica) -> Claim:
        tag = tuple(self.store.ids)
        found = [self.store.certificates.get(peer) for peer in self.peers()]
        return Claim(min(item.closed if item and item.tag == tag else 0 for item in found), tag)

    return broken


def recovery_without_closed(recover: Any) -> Any:
    def broken(self: Replica, peer: int, _closed: int, needed: int) -> None:
        recover(self, peer, 0, needed)

    return broken


def foreign_always(*, forgetful: bool) -> Patch:
    def made(_: Any) -> Any:
        def broken(self: Side, message: List) -> frozenset[int] | None:
            return message.stamps if self.replica.store.forgetful or not forgetful else None

        return broken

    return Patch(Side, "foreign", made)


def begin_without_ghosts(begin: Any) -> Any:
    def broken(self: Side, floor: int, now: int, foreign: frozenset[int] | None = None) -> bool:
        begun: bool = begin(self, floor, now, foreign)
        self.lay(self.ghosts)
        return begun

    return broken


def entries_as(made_of: Callable[[list[Entry]], list[Entry]]) -> Patch:
    def made(entries: Any) -> Any:
        return lambda self, keys: made_of(entries(self, keys))

    return Patch(Side, "entries", made)


def owed_while_held(is_owed: Any) -> Any:
    def broken(self: Side, key: int) -> bool:
        return is_owed(self, key) and self.replica.held(key) == self.replica.had(self.taken(), key)

    return broken


def arrive_at_once(_: Any) -> Any:
    def broken(self: ModelWorld, delivery: Delivery) -> None:
        place, key, record, way, holders, coordinator = delivery
        replica = self.replicas[place]
        answer = replica.take(key, record, way, holders)
        if answer is not None and coordinator is not None:
            self.hear(coordinator, record.stamp, place, replica.id, answer)

    return broken


def base_of_any_store(_: Any) -> Any:
    def broken(self: Side) -> Base | None:
        found = self.replica.store.certificates.get(self.peer)
        if found is None:
            return None
        return Base(found.seq, found.peer_seq) if self.opener else Base(found.peer_seq, found.seq)

    return broken


def snapshot_by_the_clock(snapshot: Any) -> Any:
    def broken(self: Replica, now: int, ghosts: Collection[int] = ()) -> Snapshot:
        shot: Snapshot = snapshot(self, now, ghosts)
        for key, record in shot.rows.items():
            if 0 < record.expiry <= (now + self.skew) * STAMPS:
                shot.root -= digest(key, record)
        return shot

    return broken


def give_up_for_good(_: Any) -> Any:
    return lambda self, write, place: write.done.add(place)


def close_without_guard(_: Any) -> Any:
    return lambda self, now: max(self.store.closed, (now + self.skew - LAG) * STAMPS)


def crash_and_reuse(crash: Any) -> Any:
    def broken(self: Replica) -> None:
        seq = self.disk.seq
        crash(self)
        self.store.seq = self.disk.seq = seq

    return broken


def conclude_and_keep(conclude: Any) -> Any:
    def broken(self: Side) -> None:
        kept = dict(self.replica.store.certificates)
        conclude(self)
        for peer, certificate in kept.items():
            self.replica.store.certificates.setdefault(peer, certificate)

    return broken


def promise_at_once(_: Any) -> Any:
    return lambda self, say: say()


def always_a_copy(_: Any) -> Any:
    return property(lambda self: Way.COPY)


BREAKAGES = [
    Breakage("no closed guard", unguarded(Way.DIRECT, Way.UNSURE, Way.ONLY_COPY)),
    Breakage("no closed guard for unsure hints", unguarded(Way.UNSURE)),
    Breakage("no closed guard for only copies", unguarded(Way.ONLY_COPY)),
    Breakage("closed promised, not enforced", [Patch(Replica, "close", close_without_guard)]),
    Breakage("copies unguarded", unguarded(Way.COPY)),
    Breakage("copies treated as direct", [constant(Replica, "is_vouched", False)]),
    Breakage("copies vouched for by lost stores", [constant(Replica, "is_vouched", True)]),
    Breakage(
        "unsure hints treated as copies",
        [constant(Replica, "is_vouched", True), Patch(Write, "way", always_a_copy)],
    ),
    Breakage("superseded counts as applied", [Patch(Coordinator, "hear", superseded_as_applied)]),
    Breakage("sessions guarded by stable", [Patch(Replica, "refusal", guarded_sessions)]),
    Breakage("late hints dropped", [Patch(Coordinator, "give_up", give_up_for_good)]),
    Breakage("heartbeats name no only copies", [constant(Coordinator, "oldest_only_copy", None)]),
    Breakage("stable from the own row only", [settle_by(closed_of_own)]),
    Breakage("claims of any tag", [settle_by(closed_of_all)]),
    Breakage("certificates of any tag", [Patch(Replica, "claim", claim_of_any_tag)]),
    Breakage("stable goes back", [settle_by(closed_of_own_tag, back=True)]),
    Breakage("closed stamp of the session's end", [cert_at_the_end("closed")]),
    Breakage("sequence number of the session's end", [cert_at_the_end("seq")]),
    Breakage("no purge before the snapshot", [prepare_without(purge=False)]),
    Breakage("greater stable not adopted", [prepare_without(adopt=False)]),
    Breakage("floor moved, session goes on", [constant(Side, "is_overtaken", False)]),
    Breakage("purge in a session", [Patch(Replica, "purge", purge_at_any_time)]),
    Breakage(
        "purge by stamp, not by expiry",
        [Patch(Record, "due", lambda _: property(lambda self: self.stamp))],
    ),
    Breakage("expiry by local clocks", [Patch(Replica, "snapshot", snapshot_by_the_clock)]),
    Breakage("no copy on write", [constant(Replica, "keep_before", None)]),
    Breakage(
        "present versions in virtual roots",
        [entries_as(lambda found: [Entry(k, now, now) for k, now, _ in found])],
    ),
    Breakage(
        "changed rows not sent",
        [entries_as(lambda found: [entry for entry in found if entry.now == entry.then])],
    ),
    Breakage("wanted but overwritten is not sent", [Patch(Side, "is_owed", owed_while_held)]),
    Breakage("certified before durable", [Patch(Side, "promise", promise_at_once)]),
    Breakage("acknowledged before durable", [Patch(ModelWorld, "arrive", arrive_at_once)]),
    Breakage("sequence numbers reused", [Patch(Replica, "crash", crash_and_reuse)]),
    Breakage("restored store keeps its id", [Patch(Replica, "lose", lose_and_keep_the_id)]),
    Breakage("copy of an older store trusted", [constant(Replica, "is_last", True)]),
    Breakage("certificates with lost stores", [Patch(Side, "base", base_of_any_store)]),
    Breakage("sessions with lost stores go on", [constant(ModelWorld, "end_sessions", None)]),
    Breakage("forgetful replicas answer", [constant(Replica, "is_silent", False)]),
    Breakage(
        "forgetful replicas claim",
        [
            Patch(Replica, "snapshot", snapshot_of_the_forgetful),
            Patch(Replica, "claim", claim_of_the_forgetful),
        ],
    ),
    Breakage("closed not inherited", [Patch(Replica, "recover_with", recovery_without_closed)]),
    Breakage("whole after one peer", [constant(ModelWorld, "needed", 1)]),
    Breakage("recovery at once", [constant(ModelWorld, "rest", 0)]),
    Breakage("forgetful replicas drop nothing", [constant(Replica, "ghosts", set())]),
    Breakage("ghosts dropped before anything comes", [Patch(Side, "begin", begin_without_ghosts)]),
    Breakage("forgetful replicas drop by deltas", [foreign_always(forgetful=True)]),
    Breakage("whole replicas drop", [foreign_always(forgetful=False)]),
    Breakage(
        "certificates survive unequal roots",
        [Patch(Side, "conclude", conclude_and_keep)],
        corrupt=True,
    ),
    *IN_DOUBT,
]

HARMLESS = {
    "forgetful replicas claim": "they take nothing directly, so their closed stamps hold; tags do the rest",
    "copies treated as direct": "what is refused is left to sessions: slower, not wrong",
    "heartbeats name no only copies": "the guard decides; only more hints become late",
    "sequence numbers reused": "nothing that a crash can take is ever certified",
}


def catch(breakage: Breakage, cpu_s_max: float) -> tuple[str | None, str]:
    """The law that it breaks, and where: in an interleaving, or with a seed."""
    began_s = time.process_time()
    with broken(breakage):
        for interleaving in INTERLEAVINGS:
            try:
                interleaving()
            except Violation as violation:
                return law_of(violation), interleaving.__name__
            except AssertionError:
                continue  # without the rule its story goes otherwise
        for seed in count():
            if time.process_time() - began_s > cpu_s_max:
                break
            (trial,) = trials(seed, 1, None, None)
            trial = trial._replace(corrupt=breakage.corrupt)
            if (found := play(trial, Counter())) is not None:
                return law_of(found), str(trial)
    return None, ""


def law_of(violation: Violation) -> str:
    return str(violation).partition(":")[0]
