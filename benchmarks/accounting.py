"""Accounting: the processor time that processes have used, as the kernel counts it.

One call reads the clock of a whole process: user and system time of all its threads, those that
have ended too, in nanoseconds. /proc/PID/stat says the same in ticks of 10 ms, which is too coarse
for a window of a second or two. Time that the kernel spends in interrupts is charged to whoever
runs at that moment; over a window of seconds that evens out. Linux only.
"""

import time
from collections.abc import Iterable

_SCHEDULED = 2  # CPUCLOCK_SCHED: what the scheduler has counted, without sampling


def cpu_ns(pid: int) -> int:
    """Nanoseconds of processor time that a process has used; OSError if there is no such process."""
    return time.clock_gettime_ns((~pid << 3) | _SCHEDULED)  # what clock_getcpuclockid(3) returns


def cpu_ns_of(pids: Iterable[int]) -> int:
    """The same for several processes together."""
    return sum(map(cpu_ns, pids))
