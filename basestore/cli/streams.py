"""Streams: what a command finds on its three standard streams, and what of a value a terminal is shown.

A command may be started with some of them closed (by cron, or a supervisor). Then the next file that is
opened gets the free number: the store's, perhaps, and what is printed would be written into it. So this comes
before anything else is opened.
"""

import os
import sys

from basestore.cli import text

_SHOWN = {"\n", "\t"}


def fill_closed_streams() -> None:
    """Open what is closed on nothing: it reads as empty, and takes what is written."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:  # Python has found it closed when it started
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def for_terminal(value: bytes) -> bytes | None:
    """What to show of a value that would be more than text to a terminal, on lines as they are; None where
    the value can be shown as it is."""
    # A terminal obeys what it is sent: a value could clear it, or write into the next command line.
    shown = value.decode("utf-8", "surrogateescape")
    if all(character in _SHOWN or character.isprintable() for character in shown):
        return None
    return b"\n".join(text.printable(line).encode() for line in value.split(b"\n"))
