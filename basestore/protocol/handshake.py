"""The handshake: the first words of whoever connects, and what is answered. Pure: the server sends and
receives, what is decided is decided here.

    who connects          who accepts
    Hello           ->
                    <-    Welcome             the connection is open
                    <-    Refused             it is closed; a node whose configuration differs first says
    Differs         ->                        its own, so that both logs can name what differs
                    <-    Goodbye             much later: who accepted is about to end (members: either)

A client may leave out which cluster and configuration it means, and takes what it finds. A node may not:
two nodes that disagree on the members, say, would place records differently and each believe the other to
hold what it does not. Between two nodes there is one connection, which one fixed side of them opens.

Who connects is believed: nothing here proves a name. The network that nodes use must be a trusted one.
"""

import json
from collections.abc import Iterable, Set
from typing import NamedTuple

from basestore.protocol.limits import PROTOCOL, TIMEOUT_MS_MAX, ProtocolError
from basestore.protocol.registry import ANYTHING, message
from basestore.repair.rule import Rule

NAME_CHARACTERS_SHOWN = 64
RULES = frozenset(rule.value for rule in Rule)


@message(1, unchecked=ANYTHING)
class Hello(NamedTuple):
    """First words of whoever connects. A client leaves `sender` empty, and may leave the cluster's
    id and the configuration's digest empty: it then takes what it finds."""

    protocol: int
    cluster: bytes
    digest: bytes
    sender: str


class MemberRow(NamedTuple):
    """A member of the cluster. All other messages say only its number."""

    number: int
    name: str
    address: str


class Names(dict[int, str]):
    """The names of the members of a cluster by number, which is how answers speak of them; and its id."""

    def __init__(self, names: Iterable[tuple[int, str]] = (), cluster: bytes = b"") -> None:
        super().__init__(names)
        self.cluster = cluster


class BucketRow(NamedTuple):
    """A bucket and its conflict rule."""

    name: str
    rule: str


@message(2)
class Welcome(NamedTuple):
    """The answer: who this is, and what a client needs to know of the cluster. `timeout_ms_max`: a request
    that asks for more time than this is refused."""

    protocol: int
    cluster: bytes
    sender: str
    timeout_ms_max: int
    members: list[MemberRow]
    buckets: list[BucketRow]

    @property
    def rules(self) -> dict[str, Rule]:
        """The rule of each bucket."""
        return {bucket.name: Rule(bucket.rule) for bucket in self.buckets}

    @property
    def names(self) -> Names:
        return Names(((member.number, member.name) for member in self.members), self.cluster)

    def check(self) -> str:
        if not all(bucket.rule in RULES for bucket in self.buckets):
            return "names a rule that is not known here"
        return "" if 0 < self.timeout_ms_max <= TIMEOUT_MS_MAX else "names no timeout"


@message(3, unchecked=ANYTHING)
class Refused(NamedTuple):
    """The connection is not wanted, and why. To a node whose configuration differs, the canonical
    text of the refuser's own comes along."""

    reason: str
    configuration: str


@message(4, unchecked=ANYTHING)
class Differs(NamedTuple):
    """The refused node's configuration in return, so that both sides can say what differs."""

    configuration: str


@message(5, unchecked=ANYTHING)
class Goodbye(NamedTuple):
    """This node is about to end, and why. What was asked before is answered, as far as that takes little
    time; what is asked later is refused. A client asks another node from now on, and closes the connection
    when it has its answers; a member counts this node as gone, and hears it out."""

    reason: str


def welcomed(answer: object) -> Welcome:
    """The answer to a hello, if it is a welcome; ProtocolError."""
    if isinstance(answer, Refused):
        raise ProtocolError(answer.reason)
    if not isinstance(answer, Welcome):
        raise ProtocolError("it does not answer a hello with a welcome")
    return answer


class Facts(NamedTuple):
    """What one side knows of itself and its cluster. `welcome`: what it says to whom it lets in;
    `configuration`: the canonical text, of which `digest` is the digest; `diallers`: the names of the
    members that open the connection to this one."""

    welcome: Welcome
    digest: bytes
    configuration: str
    diallers: Set[str]


class Answer(NamedTuple):
    """What who accepts answers to a hello. `sender`: the name of the node that it is, empty for a client.
    `refusal`: why the connection is closed after the reply, empty if it is not. `differs`: what comes back
    may be the other side's configuration, and is worth hearing."""

    reply: Welcome | Refused
    sender: str
    refusal: str = ""
    differs: bool = False


def hello(own: Facts) -> Hello:
    """The first words of a node."""
    return Hello(PROTOCOL, own.welcome.cluster, own.digest, own.welcome.sender)


def answer(heard: object, own: Facts) -> Answer:
    """Whether who says this first is let in. What hinders most comes first: another version may mean
    something else by the fields that follow."""
    if not isinstance(heard, Hello):
        return _refuse("", "the first message must be a hello")
    node, cluster, ours = bool(heard.sender), heard.cluster, own.welcome.cluster
    if heard.protocol != PROTOCOL:
        reason = f"protocol version {heard.protocol} is not spoken here, only {PROTOCOL}; upgrade"
        return _refuse(heard.sender, reason)
    # A client that names no cluster takes what it finds; a node that names none is refused.
    if cluster != ours and (node or cluster):
        reason = f"this is a node of cluster {ours.hex()}, not of {cluster.hex()}"
        return _refuse(heard.sender, reason)
    if heard.digest != own.digest and (node or heard.digest):
        reason = "the cluster configurations differ"
        return Answer(Refused(reason, own.configuration if node else ""), heard.sender, reason, differs=node)
    if node and heard.sender not in own.diallers:
        if heard.sender not in own.welcome.names.values():
            return _refuse(heard.sender, f"{heard.sender!r} is not a member")
        reason = f"{own.welcome.sender} opens the connection to it, and has not yet: check its address"
        return _refuse(heard.sender, reason)
    return Answer(own.welcome, heard.sender)


def refused(reason: str) -> Answer:
    """The answer to a client that is not let in although its hello is in order."""
    return _refuse("", reason)


def _refuse(sender: str, reason: str) -> Answer:
    shown = f"{sender[:NAME_CHARACTERS_SHOWN]} was refused: {reason}" if sender else reason
    return Answer(Refused(reason, ""), sender, shown)


def judge(heard: object, own: Facts, peer: str) -> tuple[Differs | None, str]:
    """What a node makes of the answer to its hello, which it meant for `peer`: what it still says to it, and
    why it then closes the connection, empty if all is well."""
    if isinstance(heard, Refused) and heard.configuration:
        return Differs(own.configuration), difference(own, peer, heard.configuration)
    if isinstance(heard, Refused):
        return None, f"{peer} refuses: {heard.reason}"
    if isinstance(heard, Welcome) and heard.sender == peer:
        return None, ""
    return None, f"who answers at {peer}'s address is not {peer}; check the addresses"


def difference(own: Facts, peer: str, theirs: str) -> str:
    """For the log: what two nodes' configurations disagree on."""
    listed = "; ".join(differences(own.configuration, theirs))
    return f"{peer} has another cluster configuration: {listed}. Make both files agree and restart"


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
