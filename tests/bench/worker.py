"""Drives a lock from Python: worker.py KIND WHERE NAME, then `pair SECONDS` or `hand OUT START END HOLD_US`.

drive.h says what they do. KIND is synlock, or a peer; WHERE is a URL, a folder, or a Redis socket. With `asyncio`
or `redis-py-asyncio` for KIND and `many TASKS SECONDS`: pairs of so many tasks, each with a lock of its own.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any


def lock(kind: str, where: str, name: str, waits: bool) -> tuple[Callable, Callable]:
    """What takes the lock, and what gives it back."""
    if kind == "synlock":
        import synlock

        lock = synlock.Lock(where, name)
        return (lambda: lock.acquire(waits)), lock.release
    if kind == "filelock":
        import filelock

        lock = filelock.FileLock(f"{where}/{name}.filelock")
        return lock.acquire, lock.release
    if kind == "portalocker":
        import portalocker

        lock = portalocker.Lock(f"{where}/{name}.portalocker")
        return lock.acquire, lock.release
    if kind == "fasteners":
        import fasteners

        lock = fasteners.InterProcessLock(f"{where}/{name}.fasteners")
        return lock.acquire, lock.release
    import redis

    client = redis.Redis(unix_socket_path=where)
    if kind == "redis-py":
        lock = client.lock(name, timeout=30)
        return lock.acquire, lock.release
    if kind == "python-redis-lock":
        import redis_lock

        lock = redis_lock.Lock(client, name, expire=30)
        return lock.acquire, lock.release
    raise SystemExit(f"unknown: {kind}")


def pairs(take: Callable, give: Callable, batch: int, seconds: float) -> str:
    clock = time.perf_counter_ns

    def run(count: int) -> None:
        for _ in range(count):
            take()
            give()

    run(batch * 20)
    samples = []
    end = clock() + int(seconds * 1e9)
    while clock() < end:
        start = clock()
        run(batch)
        samples.append((clock() - start) / batch)
    samples.sort()
    at = lambda share: samples[int((len(samples) - 1) * share)]
    return json.dumps({"p50_ns": at(0.5), "p99_ns": at(0.99), "n": len(samples) * batch})


def turns(take: Callable, give: Callable, start: int, end: int, hold: float) -> str:
    clock = time.monotonic_ns
    log = []
    take()
    give()
    time.sleep(max(0, start - clock()) / 1e9)
    while (request := clock()) < end:
        take()
        acquired = clock()
        time.sleep(hold)
        log.append(f"{request} {acquired} {clock()}\n")
        give()
    return "".join(log)


def task_lock(kind: str, where: str) -> Callable[[str], Any]:
    """Makes locks of one event loop by name."""
    if kind == "asyncio":
        from synlock import aio

        return aio.Store(where).lock
    import redis.asyncio

    client = redis.asyncio.Redis(unix_socket_path=where)
    return lambda name: client.lock(name, timeout=30)


async def many(lock: Callable[[str], Any], name: str, tasks: int, seconds: float) -> str:
    pairs, running = 0, True

    async def run(acquire: Callable[[], Awaitable], release: Callable[[], Awaitable]) -> None:
        nonlocal pairs
        while running:
            await acquire()
            await release()
            pairs += 1

    made = [lock(f"{name}/{task}") for task in range(tasks)]
    all_of_them = [asyncio.create_task(run(one.acquire, one.release)) for one in made]
    # The first turns connect.
    await asyncio.sleep(0.3)
    before, start = pairs, time.perf_counter()
    await asyncio.sleep(seconds)
    count = pairs - before
    rate = count / (time.perf_counter() - start)
    running = False
    await asyncio.gather(*all_of_them)
    return json.dumps({"pairs_per_s": round(rate), "n": count})


def main() -> None:
    kind, where, name, way, *rest = sys.argv[1:]
    if way == "many":
        tasks, seconds = rest
        print(asyncio.run(many(task_lock(kind, where), name, int(tasks), float(seconds))))
        return
    take, give = lock(kind, where, name, way == "hand")
    if way == "pair":
        is_remote = "redis" in kind or where.startswith("redis")
        print(pairs(take, give, 1 if is_remote else 100 if kind == "synlock" else 10, float(rest[0])))
    else:
        out, start, end, hold = rest
        with open(out, "w") as file:
            file.write(turns(take, give, int(start), int(end), int(hold) / 1e6))


main()
