"""The handshake: the first words of whoever connects, and what is answered. Pure: the server sends and
receives. What a client is answered is decided here, what a node is answered in `proof.py`.

    a client connects          a node accepts
    Hello                 ->
                          <-   Welcome          the connection is open
                          <-   Refused          it is closed

    a node connects            a node accepts
    Hello                 ->                    who it says it is, and a nonce
                          <-   Challenge        who this is, another nonce, and proof that it holds the key
    Proof                 ->                    such a proof in return, and now what only a member is told:
                                                the digest of the configuration, and its own address
                          <-   Welcome          the connection is open
                          <-   Refused          it is closed; if the configurations differ, this one comes
    Differs               ->                    along, and the other in return, so that both logs can name
                                                what differs
                          <-   Goodbye          much later: who accepted is about to end (members: either)

What is proven to whom: two nodes prove to each other that they hold the cluster's key, before either tells
anything that only members know. A client proves nothing and is proven nothing: it learns who the members are
and where, and may name the cluster that it means. Whoever can read or change what is sent between two nodes
can do so after the proof too: against that the network must be a trusted one.

Both sides say which versions of the protocol they speak, and the connection speaks the highest that both do.
Two nodes whose configurations differ would place records differently and each believe the other to hold what
it does not: such a connection is refused. Between two nodes there is one, which one fixed side of them opens.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple

from basestore.protocol.limits import (
    ADDRESS_CHARACTERS_MAX,
    SERIAL_SINCE,
    TIMEOUT_MS_MAX,
    WIRE_HIGHEST,
    WIRE_LOWEST,
    WIRE_MAX,
    ProtocolError,
)
from basestore.protocol.registry import ANYTHING, message
from basestore.repair.rule import Rule

NONCE_BYTES: Final = 16
PROOF_BYTES: Final = 32
DIGEST_BYTES: Final = 16
RULES = frozenset(rule.value for rule in Rule)
SERIAL_RULES: Final = frozenset(rule.value for rule in Rule if rule.serial)
BEFORE: Final = "closed the connection at the first word: it may run a release from before 0.2"


class Versions(NamedTuple):
    """The versions of the protocol that somebody speaks, all from the lowest to the highest."""

    lowest: int
    highest: int

    def common(self, other: "Versions") -> int:
        """The highest that both speak; 0 if there is none."""
        highest = min(self.highest, other.highest)
        return highest if highest >= max(self.lowest, other.lowest) else 0

    def __str__(self) -> str:
        return f"{self.lowest}" if self.lowest == self.highest else f"{self.lowest} to {self.highest}"

    def check(self) -> str:
        return "" if 0 < self.lowest <= self.highest <= WIRE_MAX else "names no versions"


@message(1, unchecked=ANYTHING)
class EarlyHello(NamedTuple):
    """What was said first before version 8. Nobody who says it is let in; it is heard so that it can be
    told why."""

    protocol: int
    cluster: bytes
    digest: bytes
    sender: str


@message(6)
class Hello(NamedTuple):
    """First words of whoever connects. A client leaves `sender` and `nonce` empty, and may leave the
    cluster's id empty: it then takes what it finds. A node names itself, and no cluster: it does not know yet
    whom it speaks to."""

    lowest: int
    highest: int
    cluster: bytes
    sender: str
    nonce: bytes

    @property
    def versions(self) -> Versions:
        return Versions(self.lowest, self.highest)

    def check(self) -> str:
        if len(self.nonce) != (NONCE_BYTES if self.sender else 0):
            return "has no nonce of the right length"
        return self.versions.check()


_NUL: Final = "\0"
_REMEMBERED: Final = 4096  # buckets
CLIENT_HELLO: Final = Hello(WIRE_LOWEST, WIRE_HIGHEST, b"", "", b"")


class Meant(NamedTuple):
    """Whom a client means: a cluster, by its id, and a member of it that should be at this address; empty
    where any will do."""

    cluster: bytes = b""
    name: str = ""
    address: str = ""

    @property
    def hello(self) -> Hello:
        return CLIENT_HELLO._replace(cluster=self.cluster)


ANYBODY: Final = Meant()


@message(7)
class Challenge(NamedTuple):
    """The answer to a node: who this is, and the proof that it holds the key; the other is to prove the
    same, over this nonce as well."""

    lowest: int
    highest: int
    sender: str
    nonce: bytes
    proof: bytes

    @property
    def versions(self) -> Versions:
        return Versions(self.lowest, self.highest)

    def check(self) -> str:
        if len(self.nonce) != NONCE_BYTES or len(self.proof) != PROOF_BYTES:
            return "has a nonce or a proof of the wrong length"
        return self.versions.check()


@message(8)
class Proof(NamedTuple):
    """The proof in return, and what the proof of the other allows to tell it: the digest of the
    configuration, and the address at which this node can be reached."""

    proof: bytes
    digest: bytes
    address: str

    def check(self) -> str:
        if len(self.proof) != PROOF_BYTES or len(self.digest) != DIGEST_BYTES:
            return "has a proof or a digest of the wrong length"
        return "tells an address that is too long" if len(self.address) > ADDRESS_CHARACTERS_MAX else ""


class MemberRow(NamedTuple):
    """A member of the cluster. All other messages say only its number."""

    number: int
    name: str
    address: str


class Names(dict[int, str]):
    """The names of the members of a cluster by number, which is how answers speak of them; and its id. One
    that has left, or of which another node has told than the one that was asked, may have no name here."""

    def __init__(self, names: Iterable[tuple[int, str]] = (), cluster: bytes = b"") -> None:
        super().__init__(names)
        self.cluster = cluster

    def __missing__(self, number: int) -> str:
        return f"member {number}"


class BucketRow(NamedTuple):
    """A bucket and its conflict rule. One that the cluster was not founded with stands in a list twice: by
    its name, and by the name with its number behind a NUL, for no name has one (`known_as`)."""

    name: str
    rule: str


def known_as(name: str, number: int) -> str:
    """By what a bucket is known for good: made anew under its name, it is known by something else."""
    return f"{name}{_NUL}{number}"


def name_of(known_as: str) -> str:
    return known_as.partition(_NUL)[0]


def number_of(known_as: str) -> int:
    """0 for a bucket that the cluster was founded with."""
    number = known_as.partition(_NUL)[2]
    return int(number) if number.isdecimal() and number.isascii() else 0


class Rules(dict[str, Rule]):
    """The rules of buckets by name, as a node says them; `known_as`: by what else buckets are known, by name,
    that the cluster was not founded with."""

    def __init__(self, rows: Iterable[tuple[str, Rule]] = ()) -> None:
        super().__init__(rows)
        self.known_as = {name_of(name): name for name in self if _NUL in name}


def rows_of_buckets(buckets: Iterable[tuple[str, Rule, int]]) -> list[BucketRow]:
    """As clients are told of them: name, rule, and number, 0 of those that the cluster was founded with."""
    return [row for bucket in sorted(buckets, key=itemgetter(0)) for row in _rows_of(*bucket)]


@lru_cache(maxsize=_REMEMBERED)  # all are told whenever one comes or goes
def _rows_of(name: str, rule: Rule, number: int) -> tuple[BucketRow, ...]:
    row = BucketRow(name, rule.value)
    return (row, BucketRow(known_as(name, number), rule.value)) if number else (row,)


def rules_of(rows: Iterable[BucketRow]) -> Rules:
    """Of those buckets whose rule is known here: a later release may have others."""
    return Rules((row.name, Rule(row.rule)) for row in rows if row.rule in RULES)


def heard_in(rows: list[BucketRow], version: int) -> list[BucketRow]:
    """Of these buckets those whose rules are known to who speaks this version: there was a time when one
    rule that was not known made a connection of no use."""
    return rows if version >= SERIAL_SINCE else [row for row in rows if row.rule not in SERIAL_RULES]


@message(2)
class Welcome(NamedTuple):
    """The answer: the version of the protocol that is spoken from now on, who this is, and what a client
    needs to know of the cluster. `timeout_ms_max`: a request that asks for more time than this is refused.
    The address of a member is the one that it told itself, if it is known."""

    version: int
    cluster: bytes
    sender: str
    timeout_ms_max: int
    members: list[MemberRow]
    buckets: list[BucketRow]

    @property
    def rules(self) -> Rules:
        """The rules of buckets, as far as they are known here."""
        return rules_of(self.buckets)

    def heard_in(self, version: int) -> "Welcome":
        """As it is said to who speaks this version."""
        return self._replace(version=version, buckets=heard_in(self.buckets, version))

    @property
    def names(self) -> Names:
        return Names(((member.number, member.name) for member in self.members), self.cluster)

    def renewed(self, said: "Renewed") -> "Welcome":
        """As it would be said now. A member that is known stays where it is known to be."""
        known = {member.number: member for member in self.members}
        members = [
            member._replace(address=known[member.number].address) if member.number in known else member
            for member in said.members
        ]
        return self._replace(members=members, buckets=said.buckets)

    def check(self) -> str:
        return "" if 0 < self.timeout_ms_max <= TIMEOUT_MS_MAX else "names no timeout"


@message(90, unchecked=ANYTHING, since=10)
class Renewed(NamedTuple):
    """The members, or the buckets, are others than this node has told: as in `Welcome`. What it says behind
    this goes by them, and all that it said before did not."""

    members: list[MemberRow]
    buckets: list[BucketRow]

    def heard_in(self, version: int) -> "Renewed":
        """As it is said to who speaks this version."""
        return self._replace(buckets=heard_in(self.buckets, version))


@message(3, unchecked=ANYTHING)
class Refused(NamedTuple):
    """The connection is not wanted, and why. To a node that has proven itself and whose configuration
    differs, the canonical text of the refuser's own comes along. Who says an `EarlyHello` knows it too."""

    reason: str
    configuration: str


