"""Sessions: one owner of many locks, by its id."""

import asyncio
import concurrent.futures
import gc
import inspect
import os
import re
import subprocess
import sys
import threading
import time
import uuid

import pytest
from conftest import briefly
from test_custom import Drawer

import synlock
from synlock import Session, Store, aio


@pytest.fixture
def name():
    return str(uuid.uuid4())


def test_acquires_renews_waits_and_releases(url, name):
    store = Store(url)
    mine, other = Session(store), Session(url)
    assert re.fullmatch(r"[0-9]{1,10}[0-9a-f]{13}[0-9]\.[0-9]{8}", mine.id)
    assert mine.id == mine.id != other.id and not mine.is_persistent
    # The lease ends long after all waits: what ends these is a wake-up.
    assert mine.acquire(name) and mine.acquire(name, 600.0) and mine.renew(name)
    assert not other.acquire(name) and not other.renew(name) and not other.release(name)
    assert not mine.may_be_available(name) and not other.may_be_available(name)
    assert briefly(lambda seconds: other.wait(name, seconds))
    threading.Timer(0.1, mine.release, [name]).start()
    assert not other.wait(name, 60)
    assert other.acquire(name) and other.release(name) and not other.release(name)


def test_all_end_with_the_session(url, name):
    mine, other = Session(url), Session(url)
    with mine as same:
        assert same is mine and mine.acquire(name, 600.0) and mine.acquire(name + "b", 600.0)
    assert other.acquire(name) and other.acquire(name + "b") and other.release_all() == 2
    assert mine.acquire(name, 600.0)
    del mine, same
    gc.collect()
    assert other.acquire(name)


def test_a_lost_lock_is_told_of_once(url, name):
    store = Store(url)
    mine = Session(store)
    assert mine.acquire(name)
    if not store.capabilities["ttl"]:
        return
    assert briefly(lambda seconds: mine.acquire(name + "short", seconds))
    other = Session(store)
    assert not other.wait(name + "short", 60)
    assert other.acquire(name + "short")
    assert not mine.acquire(name + "short") and not mine.acquire(name + "short")
    assert other.release_all() == 1 and mine.acquire(name + "short")


def test_the_end_of_the_interpreter_releases(url, name):
    if url.startswith("memory:"):
        return
    code = f"s = synlock.Session({url!r}); assert s.acquire({name!r}, 600.0); kept = [s]; kept.append(kept)"
    code = f"import synlock; {code}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert Session(url).acquire(name)


def test_thirty_seconds_where_no_time_is_given(redis, name):
    mine = Session(redis)

    def left():
        return Store(redis).inspect(name)["holders"][0]["remaining"]

    assert mine.acquire(name) and 5 < left() <= 30
    assert mine.acquire(name, 600.0) and mine.release(name)
    assert mine.acquire(name, 2.0) and mine.renew(name) and 5 < left() <= 30
    for kind in Session, aio.Session:
        times = {"acquire": "ttl", "renew": "ttl", "wait": "delay"}
        for method, time_of in times.items():
            assert inspect.signature(getattr(kind, method)).parameters[time_of].default == 30.0


def test_persistent_sessions(redis, name):
    kept = Session(redis, id=name)
    assert kept.id == name and kept.is_persistent
    with kept:
        assert kept.acquire(name)
    del kept
    gc.collect()
    again = Session(redis, name)
    assert not again.acquire(name) and again.renew(name) and again.release(name)
    assert again.acquire(name) and Session(redis).release_all(name) == 1
    assert kept_by_two(redis, name)
    with pytest.raises(synlock.InvalidArgument):
        Session(redis, "")
    with pytest.raises(synlock.Unsupported):
        Session("memory:", name)


def kept_by_two(redis, name):
    """Who has the same id and took nothing releases nothing of the other's."""
    holder, refused = Session(redis, name), Session(redis, name)
    assert holder.acquire(name, 600.0) and not refused.acquire(name)
    assert refused.release_all() == 0 and holder.renew(name)
    return holder.release_all() == 1


def test_wrong_use_is_refused(url, name):
    mine = Session(url)
    for ttl in (-1.0, float("nan")):
        with pytest.raises(synlock.InvalidArgument):
            mine.acquire(name, ttl)
    with pytest.raises(synlock.InvalidArgument):
        mine.acquire("")
    with pytest.raises(TypeError):
        mine.acquire(5)


def test_a_forked_child_is_refused_its_parents(url, name):
    held, idle = Session(url), Session(url)
    assert held.acquire(name)
    before = idle.id
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            held.acquire(name)
        except synlock.ForkedHandle:
            code = 0 if idle.id != before and idle.acquire(name + "child") else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert held.renew(name) and idle.id == before


def test_for_tasks(url, name):
    async def main():
        mine, other = aio.Session(url), aio.Session(aio.Store(url))
        assert mine.id != other.id
        assert await mine.acquire(name) and await mine.acquire(name, 60.0) and await mine.renew(name)
        assert not await other.acquire(name) and not await other.may_be_available(name)
        assert await other.wait(name, 0.05)
        waiting = asyncio.create_task(other.wait(name, 20))
        await asyncio.sleep(0.05)
        assert await mine.release(name) and not await mine.release(name)
        assert not await waiting
        async with other:
            assert await other.acquire(name)
        assert await mine.acquire(name) and await mine.release_all() == 1

    asyncio.run(main())


