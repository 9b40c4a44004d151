#!/usr/bin/env python3
"""Reads what `strace -f -yy` wrote: no socket is written to by two processes.

    inherited.py TRACE [LEAST_FORKS]

Trace clone, clone3, fork, vfork and what writes: a connection is known by the name that `-yy` gives its
socket, a process by the threads that it cloned. The last line is `N passed, N failed`.
"""

import collections
import re
import sys

LINE = re.compile(r"^(\d+) +(.*)$")
CLONED = re.compile(r"^(?:clone3?|fork|vfork)\(.*\) += (\d+)$")
RESUMED = re.compile(r"^<\.\.\. (?:clone3?|fork|vfork) resumed>.*\) += (\d+)$")
BEGUN = re.compile(r"^(?:clone3?|fork|vfork)\((.*)<unfinished \.\.\.>$")
# `send(5<UNIX-STREAM:[123->456]>, …`: the numbers are the connection, whoever has the descriptor.
WRITTEN = re.compile(r"^(?:write|writev|sendto|sendmsg|shutdown)\(\d+<((?:UNIX|TCP)[^>]*(?:->[^>]*)?)>")


def judge(lines) -> tuple[dict[str, set[str]], int]:
    """The processes that wrote to each socket, and how many processes were forked."""
    process: dict[str, str] = {}
    flags: dict[str, str] = {}
    writers = collections.defaultdict(set)
    forks = 0
    pending = []
    for line in lines:
        match = LINE.match(line)
        if not match:
            continue
        thread, call = match.groups()
        if begun := BEGUN.match(call):
            flags[thread] = begun[1]
        made = CLONED.match(call) or RESUMED.match(call)
        if made:
            words = flags.pop(thread, "") + call
            is_thread = "CLONE_THREAD" in words
            forks += not is_thread
            process[made[1]] = process.get(thread, thread) if is_thread else made[1]
        if written := WRITTEN.match(call):
            # A new thread may run before its clone has returned: whose it is is known at the end.
            pending.append((written[1], thread))
    for socket, thread in pending:
        writers[socket].add(process.get(thread, thread))
    return writers, forks


def main(trace: str, least: int = 1) -> int:
    with open(trace, errors="replace") as lines:
        writers, forks = judge(lines)
    shared = {socket: sorted(found) for socket, found in writers.items() if len(found) > 1}
    for socket, found in shared.items():
        print(f"FAILED: {socket} is written to by the processes {', '.join(found)}")
    enough = len(writers) > 1 and forks >= least
    print(f"{'ok' if enough else 'FAILED'}: {len(writers)} sockets, {forks} forks seen")
    print(f"{'ok' if not shared else 'FAILED'}: {len(shared)} sockets with writers of two processes")
    print(f"{enough + (not shared)} passed, {(not enough) + bool(shared)} failed")
    return 0 if enough and not shared else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:3])))
