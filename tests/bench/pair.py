"""Times acquire + release of one uncontended lock from Python: pair.py URL NAME SECONDS"""

import json
import sys
import time

import synlock


def main(url: str, name: str, seconds: float) -> None:
    lock = synlock.Lock(url, name)
    batch = 1 if url.startswith("redis") else 100
    clock = time.perf_counter_ns

    def pairs(count: int) -> None:
        for _ in range(count):
            lock.acquire(False)
            lock.release()

    pairs(batch * 20)
    samples = []
    end = clock() + int(seconds * 1e9)
    while clock() < end:
        start = clock()
        pairs(batch)
        samples.append((clock() - start) / batch)
    samples.sort()
    at = lambda share: samples[int((len(samples) - 1) * share)]
    print(json.dumps({"p50_ns": at(0.5), "p99_ns": at(0.99), "n": len(samples) * batch}))


main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
