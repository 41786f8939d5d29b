"""Addresses: why one cannot be listened on, and what to do about it.

The state first: a port that somebody uses, a name that nobody knows and an address of another machine are
told apart, and only of the first is it said that something is to be stopped.
"""

import errno
import socket

_ADVICE = {
    errno.EADDRINUSE: "something listens there already: stop what uses the port",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address: correct it",
    errno.EACCES: "this user may not listen on that port: use one from 1024 on",
}


def why_not(error: OSError) -> str:
    """What is wrong with an address that could not be listened on, and what to do, in a few words."""
    if isinstance(error, socket.gaierror) or (error.errno or 0) < 0:  # numbers of errors of names
        return f"its name does not resolve ({error.strerror}): correct the name, or write an IP address"
    return _ADVICE.get(error.errno or 0) or str(error)
