"""Stage: a few Raft objects, and a script that says what happens to them, word by word.

    found 1 2 3             these are the voters (`learner 4` adds one that is none)
    wait 2.5                so much time passes; nobody does anything by it
    tick 1                  this one looks at its clock
    elect 1                 time passes until 1 stands, and all is delivered
    deliver [1->2]          messages, and those that come of them; without a link: all
    drop [1->2]             they are lost
    cut 1 2 / heal          whatever these two say to each other is lost / nothing is any more
    hold 1 / sync 1         the disk of 1 takes its time / and has done it
    crash 1                 it starts anew, without what was held
    propose 1 x             and change 1 +4, feed 1 4, read 1, lease 1, compact 1 5, tell 1->2 3 (from 3 on),
                            give 1->2 (its snapshot), show

What is said and stored stands under each command; a message is said when it leaves, and delivered later.
"""

from collections.abc import Callable

from basestore.consensus.log import Entry, Kind, Snapshot
from basestore.consensus.messages import Append, Appended, EntryRow, Granted, Install, RaftMessage, Stand
from basestore.consensus.output import Output, Stored
from basestore.consensus.raft import Raft
from basestore.consensus.voters import Voter, Voters, decode_voters

TURNS_MAX = 200


def voter(number: int, store: int = 0) -> Voter:
    return Voter(number, (store or number).to_bytes(16))


def _names(voters: Voters) -> str:
    return "{" + " ".join(str(each.number) for each in sorted(voters)) + "}"


def _entry(entry: EntryRow | Entry) -> str:
    if entry.kind == Kind.CHANGE:
        return f"{entry.term}:{_names(decode_voters(entry.data))}"
    return f"{entry.term}:{entry.data.decode() or '-'}"


def _words(said: RaftMessage) -> str:
    if isinstance(said, Stand):
        ask = "would you vote" if said.pre else "vote"
        return f"{ask} for me in {said.term}, my log ends with {said.last} of {said.last_term}"
    if isinstance(said, Granted):
        word = "yes" if said.yes else "no"
        return f"{word}, in {said.term}{', I would' if said.pre and said.yes else ''}"
    if isinstance(said, Append):
        entries = " ".join(map(_entry, said.entries))
        return (
            f"in {said.term} after {said.prev} of {said.prev_term}: [{entries}] "
            f"decided {said.commit}, round {said.round}"
        )
    if isinstance(said, Install):
        return (
            f"in {said.term} all up to {said.last} of {said.snapshot_term} in one, "
            f"voters {_names(decode_voters(said.voters))}, round {said.round}"
        )
    assert isinstance(said, Appended)
    return f"in {said.term} {'held' if said.ok else 'no, try'} {said.held}, round {said.round}"


