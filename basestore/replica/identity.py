"""Identity: whether this node's store may be trusted to hold what it once acknowledged.

    from       to          when
    (none)     newborn     it is made, where there was none
    newborn    whole       all other members have said that they knew no earlier store of this one, and held
                           nothing before they knew it; those that are dead nobody waits for
    newborn    forgetful   one of them says otherwise
    any        forgetful   it may have lost something: its log was cut, it was rolled back, it lies elsewhere
                           than it was written, it was not closed cleanly though it is synced once an interval
                           only, or an operator says that it may be an old copy
    forgetful  whole       it has recovered (`anti_entropy/recovery.py`), or an operator takes it as it is

A whole store *counts* once a peer, if there is any, has found nothing missing since it was opened, and one
remembers this opening durably: then it answers reads, counts for levels and takes writes. A forgetful one
compares itself with others, to recover; all others wait. That a replica which lost its state must not vote
before it has recovered is the rule of Viewstamped Replication (Liskov and Cowling, "Viewstamped replication
revisited", 2012, section 4.3).

How a loss is noticed that the disk itself does not show: every opening of a store draws a new
*generation*; peers remember, durably, the store, generation and sequence that they heard last, and say so
when a link is made. A peer that remembers a generation that the store does not know, or more than the
store held at that generation's end, remembers what the store has lost. The store itself compares, for it
knows all its generations; the peer keeps its memory until the store has confirmed:

    n1                                       n2
    StoreClaim(store, generation, ...)   ->    what do I remember of n1?
    what do I hold?                    <-    Remembered(store, generation, sequence, earlier)
    Confirmed(store, generation, ...)  ->    this is remembered instead
    this is remembered               <-    Remembered(store, generation, ...), once that is durable

Only then does n2 count on n1, and n1 itself: what it took before could be gone with nobody who knows of it.
Except for hints, which any opening keeps: so n2 writes down each that it hears of, though it is not confirmed
yet, and asks for those too, with a sequence of 0 (`cluster/peer_memory.py`).

    n1 opens S, generation A; its durable sequence comes to 70         n2 remembers (S, A, 70)
    n1 is given a backup of its disk, of when the sequence was 40, and opens it with generation B
    n1 says (S, B, 40); n2 answers (S, A, 70)                          A ended at 40 here, and 70 > 40:
    n1 is forgetful, under a new store id T; the links are made anew   what was proven with S is void

Reads no clock and knows no links: who has said what is told to it; time and randomness are arguments.
"""

import enum
from typing import NamedTuple

import cbor2

from basestore.cluster.outbox import Outbox
from basestore.cluster.peer_memory import STORES_MAX, PeerMemory
from basestore.config import NodeConfig
from basestore.errors import StorageError
from basestore.instant import Instant
from basestore.protocol.heartbeats import Confirmed, Remembered, StoreClaim
from basestore.repair.write_repair import STORE_BYTES
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace

IDENTITY = keyspace.fact("identity")
GENERATIONS_MAX = 10_000
UNCLEAN = "the node was not stopped cleanly under durability interval"
COPIED = "it does not lie where it was written, so it may be an old copy"
PERSIST_S, RIDE_S = 0.9, 0.8  # nodes at rest are ticked every 0.45 s


class State(enum.Enum):
    NEWBORN = "newborn"
    WHOLE = "whole"
    FORGETFUL = "forgetful"


class Place(NamedTuple):
    """A file of a store's directory, by which the store knows whether it lies where it was written."""

    inode: int
    born_ns: int
    file_system: int

    def moved(self, other: "Place") -> bool:
        """Whether the two differ in the file system's id alone: the same disk may be mounted anew."""
        return self[:2] == other[:2]


class Fresh(NamedTuple):
    """What is given to one opening of a store: randomness, as 16 and 8 bytes and a number; and of its
    directory the files of earlier openings, this one's (None: it made none), and how many batches the store
    has held."""

    store: bytes
    generation: bytes
    incarnation: int
    found: frozenset[Place] = frozenset()
    place: Place | None = None
    held: int = 0


