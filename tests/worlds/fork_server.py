"""A fork server: it has imported what a command needs, and becomes that command as often as it is asked.

To import a node takes a processor longer than what most tests have it do. So that is done once for each
process that runs tests: the server loads the modules that it is told, waits, and forks for each order. The
fork takes over the file descriptors, the directory and the environment of the order, and runs the module
named there as `python -m` would, to the interpreter's own end. The server never runs a thread, nor anything
of what it has imported, and draws no chance: what a fork finds is what an import leaves behind.

An order is one datagram: JSON of `module`, `arguments`, `environment`, `directory` and `session`, with four
descriptors: stdin, stdout, stderr, and one to which the exit code is written once the process has ended, as
`subprocess` counts. The answer is its pid. Without orders to come, the server ends; what it became goes on.
"""

import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, TextIO

ORDER_BYTES_MAX = 1 << 18
DESCRIPTORS = 4
CODE_BYTES = 4


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for each order. Returns in a fork, with its order; in the server, never."""
    waiting: dict[int, tuple[int, int]] = {}  # by a descriptor of the process: its pid, and who is told
    events = select.poll()
    events.register(control, select.POLLIN)
    while True:
        for descriptor, _ in events.poll():
            if descriptor in waiting:
                events.unregister(descriptor)
                _tell_end(descriptor, *waiting.pop(descriptor))
                continue
            data, descriptors, _, _ = socket.recv_fds(control, ORDER_BYTES_MAX, DESCRIPTORS)
            if not data:
                sys.exit()
            pid = os.fork()
            if not pid:
                control.detach()
                return {**json.loads(data), "descriptors": descriptors[:3]}
            process = os.pidfd_open(pid)
            events.register(process, select.POLLIN)
            waiting[process] = pid, descriptors[3]
            for each in descriptors[:3]:
                os.close(each)
            control.send(str(pid).encode())


def _tell_end(process: int, pid: int, told: int) -> None:
    """Before the pid is free: nobody sends a signal to another process that has it by then."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    with suppress(BrokenPipeError):  # nobody waits for it
        os.write(told, code.to_bytes(CODE_BYTES, signed=True))
    os.waitpid(pid, 0)
    os.close(told)
    os.close(process)


def become(order: dict[str, Any]) -> None:
    """What a process has from who starts it, and nothing of the server's."""
    for number, descriptor in enumerate(order["descriptors"]):
        os.dup2(descriptor, number)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            with suppress(OSError):  # that of the list itself
                os.close(descriptor)
    if order["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["directory"])
    sys.path[0] = order["directory"]
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = order["arguments"]
    sys.stdin, sys.stdout, sys.stderr = _stream(0, sys.stdin), _stream(1, sys.stdout), _stream(2, sys.stderr)
    gc.enable()


def _stream(number: int, servers: TextIO) -> TextIO:
    """As the interpreter makes it when it begins: the server's own know what they were opened on."""
    assert isinstance(servers, io.TextIOWrapper)
    through = servers.write_through
    raw = open(number, "wb" if number else "rb", 0 if through else -1, closefd=False)  # noqa: SIM115
    by_line = number > 0 and not through and (number == 2 or raw.isatty())
    return io.TextIOWrapper(raw, servers.encoding, servers.errors, "\n", by_line, through)


def main() -> None:
    number, *modules = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    gc.disable()
    for module in modules:
        import_module(module)
    gc.freeze()  # or each fork would copy what it looks through
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the threads that an import began"
    order = serve(socket.socket(fileno=int(number)))
    become(order)
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
