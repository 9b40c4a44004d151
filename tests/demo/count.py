"""One of the processes of the demo: count.py URL FILE TIMES RECORDS. `-` as URL counts without a lock."""

import contextlib
import os
import random
import sys
import time

import synlock


def main(url: str, path: str, times: int, records: str) -> None:
    lock = contextlib.nullcontext() if url == "-" else synlock.Lock(url, "demo counter", timeout=60)
    file = os.open(path, os.O_RDWR)
    lines = []
    print("ready", flush=True)
    if not sys.stdin.readline():
        sys.exit(1)
    for i in range(1, times + 1):
        asked = time.monotonic_ns()
        with lock:
            got = time.monotonic_ns()
            value = int(os.pread(file, 12, 0))
            os.pwrite(file, b"%011d\n" % (value + 1), 0)
            done = time.monotonic_ns()
        lines.append(f"{value} {asked} {got} {done}\n")
        if i % 100 == 0:
            print(i, flush=True)
        time.sleep(random.uniform(0.0005, 0.0025))
    with open(records, "w") as out:
        out.writelines(lines)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
