#!/usr/bin/env python3
"""Ports for the servers of tests in the hosts' languages. `services/ports.rs` has the same, and says why.

As a program it prints one for each line that comes in, and ends with its input, which frees them.
"""

import errno
import os
import pathlib
import socket
import sys

FIRST, END, BLOCK = 10_000, 65_536, 32

_owner = 0
_left: list[int] = []
#: Sockets whose names reserve a block each.
_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on, and that no other test is given."""
    global _owner
    if _owner != os.getpid():
        # What a forked child finds here is its parent's.
        _owner = os.getpid()
        _left.clear()
        _reserved.clear()
    while True:
        if not _left:
            _reserve()
        if _is_free(port := _left.pop(0)):
            return port


def _reserve() -> None:
    start, end = _outside(*map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()))
    count = (end - start) // BLOCK
    for n in range(count):
        first = start + (os.getpid() + n) % count * BLOCK
        named = socket.socket(socket.AF_UNIX)
        try:
            named.bind(f"\0synlock-test-ports-{first}")
        except OSError as error:
            named.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        _reserved.append(named)
        _left.extend(range(first, first + BLOCK))
        return
    raise RuntimeError("no block of ports that no test has")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: what is left of connections that are closed is not in their way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _outside(first: int, last: int) -> tuple[int, int]:
    """The longer of what is before and behind the kernel's range; if it leaves no block, all."""
    longest = max((FIRST, first), (max(last + 1, FIRST), END), key=lambda side: side[1] - side[0])
    return longest if longest[1] - longest[0] >= BLOCK else (FIRST, END)


def main() -> None:
    # A connection that its starter had open must end when that one closes it.
    os.closerange(3, 1024)
    for _ in sys.stdin:
        print(free_port(), flush=True)


if __name__ == "__main__":
    main()
