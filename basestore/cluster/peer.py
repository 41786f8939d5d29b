"""Peer: what this node knows of one member. `peers.py` owns them all, and is the only one to make and judge
them; what came of a conversation others note here, each what is theirs.
"""

import math
from dataclasses import dataclass, field

from basestore.cluster.failure_detector import FailureDetector, Probation
from basestore.cluster.latency import Latency
from basestore.cluster.outbox import Outbox

PING_S = 0.5
SILENCE_S_MAX = 4.0  # however irregular the peer has been
USUAL_S = 0.1  # how long an answer takes, until more is known


@dataclass(slots=True)
class Peer:
    """One member as seen from here, this node itself included."""

    index: int
    number: int
    name: str
    outbox: Outbox
    linked: bool = False
    # Its store is new to us, or has confirmed all that we remember of it; and we remember it durably.
    introduced: bool = False
    remembered: bool = False  # it told what it remembers of us, and that fits
    noted: bool = False  # and that is the present opening of our store
    whole: bool = False
    wire: int = 0  # the highest version that it speaks; 0 until it says so on this link, and while silent
    level: int = 0  # the feature level that it has told
    takeable: bool = False  # its store may be a copy, and an operator may still take it as it is
    unanswered: tuple[int, float] | None = None  # its last heartbeat, by its clock, and when it came
    base_ms: float = math.inf  # its wall clock minus its monotonic one, when it was last answered at once
    brownout: int = 0  # how much it leaves out, as it said last
    told_epoch: int = 0  # what it says on this link it says as one that goes by this epoch
    leaving: bool = False  # it has said goodbye on this link: it still answers, and is asked nothing new
    gone: bool = False  # it has left the cluster, for good
    farewell_s: float = math.inf  # when its link is to end, for that
    detector: FailureDetector = field(default_factory=lambda: FailureDetector(PING_S, SILENCE_S_MAX))
    probation: Probation = field(default_factory=Probation)
    latency: Latency = field(default_factory=lambda: Latency(USUAL_S))  # of its answers to reads
    scan_latency: Latency = field(default_factory=lambda: Latency(USUAL_S))  # of those to shares of scans
