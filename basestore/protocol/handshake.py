"""The handshake: the first words of whoever connects, and the answer."""

from typing import NamedTuple


class Hello(NamedTuple):
    """First words of whoever connects. A client leaves `sender` empty, and may leave the cluster's
    id and the configuration's digest empty: it then takes what it finds."""

    protocol: int
    cluster: bytes
    digest: bytes
    sender: str


class Welcome(NamedTuple):
    """The answer. `members` alternates names and addresses, in the order that receipts count;
    `first_write` names the buckets in which the first write wins."""

    protocol: int
    cluster: bytes
    sender: str
    members: list[str]
    first_write: list[str]


class Refused(NamedTuple):
    """The connection is not wanted, and why. To a node whose configuration differs, the canonical
    text of the refuser's own comes along."""

    reason: str
    configuration: str


class Differs(NamedTuple):
    """The refused node's configuration in return, so that both sides can say what differs."""

    configuration: str
