"""Cancellations that race grants, and a loop that goes on whatever the server does."""

import asyncio
import os
import random
import signal
import sys
import time

from conftest import patient

import synlock


def run(coroutine, most=240):
    return asyncio.run(asyncio.wait_for(coroutine, most))


async def longest_pause(stop):
    """The longest time for which the loop did nothing else."""
    worst = 0.0
    while not stop.is_set():
        before = time.monotonic()
        await asyncio.sleep(0.005)
        worst = max(worst, time.monotonic() - before)
    return worst


def test_many_tasks_on_one_object_never_overlap(url, name):
    async def main():
        lock, inside, total = synlock.aio.Lock(url, name), [], []

        async def work():
            async with lock:
                inside.append(1)
                assert len(inside) == 1
                await asyncio.sleep(0)
                total.append(1)
                inside.pop()

        await asyncio.gather(*(work() for _ in range(100)))
        assert len(total) == 100 and not lock.locked()

    run(main())


def test_cancels_race_grants(url, name):
    chance = random.Random(7)

    async def main():
        lock, inside, seen = synlock.aio.Lock(url, name), [], {"in": 0, "cancelled": 0}

        async def work():
            try:
                async with lock:
                    inside.append(1)
                    assert len(inside) == 1
                    seen["in"] += 1
                    try:
                        await asyncio.sleep(chance.random() * 0.004)
                    finally:
                        inside.pop()
            except asyncio.CancelledError:
                seen["cancelled"] += 1
                raise

        tasks = [asyncio.create_task(work()) for _ in range(120)]
        while not seen["in"]:
            await asyncio.sleep(0.001)
        while not all(task.done() for task in tasks):
            await asyncio.sleep(chance.random() * 0.006)
            chance.choice(tasks).cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            assert done is None or isinstance(done, asyncio.CancelledError), done
        assert seen["in"] and seen["cancelled"]
        # Whatever was cancelled, and when: nobody holds it, and nobody is queued.
        other = synlock.aio.Lock(url, name)
        assert await other.acquire(timeout=60)
        assert not lock.locked()
        assert (await other.store.inspect(name))["waiters"] in (0, None)
        await other.release()

    run(main())


def test_timeouts_race_grants(redis, name):
    if sys.version_info < (3, 11):
        return

    async def main():
        lock, got, missed = synlock.aio.Lock(redis, name), 0, 0

        async def work(most):
            nonlocal got, missed
            try:
                async with asyncio.timeout(random.random() * most):
                    async with lock:
                        got += 1
                        await asyncio.sleep(0.002)
            except TimeoutError:
                missed += 1

        # A server may take longer than the shortest of them for all.
        for most in 0.1, 1, 10:
            if not got or not missed:
                await asyncio.gather(*(work(most) for _ in range(100)))
        assert got and missed and not lock.locked()
        assert await synlock.aio.Lock(redis, name).acquire(timeout=60)

    run(main())


def test_a_hold_in_use_waits_its_turn(redis, name):
    """Tasks that help the holder may ask at the same moment; a release comes after them."""

    async def main():
        lock = synlock.aio.Lock(redis, name, ttl=30)
        await lock.acquire()
        asking = [asyncio.create_task(lock.ensure_held()) for _ in range(20)]
        await asyncio.sleep(0)
        await lock.release()
        done = await asyncio.gather(*asking, return_exceptions=True)
        # Those whose turn came after the release are told that; nobody hears of concurrent use.
        assert done[0] is None and all(one is None or isinstance(one, synlock.NotHeld) for one in done)
        assert not await lock.store.is_locked(name)

    run(main())


