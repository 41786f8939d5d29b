"""Machine: on what figures were taken. They mean little without: an interpreter that was built with profiles
is a fifth faster than one without, and one that shares its processors is slower than one that does not."""

import os
import platform
import sys


def interpreter() -> str:
    """CPython 3.11.7 (main, May  9 2026, 07:35:25) [GCC 12.2.0]"""
    return f"{platform.python_implementation()} {' '.join(sys.version.split())}"


def load_average() -> float:
    """How many tasks wanted a processor, over the last minute; what was measured meanwhile is in it."""
    return round(os.getloadavg()[0], 2)
