import asyncio
import sys

import pytest

import synlock


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_with(url, name):
    async def main():
        store = synlock.aio.Store(url)
        async with store.lock(name) as lock:
            await lock.ensure_held()
            assert lock.locked()
            assert await store.lock(name).acquire(False) is False
            with pytest.raises(synlock.LockTimeout):
                async with store.lock(name, timeout=0.05):
                    pass
        assert await store.lock(name).acquire(False)

    run(main())


def test_the_loop_runs_while_a_task_waits(url, name):
    async def main():
        store = synlock.aio.Store(url)
        first = store.lock(name)
        await first.acquire()
        waiter = asyncio.create_task(store.lock(name).acquire())
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not waiter.done()
        await first.release()
        assert await waiter is True

    run(main())


def test_cancelling_is_atomic(url, name):
    async def main():
        store = synlock.aio.Store(url)
        for _ in range(20):
            first = store.lock(name)
            await first.acquire()
            waiter = asyncio.create_task(store.lock(name).acquire())
            await asyncio.sleep(0.01)
            waiter.cancel()
            if _ % 2:
                # The grant and the cancel race.
                await first.release()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            if not _ % 2:
                await first.release()
            other = store.lock(name)
            assert await other.acquire(timeout=5)
            await other.release()

    run(main())


@pytest.mark.parametrize("count", [200])
def test_many_waiters(redis, name, count):
    async def main():
        store = synlock.aio.Store(redis)
        order = []

        async def work(number):
            async with store.lock(name):
                order.append(number)

        first = store.lock(name)
        await first.acquire()
        tasks = [asyncio.create_task(work(number)) for number in range(count)]
        await asyncio.sleep(0.5)
        await first.release()
        await asyncio.gather(*tasks)
        assert order == list(range(count))

    run(main())


def test_loss(redis, name):
    async def main():
        store = synlock.aio.Store(redis)
        lock = store.lock(name, ttl=0.3, renew=True)
        await lock.acquire()
        waiting = asyncio.create_task(lock.wait_lost())
        await asyncio.sleep(0.05)
        store.break_lock(name)
        await asyncio.wait_for(waiting, 10)
        assert lock.lost
        with pytest.raises(synlock.LockLost):
            await lock.release()

    run(main())


def test_asyncio_timeout(url, name):
    if sys.version_info < (3, 11):
        return

    async def main():
        store = synlock.aio.Store(url)
        first = store.lock(name)
        await first.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.lock(name).acquire()
        await first.release()
        assert await store.lock(name).acquire(False)

    run(main())