def test_a_cancelled_task_has_acquired_nothing(url, name):
    class Slow:
        def __init__(self, real):
            self._real = real

        def __getattr__(self, attribute):
            return getattr(self._real, attribute)

        def acquire(self, *arguments):
            time.sleep(0.2)
            return self._real.acquire(*arguments)

    async def main():
        mine = aio.Session(url)
        mine._owner = Slow(mine._owner)
        task = asyncio.create_task(mine.acquire(name))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await mine.may_be_available(name)

    asyncio.run(main())


class Held:
    """An owner that lets its first acquire answer only when it is told to."""

    def __init__(self, real):
        self._real = real
        self.taken, self.answer = threading.Event(), threading.Event()

    def __getattr__(self, attribute):
        return getattr(self._real, attribute)

    def acquire(self, *arguments):
        done = self._real.acquire(*arguments)
        if not self.taken.is_set():
            self.taken.set()
            assert self.answer.wait(60)
        return done


async def until(true):
    while not true():
        await asyncio.sleep(0.005)


def test_a_cancelled_task_leaves_what_another_is_told_it_has(url, name):
    async def main():
        mine = aio.Session(url)
        mine._owner = Held(mine._owner)
        cancelled = asyncio.create_task(mine.acquire(name))
        await until(mine._owner.taken.is_set)
        other = asyncio.create_task(mine.acquire(name))
        await asyncio.sleep(0.2)
        cancelled.cancel()
        await asyncio.sleep(0)
        mine._owner.answer.set()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await other is True
        assert await mine.renew(name) and not await aio.Session(url).acquire(name)
        # Nobody is told: nobody has it.
        await mine.release(name)
        mine._owner = Held(mine._owner)
        both = [asyncio.create_task(mine.acquire(name)) for _ in range(2)]
        await until(mine._owner.taken.is_set)
        for task in both:
            task.cancel()
        await asyncio.sleep(0)
        mine._owner.answer.set()
        for task in both:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await mine.may_be_available(name)

    asyncio.run(main())


def test_a_session_is_used_from_two_loops(url, name):
    mine = aio.Session(url)
    held = mine._owner = Held(mine._owner)

    def acquire(times):
        async def several():
            return await asyncio.wait_for(asyncio.gather(*(mine.acquire(name) for _ in range(times))), 60)

        return asyncio.run(several())

    with concurrent.futures.ThreadPoolExecutor(2) as loops:
        first = loops.submit(acquire, 2)
        try:
            assert held.taken.wait(60)
            # That of the other loop is neither awaited nor in the way.
            assert loops.submit(acquire, 2).result(120) == [True, True]
        finally:
            held.answer.set()
        assert first.result(60) == [True, True]
    gc.collect()
    assert not mine._turns


def test_a_second_cancel_while_all_threads_are_at_work_leaves_nothing_held(url, name):
    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        mine, free = aio.Session(url), threading.Event()
        mine._owner = Held(mine._owner)
        task = asyncio.create_task(mine.acquire(name))
        await until(mine._owner.taken.is_set)
        task.cancel()
        await asyncio.sleep(0)
        busy = asyncio.create_task(asyncio.to_thread(free.wait, 60))
        await asyncio.sleep(0)
        mine._owner.answer.set()
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.sleep(0)
        free.set()
        await busy
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await mine.may_be_available(name)

    asyncio.run(main())


def test_a_cancelled_release_goes_on_while_all_threads_are_at_work(url, name):
    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        mine, free = aio.Session(url), threading.Event()
        for release in lambda: mine.release(name), mine.release_all:
            assert await mine.acquire(name)
            free.clear()
            busy = asyncio.create_task(asyncio.to_thread(free.wait, 60))
            await asyncio.sleep(0)
            task = asyncio.create_task(release())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            free.set()
            await busy
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await mine.may_be_available(name)

    asyncio.run(main())


class Broken(Drawer):
    def release(self, ask):
        raise OSError("it is stuck")


def test_what_a_block_raises_counts_for_more_than_its_end():
    with pytest.raises(KeyError), Session(Store.custom(Broken())) as mine:
        assert mine.acquire("x")
        raise KeyError
    with pytest.raises(synlock.SynlockError), Session(Store.custom(Broken())) as mine:
        assert mine.acquire("x")


def test_what_a_block_of_a_task_raises_counts_for_more_than_its_end(name):
    async def main(error):
        async with aio.Session(f"memory:{name}") as mine:
            mine._owner = Stuck(mine._owner)
            assert await mine.acquire(name)
            raise error

    class Stuck(Held):
        def __init__(self, real):
            super().__init__(real)
            self.answer.set()

        def release_all(self, _):
            self._real.release_all(None)
            raise synlock.Unavailable

    with pytest.raises(KeyError):
        asyncio.run(main(KeyError()))