class Stage:
    """`lines`: what has come of the last command."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rafts: dict[int, Raft] = {}
        self.lines: list[str] = []
        self.links: list[tuple[int, int, RaftMessage]] = []  # on their way
        self._cut: set[frozenset[int]] = set()
        self._held: dict[int, list[Output]] = {}
        self._disks: dict[int, Stored] = {}
        self.answers: dict[tuple[int, int], int] = {}  # by who was asked, and the ticket
        self._commands: dict[str, Callable[..., None]] = {
            name: getattr(self, name)
            for name in (
                "found", "learner", "wait", "tick", "elect", "deliver", "drop", "cut", "heal", "hold", "sync",
                "crash", "propose", "change", "feed", "read", "lease", "compact", "tell", "give", "show",
            )
        }  # fmt: skip

    def do(self, script: str) -> list[str]:
        """The commands, one a line; what came of the last."""
        for command in filter(None, map(str.strip, script.split("\n"))):
            name, *words = command.split()
            self.lines = []
            self._commands[name](*words)
        return self.lines

    # --- commands --------------------------------------------------------------------------------

    def found(self, *numbers: str) -> None:
        base = Snapshot(0, 0, frozenset(voter(int(number)) for number in numbers), b"")
        for number in numbers:
            self._begin(int(number), Stored(0, None, base, [], 0))

    def learner(self, number: str) -> None:
        base = next(iter(self._disks.values())).base
        self._begin(int(number), Stored(0, None, base, [], 0))

    def wait(self, seconds: str) -> None:
        self.now += float(seconds)

    def tick(self, number: str) -> None:
        self.rafts[int(number)].tick(self.now)
        self._settle(int(number))

    def elect(self, number: str) -> None:
        self.now += 5.0
        self.tick(number)
        self.deliver()

    def deliver(self, link: str = "") -> None:
        for _ in range(TURNS_MAX):
            said = next((each for each in self.links if not link or link == f"{each[0]}->{each[1]}"), None)
            if said is None:
                return
            self.links.remove(said)
            source, target, message = said
            if frozenset((source, target)) not in self._cut and target in self.rafts:
                self.rafts[target].hear(voter(source), message, self.now)
                self._settle(target)
        raise AssertionError("they talk without end")

    def drop(self, link: str = "") -> None:
        self.links = [each for each in self.links if link and link != f"{each[0]}->{each[1]}"]

    def cut(self, one: str, other: str) -> None:
        self._cut.add(frozenset((int(one), int(other))))

    def heal(self) -> None:
        self._cut = set()

    def hold(self, number: str) -> None:
        self._held[int(number)] = []

    def sync(self, number: str) -> None:
        for output in self._held.pop(int(number)):
            self._store(int(number), output)
        self._settle(int(number))

    def crash(self, number: str) -> None:
        self._held.pop(int(number), None)
        self._begin(int(number), self._disks[int(number)])

    def propose(self, number: str, data: str) -> None:
        index = self.rafts[int(number)].propose(data.encode())
        self.lines.append("  refused" if index is None else f"  at {index}")
        self._settle(int(number))

    def change(self, number: str, what: str) -> None:
        raft = self.rafts[int(number)]
        others = {voter(int(each)) for each in what.replace("-", "+").split("+") if each}
        index = raft.change(raft.voters ^ others, self.now)
        self.lines.append("  refused" if index is None else f"  at {index}")
        self._settle(int(number))

    def feed(self, number: str, *learners: str) -> None:
        self.rafts[int(number)].feed([voter(int(each)) for each in learners], self.now)
        self._settle(int(number))

    def read(self, number: str, *, lease: bool = False) -> None:
        ticket = self.rafts[int(number)].read(self.now, lease=lease)
        self.lines.append("  refused" if ticket is None else f"  as read {ticket}")
        self._settle(int(number))

    def lease(self, number: str) -> None:
        self.read(number, lease=True)

    def compact(self, number: str, index: str) -> None:
        raft = self.rafts[int(number)]
        raft.compact(int(index), b"")
        stored = self._disks[int(number)]
        kept = stored.entries[int(index) - stored.base.last :]
        self._disks[int(number)] = stored._replace(base=raft.log.base, entries=kept)

    def tell(self, link: str, first: str, last: str = "") -> None:
        """What one knows to be decided, from an index on, perhaps to another."""
        source, target = map(int, link.split("->"))
        raft = self.rafts[source]
        entries = [raft.log.entry(at) for at in range(int(first), int(last or raft.commit) + 1)]
        self.rafts[target].decide(int(first), entries, self.now)
        self._settle(target)

    def give(self, link: str) -> None:
        source, target = map(int, link.split("->"))
        self.rafts[target].install(self.rafts[source].log.base, self.now)
        self._settle(target)

    def show(self) -> None:
        for number, raft in sorted(self.rafts.items()):
            base = raft.log.base.last
            entries = [_entry(raft.log.entry(index)) for index in range(base + 1, raft.log.last + 1)]
            log = " ".join([f"(up to {base})", *entries] if base else entries)
            self.lines.append(
                f"  {number} {raft.role.value} in {raft.term}, decided {raft.commit}: {log}; "
                f"voters {_names(raft.voters)}"
            )

    # --- the host --------------------------------------------------------------------------------

    def _begin(self, number: int, stored: Stored) -> None:
        self._disks[number] = stored
        self.rafts[number] = Raft(voter(number), stored, self.now, lambda: number / 10)

    def _settle(self, number: int) -> None:
        """Take what has come of something, until nothing does."""
        while (output := self.rafts[number].take(self.now)) is not None:
            self._say(number, output.messages)
            for ticket, index in output.reads:
                self.answers[number, ticket] = index
                self.lines.append(f"  {number} answers read {ticket} at {index}")
            if output.stores or output.promises:
                if number in self._held:
                    self._held[number].append(output)
                else:
                    self._store(number, output)

    def _store(self, number: int, output: Output) -> None:
        term, vote, base, entries, commit = self._disks[number]
        entries = list(entries)
        if output.cut:
            del entries[max(0, output.cut - base.last - 1) :]
            self.lines.append(f"  {number} cuts from {output.cut} on")
        if output.snapshot is not None:
            base, entries = output.snapshot, []
            self.lines.append(f"  {number} stores all up to {base.last}")
        if output.voted:
            term, vote = output.mark.term, output.mark.vote
            whom = f", vote for {vote.number}" if vote is not None else ""
            self.lines.append(f"  {number} stores term {term}{whom}")
        if output.entries:
            assert output.first == base.last + len(entries) + 1
            entries += output.entries
            self.lines.append(
                f"  {number} stores from {output.first} on: {' '.join(map(_entry, output.entries))}"
            )
        self._disks[number] = Stored(term, vote, base, entries, min(commit, base.last + len(entries)))
        self._say(number, output.promises)
        self.rafts[number].durable(output.mark, self.now)

    def _say(self, number: int, messages: list[tuple[Voter, RaftMessage]]) -> None:
        for target, message in sorted(messages, key=lambda each: each[0]):
            assert not message.check()
            self.lines.append(f"  {number} -> {target.number}  {_words(message)}")
            self.links.append((number, target.number, message))
