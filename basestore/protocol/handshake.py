"""The handshake: the first words of whoever connects, and the answer."""

from typing import NamedTuple

from basestore.protocol.limits import ProtocolError
from repair.rule import Rule


class Hello(NamedTuple):
    """First words of whoever connects. A client leaves `sender` empty, and may leave the cluster's
    id and the configuration's digest empty: it then takes what it finds."""

    protocol: int
    cluster: bytes
    digest: bytes
    sender: str


class Welcome(NamedTuple):
    """The answer. `members` alternates names and addresses, in the order that receipts count;
    `buckets` alternates their names and conflict rules."""

    protocol: int
    cluster: bytes
    sender: str
    members: list[str]
    buckets: list[str]

    @property
    def rules(self) -> dict[str, Rule]:
        """The rule of each bucket; ProtocolError when one is not known."""
        try:
            return dict(zip(self.buckets[::2], map(Rule, self.buckets[1::2]), strict=True))
        except ValueError as error:
            raise ProtocolError(f"its buckets make no sense: {error}") from None


class Refused(NamedTuple):
    """The connection is not wanted, and why. To a node whose configuration differs, the canonical
    text of the refuser's own comes along."""

    reason: str
    configuration: str


class Differs(NamedTuple):
    """The refused node's configuration in return, so that both sides can say what differs."""

    configuration: str


def welcomed(answer: object) -> Welcome:
    """The answer to a hello, if it is a welcome that makes sense; ProtocolError."""
    if isinstance(answer, Refused):
        raise ProtocolError(answer.reason)
    if not isinstance(answer, Welcome) or len(answer.members) % 2 or not answer.rules:
        raise ProtocolError("it does not answer a hello with a welcome")
    return answer
