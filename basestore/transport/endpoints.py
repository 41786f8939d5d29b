"""Endpoints: what is seen of those that do not answer, and how that is told to who wants to reach them.

The words are the same for both clients, whatever their event loops call an error: the system's own, where it
has some.
"""

import os
from collections.abc import Mapping, Sequence

from basestore.errors import Overloaded, ReadTimeout, RequestFailed, Unreachable
from basestore.protocol.limits import ProtocolError
from basestore.transport.window import Window

# What is seen of an endpoint where the system has no words for it.
NO_CONNECTION = "no connection in time"
SILENT = "it takes connections, but says nothing in time"
ASK_SHARE = 0.25  # of a call's time, for hearing where the members are by now
FILE = "--config FILE"  # of a node, where it is not known here
_NEXT = {
    "connection refused": "Nothing listens there: see how its process ended (its log has the reason, or the "
    f"terminal of its `basestore up`), then start it: basestore serve {FILE}",
    SILENT: "Its process is there, and hangs or is stopped: look at its log and its machine first",
    NO_CONNECTION: "Its machine is down, or the network drops what is sent: see whether it can be reached",
}


def unreachable(failures: Mapping[str, object], endpoints: Sequence[str] = ()) -> Unreachable:
    """The error when none of the endpoints answers, out of what is wrong with each; nothing is known yet of
    those that do not stand among the failures."""
    failures = dict.fromkeys(endpoints, NO_CONNECTION) | {
        endpoint: failure if str(failure) else "it closed the connection"
        for endpoint, failure in failures.items()
    }
    told = "; ".join(f"{endpoint}: {failure}" for endpoint, failure in failures.items())
    error = Unreachable(
        f"no node could be reached ({told}). Nothing was sent. Check that they run, or name other nodes as "
        f"endpoints"
    )
    error.reasons = tuple(map(_word, failures.values()))
    error.answered = any(isinstance(failure, ProtocolError) for failure in failures.values())
    return error


def _word(failure: object) -> str:
    if isinstance(failure, ProtocolError):  # its words are this package's, and hold names
        return str(failure)
    if isinstance(failure, OSError):
        # By its number, for event loops have words of their own; errors of names have numbers below 0.
        number = failure.errno or 0
        failure = os.strerror(number) if number > 0 else failure.strerror or failure
    return str(failure).lower()


def silence(error: Unreachable | RequestFailed) -> str:
    """What was seen of a node that does not answer, and what to look at next, on one short line; or what who
    answered said in its place."""
    seen = SILENT if isinstance(error, ReadTimeout) else ""
    if isinstance(error, Unreachable) and error.reasons:
        seen = error.reasons[-1]
    if not seen:
        return str(error)
    if isinstance(error, Unreachable) and error.answered:
        return seen
    return f"does not answer: {seen}. {_NEXT.get(seen, 'See whether it runs, and what its log says')}"


def crowded(endpoint: str, window: Window, waited_s: float) -> Overloaded:
    """The error when the window had no room in time."""
    return Overloaded(
        f"overloaded: {endpoint} takes {window.limit} requests at once from this connection, and for "
        f"{waited_s:.3g} s (a tenth of the timeout) there was no room; nothing was sent. Ask for less at "
        f"once, give it more time, or share the work among several nodes"
    )