class StoreIdentity:
    """The store's identity and state, and what is remembered of the peers' stores."""

    def __init__(
        self, group_commit: GroupCommit, config: NodeConfig, fresh: Fresh, now: Instant,
        joining: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """Open: decide the state by what the store says of itself, and stage the new generation, which is
        synced before the first message leaves. `joining`: of these only those met before are waited for."""
        rows = [(keyspace.peer_of(key), stored) for key, stored in group_commit.scan(*keyspace.peers())]
        heard = {name: group_commit.get(keyspace.heard(name)) for name, _ in rows}
        self._peers = {name: PeerMemory.decode(stored, heard[name]) for name, stored in rows}
        unmet = joining - self._peers.keys()  # no store of theirs can have been told anything of this one
        self._others = set(config.cluster.names.values()) - {config.name} - unmet
        self._group_commit, self._config = group_commit, config
        self._persist_due_s = now.monotonic + PERSIST_S
        self.dead = frozenset[str]()  # a majority of voters has decided so, of which one at least is asked
        self._strangers: set[str] = set()  # who has said that it knew no earlier store of this member
        self._witnesses: set[str] = set()  # who remembers an earlier opening, and the store holds that
        self._echoes: set[str] = set()  # who knows no more than this opening told it, or may have forgotten
        self.birth = 0  # of what was written up to this stamp nothing is known here (`anti_entropy/birth.py`)
        self.doubts = self.changes = 0  # how often it was doubted; how often a member came to another store
        # A peer has found nothing missing since the store was opened; one remembers this opening, durably.
        self.vouched = self._noted = not self._others
        self.outlived = False  # it is an old copy: others have since known a later store of this member
        self.recovered = self.retired = False  # what makes it whole is staged; its member has left
        self.reason, self.copied = "", False  # forgetful only because it lies elsewhere than it was written
        self._moved, self._place = False, fresh.place  # the file system's id alone has changed; where it lies
        self.former = b""  # the stores that it was, and may lack something of: what peers remember counts
        self._unwritten: set[str] = set()
        stored = group_commit.get(IDENTITY)
        if stored is None:
            self.store, self.state, self._generations = fresh.store, State.NEWBORN, dict[bytes, int]()
        else:
            self._reopen(stored, fresh)
        self._generations[fresh.generation] = -1
        # For a peer that was away for more openings than that the store starts over, as if rolled back.
        while len(self._generations) > GENERATIONS_MAX:
            del self._generations[next(iter(self._generations))]
        if self.state is State.NEWBORN and (loss := self._lost(fresh)):
            self._doubt(loss, fresh.store)  # perhaps not even its identity is left
        elif self.state is State.NEWBORN and not self._others:
            self.state = State.WHOLE
        self._stage(self.state, clean=False)

    def _reopen(self, stored: bytes, fresh: Fresh) -> None:
        try:
            self.store, state, syncs, clean, generations, self.outlived, *place = cbor2.loads(stored)
            self.copied, self._moved, held, self.former = place
            self.state, held = State(state), Place(*held) if held else None
            self._generations = dict(generations)
        except (cbor2.CBORError, ValueError, TypeError) as error:
            raise StorageError(
                f"the store in {self._config.directory} is damaged: its identity cannot be read. Start the "
                f"node once with `basestore serve --config FILE --salvage`"
            ) from error
        # A crash leaves no time to write down where a generation ended: it is what the store holds now.
        last = next(reversed(self._generations))
        if self._generations[last] < 0:
            self._generations[last] = self._group_commit.sequence
        if self.state is State.FORGETFUL:
            self.reason = COPIED if self.copied else "it had not recovered yet when it was stopped"
        if loss := self._lost(fresh):
            self._doubt(loss, fresh.store)
        elif self._config.forgetful:
            self._doubt("an operator has said that it may be an old copy", fresh.store)
        elif (unsynced := syncs == "interval" and not clean) or self.state is not State.NEWBORN:
            self._judge_place(held, fresh, clean, unsynced)  # a newborn one asks all others anyway

    def _lost(self, fresh: Fresh) -> str:
        """What can be told of the store alone to be missing, in words."""
        left, loss = self._group_commit.sequence, self._group_commit.engine.loss
        if not loss and fresh.held > left:  # the engine knows more of why
            loss = f"its log was cut, or is gone: of {fresh.held} batches that it held {left} are left"
        return loss

    def _judge_place(self, held: Place | None, fresh: Fresh, clean: bool, unsynced: bool) -> None:
        """Whether this is the store that was written, or a copy of what it was once. `unsynced`: the end of
        what was written may be gone; what was synced it has, as far as no peer remembers more."""
        there = held in fresh.found or held is fresh.place is None  # or it has no directory
        self._place = (fresh.place or held) if there else self._place
        if there and unsynced and not (self.copied or self._moved):
            self._doubt(UNCLEAN, fresh.store, follows=True)
        elif not there and clean and self._others and held and any(map(held.moved, fresh.found)):
            # A reboot may have done that, or a copy of the whole file system: what all others remember of the
            # store decides, for where it ended is known exactly.
            self._moved = True
        elif unsynced or not there:
            self._take_for_copy(fresh.store)

    def _take_for_copy(self, store: bytes) -> None:
        self._doubt(COPIED, store, follows=True, copied=self.copied or self.state is State.WHOLE)

    def _stage(self, state: State, *, clean: bool, recovered: bool = False) -> None:
        facts = [
            self.store, state.value, self._config.syncs, clean, list(self._generations.items()),
            self.outlived and state is not State.WHOLE, self.copied and state is not State.WHOLE,
            self._moved and not self.vouched, self._place, b"" if recovered else self.former,
        ]  # fmt: skip
        self._group_commit.stage(IDENTITY, cbor2.dumps(facts))

    def _doubt(self, reason: str, store: bytes, *, follows: bool = False, copied: bool = False) -> None:
        former = (self.former + self.store)[-STORES_MAX * STORE_BYTES :] if follows else b""
        self._noted &= store == self.store or not self._others
        self.store, self.state, self.reason = store, State.FORGETFUL, reason
        self.former, self.copied, self._moved, self.recovered = former, copied, False, False
        self.doubts, self.changes = self.doubts + 1, self.changes + 1
        self._stage(self.state, clean=False)

    @property
    def counts(self) -> bool:
        """Whether it is whole, and of the peers, if there are any, one has found nothing missing since it was
        opened, and one remembers this opening. That of a member that has left never does."""
        return self.state is State.WHOLE and self.vouched and self._noted and not self.retired

    def store_of(self, name: str) -> bytes:
        """The store that a member is known to run on; empty when none is known."""
        return self._peers[name].store if name in self._peers else b""

    def claim(self, *, again: bool = False) -> StoreClaim:
        """What to say first on a new link."""
        held = self._group_commit.generation, self._group_commit.durable_sequence
        return StoreClaim(self.store, *held, self.counts, again, self.former, self.takeable)

    def hear_claim(self, outbox: Outbox, name: str, said: StoreClaim) -> bool:
        """A peer says which store it runs on: answer what is remembered of it, once that is durable.
        Returns whether it can be counted on then: a store that is known by an earlier opening must first
        confirm that it still holds what is remembered, and only then is anything newer remembered."""
        known = self._peers.get(name)
        # Kept until the store has confirmed it: else nobody would ask what it lost between the two openings.
        if known is not None and known.store == said.store:
            for heard in known.heard:  # first: what is confirmed takes their place
                if heard != said.generation:
                    self._answer(outbox, name, known._replace(generation=heard, sequence=0))
            self._answer(outbox, name, known)
            self._hear_of(name, known.opened(said.generation))
            return known.generation == said.generation
        if known is not None and said.store in known.given_up:
            # no generation of its own: it cannot know this one, and so learns that it was rolled back
            self._answer(outbox, name, known._replace(store=said.store, generation=b"", sequence=0))
            return False
        new = PeerMemory(said.store, said.generation, said.sequence, [], self.state is not State.NEWBORN)
        memory = new if known is None else known.followed(said)
        self._remember(name, memory)
        self._answer(outbox, name, memory)
        return memory.generation == said.generation

    def _answer(self, outbox: Outbox, name: str, known: PeerMemory) -> None:
        forgetful, earlier = self.state is State.FORGETFUL, bool(known.given_up) or known.late
        answer = Remembered(known.store, known.generation, known.sequence, earlier, forgetful)
        self._group_commit.reply(outbox, answer, keyspace.peer(name), surely=True)

    def _remember(self, name: str, memory: PeerMemory) -> None:
        self.changes += self.store_of(name) != memory.store
        self._hear_of(name, memory)
        self._group_commit.stage(keyspace.peer(name), memory.encode())

    def _hear_of(self, name: str, memory: PeerMemory) -> None:
        """No answer waits for this: what is confirmed is as it was."""
        heard = self._peers[name].heard if name in self._peers else []
        if memory.heard != heard or (heard and memory.store != self._peers[name].store):
            self._group_commit.stage(keyspace.heard(name), memory.encode_heard())
        self._peers[name] = memory

    def hear_confirmed(self, outbox: Outbox, name: str, said: Confirmed) -> bool:
        """A peer holds what is remembered of it: remember its present opening instead, and say so once that
        is durable. False when it speaks of another store."""
        known = self._peers.get(name)
        if known is None or known.store != said.store:
            return False
        if known.generation != said.generation:
            self._remember(name, known.confirmed(said))
        self._answer(outbox, name, self._peers[name])
        return True

    def forget(self, name: str) -> None:
        """A member has left: nobody waits for its word, and of who comes under its name nothing is known."""
        for names in (self._others, self._strangers, self._witnesses, self._echoes, self._unwritten):
            names.discard(name)
        if self._peers.pop(name, None) is not None:
            self.changes += 1
            self._group_commit.stage(keyspace.peer(name), None)
            self._group_commit.stage(keyspace.heard(name), None)

    def remembers(self, name: str, store: bytes, generation: bytes) -> bool:
        """Whether this opening of a peer's store is the one that is remembered."""
        return name in self._peers and self._peers[name][:2] == (store, generation)

    def hear_sequence(self, name: str, generation: bytes, sequence: int) -> None:
        """A peer has told how much it holds durably; `tick` writes it down."""
        # In memory at once, on disk once a second: a restart of this node forgets up to a second of it.
        known = self._peers.get(name)
        if known is not None and known.generation == generation and sequence > known.sequence:
            self._peers[name] = known._replace(sequence=sequence)
            self._unwritten.add(name)

    def tick(self, now: Instant) -> None:
        """Once a second, or beside what is stored anyway, stage what was heard of the peers' sequences."""
        if now.monotonic < self._persist_due_s - (RIDE_S if self._group_commit.rows else 0.0):
            return
        self._persist_due_s = now.monotonic + PERSIST_S
        for name in self._unwritten:
            self._remember(name, self._peers[name])
        self._unwritten.clear()

    def hear_remembered(self, outbox: Outbox, name: str, said: Remembered, fresh_store: bytes) -> bool:
        """A peer tells what it remembers of this store: confirm it. False when this store has lost
        something, or nobody is left who could say that it has not: it has then started over under
        `fresh_store`, and all links must be made anew."""
        if said.store != self.store:
            return True  # an answer to an identity that is no longer ours
        # The peer was told durable sequences only, so a sound store holds at least as much, whatever it
        # lost of the rest. Of the present generation (below 0) there is no end yet.
        end = self._generations.get(said.generation)
        if not said.generation:
            self.outlived = True
        if end is None or said.sequence > (self._group_commit.sequence if end < 0 else end):
            self._doubt(f"{name} remembers more than the store holds: it was rolled back", fresh_store)
            return False
        if said.generation != self._group_commit.generation and not said.sequence:
            return True  # it has only heard of that opening, and cannot say how much was held then
        if self.state is State.NEWBORN:
            if said.earlier:
                self._doubt(f"{name} knew an earlier store of this node, or held data before it", self.store)
            else:
                self._strangers.add(name)
        # One that knows no more than was just said to it, or may have forgotten, vouches only if all do.
        witness = said.generation != self._group_commit.generation and not said.forgetful
        (self._witnesses if witness else self._echoes).add(name)
        if not self._moved:
            self.vouched |= witness or self._echoes >= self._others
        elif self._witnesses >= self._others:
            self._settle_moved()
        elif self._witnesses | self._echoes >= self._others:  # some cannot know, and never will
            self._take_for_copy(fresh_store)
            return False
        commit = self._group_commit
        if said.generation == commit.generation:
            self._noted = True
        else:
            outbox.put(Confirmed(self.store, commit.generation, commit.durable_sequence))
        return True

    def rolled_back(self, name: str, fresh_store: bytes) -> None:
        """A peer has proof of what this store does not hold any more: start over under `fresh_store`."""
        self._doubt(f"{name} has compared more with it than the store holds: it was rolled back", fresh_store)

    @property
    def waits_for(self) -> str:
        """Why a store that is not forgetful does not count yet, in words."""
        if self.state is State.NEWBORN:
            names = ", ".join(sorted(self._others - self._strangers - self.dead)) or "all, clocks compared,"
            return f"a new store; {names} must first say that they knew no earlier one"
        if self._moved:
            names = ", ".join(sorted(self._others - self._witnesses))
            return f"its file system has another id than before; {names} must first say what they remember"
        if not self.vouched:
            return "no other node has yet confirmed that nothing is missing"
        return "no other node has it on its disk yet that this one was opened anew"

    def born(self) -> bool:
        """Whether this newborn store is whole by now: all others that live have said that they knew none."""
        # All: a silent one may keep a store of before this member came. Whoever comes later finds data.
        return self.state is State.NEWBORN and self._others - self.dead <= self._strangers & {*self._peers}

    def make_whole(self, *, recovered: bool = True) -> None:
        """Stage that the store is whole; it counts once that is durable. Not `recovered`: an operator says
        so, and whoever remembers more may still object."""
        doubts = self.doubts

        def become_whole() -> None:
            if self.doubts == doubts:  # none arose since
                self.state, self.reason, self.vouched = State.WHOLE, "", True
                self.outlived, self.copied, self.former = False, False, b"" if recovered else self.former

        self.recovered = True
        self._stage(State.WHOLE, clean=False, recovered=recovered)
        self._group_commit.when_durable(become_whole)

    @property
    def takeable(self) -> bool:
        """Whether an operator may take the store as it is: it lies elsewhere, and nobody knows more."""
        return self.copied or self._moved

    @property
    def unconfirmed(self) -> bool:
        """Whether it waits for others to say that it lacks nothing, of which it knows nothing itself."""
        return self.state is State.WHOLE and not (self.counts or self._moved or self.retired)

    def take_as_is(self) -> None:
        """An operator says that this is the newest there is of the store."""
        if self.copied:
            self.make_whole(recovered=False)
        else:
            self._noted |= self.unconfirmed  # nobody is there who could keep that it was opened anew
            self._settle_moved()

    def _settle_moved(self) -> None:
        """The store lies on the same disk as before."""
        self.vouched, self._moved = True, False
        self._stage(self.state, clean=False)

    def close(self) -> None:
        """Stage that the store was closed cleanly."""
        self._stage(self.state, clean=True)
