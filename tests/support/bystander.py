#!/usr/bin/env python3
"""How long the machine lets a process wait that wants to run: what the tests in the hosts' languages widen
a bound by. `load.rs` has Rust's.

As a program it does nothing but to wake up each millisecond, and notes how late that was. It prints the
longest since the last answer, in seconds, for each line that comes in, and ends with its input.
"""

import os
import select
import subprocess
import sys
import time

#: So many processes run one after the other between a cause and what a test sees of it.
STEPS = 4


class Bystander:
    """Watches from its start, and from each answer on, until the next."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)
        self.extra()

    def extra(self) -> float:
        """Seconds that a bound grows by."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return STEPS * float(self._process.stdout.readline())

    def __enter__(self) -> "Bystander":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def main() -> None:
    # A connection that its starter had open must end when that one closes it.
    os.closerange(3, 1024)
    longest = 0.0
    while True:
        before = time.monotonic()
        if select.select([sys.stdin], [], [], 0.001)[0]:
            if not sys.stdin.readline():
                return
            print(f"{longest:.6f}", flush=True)
            longest = 0.0
        else:
            longest = max(longest, time.monotonic() - before)


if __name__ == "__main__":
    main()
