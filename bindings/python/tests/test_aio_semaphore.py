"""The manager of semaphores for tasks."""

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import os
import subprocess
import sys
import threading
import uuid

import pytest

import synlock
from synlock import aio

NAME = "lock_M_K_378261a619eba75d288b4929dc312ddf"


def manager(url=None, **settings):
    return aio.SemaphoreManager(url or f"memory:{uuid.uuid4()}", **{"tries": 1, "sleep": 0.0, **settings})


async def until(told):
    while not await told():
        await asyncio.sleep(0.005)


def test_acquire_and_release_with_a_line_for_each(caplog, url):
    caplog.set_level(logging.DEBUG, "synlock.semaphore")

    async def main():
        one = manager(url)
        how = await one.acquire(["M_K_", 1], "A.first", 10)
        assert how.attempts >= 1 and not how.contended
        assert await one.store.is_locked(NAME) and await one.is_acquired(["M_K_", 1])
        assert one.held() == [(NAME.encode(), "A.first")] and one.name(["M_K_", 1]) == NAME.encode()
        with pytest.raises(synlock.Reentered, match=r"A\.first"):
            await one.acquire(["M_K_", 1], "B.second")
        await one.refresh(["M_K_", 1], 90)
        await one.release(["M_K_", 1])
        for call in (one.release, one.refresh):
            with pytest.raises(synlock.NotHeld):
                await call(["M_K_", 1])
        assert not await one.is_acquired(["M_K_", 1])
        task = asyncio.create_task(one.acquire("by a task"))
        await task
        async with one.lock("in a block"):
            pass
        await one.release("by a task")

    asyncio.run(main())
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith(f"[{os.getpid()}] A.first->acquire: acquired"), lines
    here = "] test_aio_semaphore.test_acquire_and_release_with_a_line_for_each.<locals>.main->"
    if not hasattr(sys._getframe().f_code, "co_qualname"):
        here = "] test_aio_semaphore.main->"
    assert all(here in line for line in lines[3:]), lines
    assert [record.levelname for record in caplog.records if "B.second" in record.getMessage()] == ["ERROR"]


def test_a_waiter_is_woken_and_others_run_meanwhile(url):
    async def main():
        one = manager(url, tries=1, sleep=3600.0)
        holder = one.store.lock("lock_k")
        await holder.acquire()
        waiter = asyncio.create_task(one.acquire("k"))
        await asyncio.sleep(0)
        async with one.lock("other"):
            assert not waiter.done()
        await holder.release()
        assert (await waiter).contended
        await one.release("k")

    asyncio.run(main())


def test_another_holder_is_waited_for_and_left_alone():
    url = f"memory:{uuid.uuid4()}"

    async def main():
        one, other = manager(url, tries=2, sleep=0.01), aio.Lock(url, "lock_k")
        async with other:
            with pytest.raises(synlock.LockTimeout):
                await one.acquire("k")
            with pytest.raises(synlock.LockBusy):
                await manager(url).acquire("k")
        await one.acquire("k")
        assert await one.store.break_lock("lock_k")
        async with other:
            with pytest.raises(synlock.LockLost):
                await one.release("k")
            assert await other.is_acquired()

    asyncio.run(main())


def test_a_cancelled_task_has_acquired_nothing(url):
    async def main():
        one = manager(url, tries=1, sleep=3600.0)
        for _ in range(20):
            holder = one.store.lock("lock_k")
            await holder.acquire()
            waiter = asyncio.create_task(one.acquire("k"))
            await asyncio.sleep(0.002)
            # The cancel and the grant meet.
            release = asyncio.create_task(holder.release())
            await asyncio.sleep(0)
            waiter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiter
                await one.release("k")
            await release
            assert one.held() == []
            await until(functools.partial(holder.acquire, False))
            await holder.release()

    asyncio.run(main())


def test_a_repetition_extends_where_that_was_chosen(caplog):
    async def main():
        one = manager(repeat="extend")
        await one.acquire("k", ttl=30)
        await one.acquire("k", ttl=90)
        assert (await one.store.inspect("lock_k"))["holders"][0]["remaining"] > 50
        await one.store.break_lock("lock_k")
        await one.acquire("k", ttl=30)
        assert await one.is_acquired("k")
        await one.release("k")
        assert not await one.store.is_locked("lock_k")

    asyncio.run(main())
    assert [record.levelname for record in caplog.records].count("WARNING") >= 2


def test_two_managers_of_one_process():
    url = f"memory:{uuid.uuid4()}"

    async def main():
        one, two = manager(url), manager(url)
        async with one.lock("k"):
            with pytest.raises(synlock.Reentered):
                await two.acquire("k")

    asyncio.run(main())


def test_a_block_releases_whatever_happens():
    async def main():
        one = manager()
        with pytest.raises(RuntimeError, match="work"):
            async with one.lock(["k", 1]):
                raise RuntimeError("work")
        with pytest.raises(synlock.LockLost):
            async with one.lock("k"):
                await one.store.break_lock("lock_k")
        async with one.lock("k"):
            # Several at once: each has its turn.
            assert await asyncio.gather(*(one.is_acquired("k") for _ in range(20))) == [True] * 20
            await asyncio.gather(*(one.refresh("k") for _ in range(20)))
        assert one.held() == []

    asyncio.run(main())


def test_what_is_forgotten_is_told_and_released(caplog, url):
    async def main():
        one = manager(url)
        store = one.store
        await one.acquire("k", "Job.run")
        await one.close()
        assert not await store.is_locked("lock_k")
        await one.acquire("k", "Job.run")
        del one
        assert await store.wait_free("lock_k", 60)

    asyncio.run(main())
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2 and all("] Job.run->end: " in line for line in errors), errors


def test_what_is_forgotten_at_the_end_of_the_process(redis, name):
    code = """
import asyncio, logging, sys
from synlock.aio import SemaphoreManager
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(levelname)s %(message)s")
async def main():
    global manager
    manager = SemaphoreManager(sys.argv[1])
    await manager.acquire(sys.argv[2], "main")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code, redis, name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "ERROR [" in done.stdout and "] main->end: the process ended" in done.stdout, done.stdout
    assert not synlock.Store(redis).is_locked(f"lock_{name}")


def test_a_demo_does_nothing():
    async def main():
        one = manager(demo=True)
        await one.acquire("k")
        await one.acquire("k")
        assert not await one.store.is_locked("lock_k")
        await one.release("k")

    asyncio.run(main())


def test_settings_and_stores_are_checked():
    for settings in [{"tries": 0}, {"ttl": 0.0}, {"sleep": -1.0}, {"repeat": "never"}]:
        with pytest.raises(synlock.InvalidArgument):
            manager(**settings)
    with pytest.raises(TypeError):
        manager(patience=1)


def test_a_cancelled_close_releases_what_is_held():
    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        one, free = manager(), threading.Event()
        await one.acquire(["M_K_", 1])
        busy = asyncio.create_task(asyncio.to_thread(free.wait, 60))
        await asyncio.sleep(0)
        closing = asyncio.create_task(one.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0)
        free.set()
        await busy
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert one.held() == [] and not await one.store.is_locked(NAME)

    asyncio.run(main())