@message(4, unchecked=ANYTHING)
class Differs(NamedTuple):
    """The refused node's configuration in return, so that both sides can say what differs."""

    configuration: str


@message(5, unchecked=ANYTHING)
class Goodbye(NamedTuple):
    """This node is about to end, and why; or, to clients, it has left the cluster. What was asked before is
    answered, as far as that takes little time; what is asked later is refused. A client asks another node
    from now on, and closes the connection when it has its answers; a member counts this node as gone, and
    hears it out."""

    reason: str


def welcomed(answer: object, meant: Meant = ANYBODY) -> Welcome:
    """The answer to a client's hello, if it is a welcome by whom the client means; ProtocolError."""
    said = meant.hello
    if isinstance(answer, Refused):
        raise ProtocolError(answer.reason)
    if not isinstance(answer, Welcome):
        raise ProtocolError("it does not answer a hello with a welcome")
    if not said.lowest <= answer.version <= said.highest:
        raise ProtocolError(f"it speaks version {answer.version} of the protocol, not {said.versions}")
    if meant.name not in ("", answer.sender):
        who = f"who answers at {meant.address} is {answer.sender:.100}"
        raise ProtocolError(f"{who}; correct the address in the file of {meant.name}")
    return answer


def differences(ours: str, theirs: str, here: str = "here", there: str = "there") -> list[str]:
    """What two canonical texts disagree on, a line each: "replication: 3 here, 5 there"."""
    try:
        other = json.loads(theirs)
    except (ValueError, RecursionError):  # whoever connects may say anything
        other = None
    if not isinstance(other, dict):
        return ["the other side's configuration is not readable"]
    mine = json.loads(ours)
    return [
        f"{name}: {mine.get(name, 'absent')} {here}, {other.get(name, 'absent')} {there}"
        for name in sorted(mine.keys() | other.keys())
        if mine.get(name) != other.get(name)
    ]