def test_loops_leave_no_descriptor(url, name):
    async def main():
        async with synlock.aio.Lock(url, name):
            pass

    for _ in range(5):
        run(main())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        run(main())
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_export_and_adopt(redis, name):
    async def main():
        store = synlock.aio.Store(redis)
        lock = store.lock(name, ttl=30)
        await lock.acquire()
        heir = await store.adopt(await lock.export(), ttl=30)
        assert isinstance(heir, synlock.aio.Lock) and heir.name == name and heir.owner_token
        assert heir.state == "held" and not lock.locked() and not heir.is_expired()
        # Cancelled at any moment, the hold is either still ours or the heir's: it can be released.
        for wait in range(20):
            exporting = asyncio.create_task(heir.export())
            await asyncio.sleep(wait / 20000)
            exporting.cancel()
            try:
                heir = await store.adopt(await exporting, ttl=30)
            except asyncio.CancelledError:
                assert await heir.is_acquired()
        await heir.release()
        assert not await store.is_locked(name)
        assert await store.wait_free(name, 60) and (await store.list(name))[0] == []
        await store.ping(60)

    run(main())


def test_loss_is_told_on_the_loop(redis, name):
    async def main():
        lock = synlock.aio.Lock(redis, name, ttl=3, renew=True)
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        readable = asyncio.Event()
        await lock.acquire()
        await lock.on_lost(lambda: (asyncio.get_running_loop() is loop) and told.set())
        descriptor = await lock.lost_fd()
        loop.add_reader(descriptor, readable.set)
        assert await lock.store.break_lock(name)
        await asyncio.wait_for(asyncio.gather(told.wait(), readable.wait()), 60)
        loop.remove_reader(descriptor)
        assert lock.is_expired() and not await lock.is_acquired()

    run(main())


def test_wait_free_of_many(url, name):
    async def main():
        store = synlock.aio.Store(url)
        async with store.lock(name):
            waiting = [asyncio.create_task(store.wait_free(name, 60)) for _ in range(20)]
            assert await store.wait_free(name, 0.3) is False
            # The loop's executor still serves others.
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 20) == 1
        assert all(await asyncio.gather(*waiting))

    run(main())


def test_a_stopped_server_does_not_stop_the_loop(own_redis, name, machine):
    url, pid = own_redis

    async def main():
        await synlock.aio.Store(patient(url)).ping()
        store = synlock.aio.Store(url + "?io_timeout=1500")
        lock, other = store.lock(name, ttl=60), store.lock(name, timeout=1)
        reader = store.lock(name + "-s", shared=True, ttl=60)
        spare = store.lock(name + "-x", ttl=60)
        for one in [lock, reader, spare]:
            await one.acquire()
        stop = asyncio.Event()
        machine.extra()
        watching = asyncio.create_task(longest_pause(stop))

        async def look():
            while not stop.is_set():
                assert lock.locked() and lock.state == "held" and not lock.lost and not lock.is_expired()
                assert lock.remaining > 0 and lock.fencing_token and lock.owner_token
                await asyncio.sleep(0.01)

        looking = asyncio.create_task(look())
        os.kill(pid, signal.SIGSTOP)
        try:
            verbs = [
                lock.ensure_held(),
                lock.refresh(),
                lock.is_acquired(),
                other.acquire(timeout=3),
                other.acquire(),
            ]
            verbs += [reader.promote(3), reader.demote(), store.ping(3), store.is_locked(name), store.inspect(name)]
            verbs += [store.list(), store.break_lock(name + "-no"), store.wait_free(name, 3), other.acquire(False)]
            verbs += [lock.lost_fd(), lock.on_lost(print), spare.export(), store.adopt("synlock1:x")]
            tasks = [asyncio.ensure_future(verb) for verb in verbs]
            await asyncio.sleep(0.5)
            for task in tasks[:8]:
                task.cancel()
            await asyncio.wait(tasks, timeout=4)
        finally:
            os.kill(pid, signal.SIGCONT)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        stop.set()
        await looking
        assert await watching < 2 + machine.extra(), "the loop was blocked"
        wrong = [r for r in results if isinstance(r, BaseException) and not isinstance(r, synlock.SynlockError)]
        assert all(isinstance(r, asyncio.CancelledError) for r in wrong), wrong
        await lock.ensure_held()
        await lock.release()

    run(main())
