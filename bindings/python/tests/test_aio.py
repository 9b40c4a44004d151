import asyncio
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import uvloop
from conftest import abriefly, patient

import synlock
from synlock import _loop


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def loop_policy(request):
    """Any loop will do."""
    if request.param == "uvloop":
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    yield request.param
    asyncio.set_event_loop_policy(None)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def test_with(url, name):
    async def main():
        store = synlock.aio.Store(url)
        async with store.lock(name) as lock:
            await lock.ensure_held()
            assert lock.locked()
            assert await store.lock(name).acquire(False) is False
            with pytest.raises(synlock.LockTimeout):
                await abriefly(lambda seconds: store.lock(name, timeout=seconds).__aenter__())
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
            assert await other.acquire(timeout=60)
            await other.release()

    run(main())


def test_a_cancel_while_a_second_acquire_extends_leaves_the_first_hold(url, name):
    async def main():
        store = synlock.aio.Store(url)
        first = store.lock(name, reentry="extend")
        await first.acquire()
        for _ in range(5):
            again = asyncio.create_task(store.lock(name, reentry="extend").acquire())
            await asyncio.sleep(0)
            again.cancel()
            with pytest.raises(asyncio.CancelledError):
                await again
            del again
            gc.collect()
        await asyncio.sleep(0.05)
        await first.ensure_held()
        assert not await store.lock(name).acquire(False)
        await first.release()
        assert not await store.is_locked(name)

    run(main())


def test_a_grant_and_a_cancel_in_one_turn_of_the_loop(name):
    """The loop hears of the grant after the cancel, and before the task does."""

    async def main():
        url = f"memory:{name}"
        held, operations = synlock.Lock(url, name), _loop.operations()
        held.acquire()
        waiter = asyncio.create_task(synlock.aio.Store(url).lock(name).acquire())
        while synlock.Store(url).inspect(name)["waiters"] != 1:
            await asyncio.sleep(0.001)
        held.release()
        select.select([operations._dispatch.fd()], [], [])
        waiter.cancel()
        operations._drain()
        done, _ = await asyncio.wait([waiter], timeout=60)
        assert done and waiter.cancelled()
        assert held.acquire(timeout=60)
        held.release()

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
        while (await store.inspect(name))["waiters"] != count:
            await asyncio.sleep(0.02)
        await first.release()
        await asyncio.gather(*tasks)
        assert order == list(range(count))

    run(main())


def test_loss(redis, name):
    async def main():
        store = synlock.aio.Store(redis)
        lock = store.lock(name, ttl=3, renew=True)
        await lock.acquire()
        waiting = asyncio.create_task(lock.wait_lost())
        await asyncio.sleep(0.05)
        await store.break_lock(name)
        await asyncio.wait_for(waiting, 60)
        assert lock.lost
        with pytest.raises(synlock.LockLost):
            await lock.release()

    run(main())


def test_the_loop_is_the_one_that_is_meant(loop_policy):
    async def main():
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    assert run(main()) == loop_policy


# Python 3.10 has no `asyncio.timeout`, and so no test of it.
if hasattr(asyncio, "timeout"):

    def test_asyncio_timeout(url, name):
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


def test_a_late_task_leaves_the_next_hold_alone(url, name):
    async def main():
        store = synlock.aio.Store(url)
        lock = store.lock(name)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def second():
            async with lock:
                entered.set()
                await leave.wait()
                await lock.ensure_held()

        async with lock:
            await lock.release()
            task = asyncio.create_task(second())
            await entered.wait()
            for late in [lock.release, lock.refresh, lock.ensure_held, lock.promote, lock.demote]:
                with pytest.raises(synlock.NotHeld):
                    await late()
            assert lock.fencing_token is None and lock.remaining is None and not lock.lost
        # Leaving the block has not released the other task's hold either.
        assert await store.lock(name).acquire(False) is False
        leave.set()
        await task
        assert await store.lock(name).acquire(False)

    run(main())


@pytest.mark.parametrize("timeout", [None, 600])
def test_a_block_is_left_though_another_task_waits_for_a_promotion(url, name, timeout):
    async def main():
        store = synlock.aio.Store(url)
        lock, reader = store.lock(name, shared=True), store.lock(name, shared=True)
        await reader.acquire()

        async def block():
            async with lock:
                # One that never acquired means the oldest hold.
                promoting.append(asyncio.create_task(lock.promote(timeout)))
                promoting.append(asyncio.create_task(lock.promote(timeout)))
                await asyncio.sleep(0.1)
                raise KeyError

        promoting = []
        with pytest.raises(KeyError):
            await asyncio.wait_for(block(), 20)
        for end in await asyncio.gather(*promoting, return_exceptions=True):
            assert isinstance(end, (synlock.LockCancelled, synlock.NotHeld)), end
        assert not lock.locked()
        await reader.release()
        assert not await store.is_locked(name)

    run(main())


def test_tasks_act_on_their_own_holds(redis, name):
    async def main():
        store = synlock.aio.Store(redis)
        lock = store.lock(name, shared=True, ttl=30)
        tokens = set()
        both = asyncio.Barrier(2) if sys.version_info >= (3, 11) else None

        async def reader():
            async with lock:
                token = lock.fencing_token
                tokens.add((token, lock.remaining is not None))
                if both:
                    await both.wait()
                await lock.refresh(60)
                await lock.ensure_held()
                assert lock.fencing_token == token and lock.remaining > 40

        await asyncio.gather(reader(), reader())
        assert not store.lock(name).locked()
        assert await store.lock(name).acquire(False)

    run(main())


def test_a_helper_task_may_use_and_release_the_hold(url, name):
    async def main():
        store = synlock.aio.Store(url)
        lock = store.lock(name)
        await lock.acquire()
        await asyncio.create_task(lock.ensure_held())
        await asyncio.create_task(lock.release())
        assert await store.lock(name).acquire(False)

    run(main())


def test_tasks_that_wait_for_one_name_share_a_thread(url, name):
    asked = []

    class Counting:
        """The backing, with its questions counted."""

        def __init__(self, backing):
            self._real = backing

        def __getattr__(self, what):
            return getattr(self._real, what)

        def wait_free(self, name, timeout):
            asked.append(timeout)
            return self._real.wait_free(name, timeout)

    async def main():
        store = synlock.aio.Store(url)
        locks = [store.lock(f"{name}-{number}") for number in range(4)]
        for lock in locks:
            await lock.acquire()
        store._backing = Counting(store._backing)
        waiting = [asyncio.create_task(store.wait_free(lock.name, 60)) for lock in locks for _ in range(25)]
        cancelled = [asyncio.create_task(store.wait_free(locks[0].name)) for _ in range(5)]
        assert await store.wait_free(locks[0].name, 0) is False
        assert await store.wait_free(locks[0].name, 0.5) is False
        for task in cancelled:
            task.cancel()
        assert not any(task.done() for task in waiting)
        for lock in locks:
            await lock.release()
        assert await asyncio.gather(*waiting) == [True] * 100
        # Each task asks once by itself; waiting is one thread's work for each name.
        assert asked.count(0.0) == 107
        assert await store.wait_free(locks[0].name) is True
        assert len(asked) - 108 < 300, len(asked)

    run(main())
    assert len(asked) > 108


def test_trouble_of_the_store_reaches_all_that_wait_for_a_name(own_redis, name):
    url, pid = own_redis

    async def main():
        held = synlock.aio.Store(patient(url)).lock(name)
        await held.acquire()
        store = synlock.aio.Store(url, io_timeout=500, connect_timeout=500)
        waiting = [asyncio.create_task(store.wait_free(name)) for _ in range(3)]
        await asyncio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, synlock.SynlockError), result

    run(main())


def test_a_collected_lock_is_released_beside_the_loop(own_redis, name, caplog):
    url, pid = own_redis
    caplog.set_level(logging.INFO, "synlock")

    async def main():
        store = synlock.aio.Store(url, io_timeout=20_000)
        lock = store.lock(name)
        await lock.acquire()
        resumed = []

        def resume():
            resumed.append(True)
            os.kill(pid, signal.SIGCONT)

        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(2, resume)
        timer.start()
        del lock
        gc.collect()
        await asyncio.sleep(0)
        # The server is silent still: nothing here has waited for it.
        assert not resumed
        await asyncio.to_thread(timer.join)
        again = store.lock(name)
        assert await again.acquire(timeout=60)
        await again.release()

    run(main())
    assert [record.synlock["kind"] for record in caplog.records].count("forgotten") == 1


def test_a_closed_loop_takes_its_waits_along(url, name):
    loop = asyncio.new_event_loop()
    gone = weakref.ref(loop)
    holder = synlock.Lock(url, name)
    holder.acquire()

    async def begin():
        waiting = asyncio.create_task(synlock.aio.Lock(url, name).acquire())
        await asyncio.sleep(0.1)
        return waiting.done()

    assert not loop.run_until_complete(begin())
    loop.close()
    gc.collect()
    holder.release()
    assert synlock.Lock(url, name).acquire(timeout=60)
    del loop
    gc.collect()
    assert gone() is None


def test_a_closed_loop_takes_its_watched_holds_along(url, name):
    loop = asyncio.new_event_loop()

    async def begin():
        lock = synlock.aio.Lock(url, name)
        await lock.acquire()
        # Nobody but the loop has it.
        asyncio.create_task(lock.wait_lost())  # noqa: RUF006
        await asyncio.sleep(0.1)
        gc.collect()
        return len(asyncio.all_tasks())

    assert loop.run_until_complete(begin()) == 2
    loop.close()
    gc.collect()
    assert synlock.Lock(url, name).acquire(timeout=60)


def test_what_is_collected_takes_no_lock_of_pythons(url, name):
    """Collection may come while this thread has the lock that starting a thread takes (it once hung so)."""
    code = f"""
import asyncio, concurrent.futures.thread as pool, faulthandler
from synlock import aio

async def main():
    lock = aio.Lock({url!r}, {name!r})
    assert await lock.acquire()
    session = aio.Session({url!r})
    assert await session.acquire({name!r} + "s")
    with pool._global_shutdown_lock:
        del lock, session

faulthandler.dump_traceback_later(100, exit=True)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
