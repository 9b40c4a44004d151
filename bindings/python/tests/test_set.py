"""Several locks at once: all or none."""

import asyncio
import concurrent.futures
import contextlib
import gc
import signal
import threading
import time

import pytest
from conftest import abriefly, briefly
from test_custom import Drawer

import synlock
from synlock import aio


def names(name):
    return [f"{name}/{letter}" for letter in "cab"]


def test_a_set_is_whole(url, name):
    store = synlock.Store(url)
    locks = [store.lock(each) for each in names(name)]
    others = [store.lock(each) for each in names(name)]
    accounts = synlock.LockSet(*locks)
    with accounts as entered:
        assert entered is accounts and accounts.locked()
        assert all(lock.locked() for lock in locks)
        assert not any(other.acquire(False) for other in others)
        accounts.ensure_held()
        assert accounts.last_acquired.contended is False
        # It contends with everybody, itself included.
        assert accounts.acquire(False) is False
        assert accounts.locked()
    assert not accounts.locked() and not any(lock.locked() for lock in locks)
    with pytest.raises(synlock.NotHeld):
        accounts.release()
    with pytest.raises(ValueError):
        accounts.acquire(False, 1)


def test_a_refused_set_holds_nothing(url, name):
    store = synlock.Store(url)
    accounts = synlock.LockSet(*[store.lock(each) for each in names(name)])
    for other in [store.lock(each) for each in names(name)]:
        with other:
            assert accounts.acquire(False) is False
            assert briefly(lambda seconds: accounts.acquire(timeout=seconds)) is False
            assert not any(lock.locked() for lock in accounts.locks)
        with accounts, pytest.raises(synlock.LockTimeout, match="set of"):
            synlock.LockSet(*accounts.locks, timeout=0.02).__enter__()


def test_a_set_waits(url, name):
    store = synlock.Store(url)
    held = [store.lock(each) for each in names(name)]
    for lock in held:
        lock.acquire()
    got = []

    def work():
        with synlock.LockSet(*[store.lock(each) for each in names(name)]) as accounts:
            got.append(accounts.last_acquired.contended)

    thread = threading.Thread(target=work)
    thread.start()
    for lock in held:
        time.sleep(0.03)
        assert not got
        lock.release()
    thread.join(60)
    assert got == [True]


def test_a_set_is_of_locks_of_any_mode_and_store(url, name):
    store, other = synlock.Store(url), synlock.Store("memory:")
    with synlock.LockSet(store.lock(name, shared=True), other.lock(name)):
        assert store.lock(name, shared=True).acquire(False)
        assert not store.lock(name).acquire(False) and not other.lock(name).acquire(False)


def test_a_set_that_is_dropped_gives_back_what_is_to_be_released(url, name):
    store = synlock.Store(url)
    kept, other = store.lock(f"{name}/kept", auto_release=False), store.lock(f"{name}/other")
    accounts = synlock.LockSet(kept, other)
    assert accounts.acquire()
    del accounts
    gc.collect()
    assert (kept.state, other.state) == ("held", "idle")
    kept.release()

    async def main():
        store = aio.Store(url)
        accounts = aio.LockSet(store.lock(f"{name}/other"))
        assert await accounts.acquire()
        del accounts
        gc.collect()
        assert await store.lock(f"{name}/other").acquire(timeout=60)

    asyncio.run(main())


def test_bad_sets_are_refused(url, name):
    store = synlock.Store(url)
    with pytest.raises(synlock.InvalidArgument):
        synlock.LockSet()
    with pytest.raises(synlock.InvalidArgument, match="one name"):
        synlock.LockSet(store.lock(name), store.lock(name))
    with pytest.raises(ValueError):
        synlock.LockSet(store.lock(name), timeout=-1)


def test_an_exception_of_a_signal_leaves_nothing_held(url, name):
    store = synlock.Store(url)
    last = store.lock(names(name)[0])
    last.acquire()

    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Alarm):
            synlock.LockSet(*[store.lock(each) for each in names(name)]).acquire()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert all(store.lock(each).acquire(timeout=60) for each in names(name)[1:])


def test_a_late_thread_leaves_the_next_hold_of_a_set_alone(url, name):
    store = synlock.Store(url)
    accounts = synlock.LockSet(*[store.lock(each) for each in names(name)])
    entered, leave = threading.Event(), threading.Event()

    def second():
        with accounts:
            entered.set()
            assert leave.wait(60)
            accounts.ensure_held()

    with concurrent.futures.ThreadPoolExecutor(1) as other:
        with accounts:
            accounts.release()
            done = other.submit(second)
            assert entered.wait(60)
            for late in accounts.release, accounts.ensure_held:
                with pytest.raises(synlock.NotHeld):
                    late()
        # Leaving the block has not released the other thread's hold either.
        assert store.is_locked(names(name)[0])
        leave.set()
        done.result(60)
        assert not store.is_locked(names(name)[0])
        # Who never had one may use and release another's.
        accounts.acquire()
        helper = threading.Thread(target=lambda: (accounts.ensure_held(), accounts.release()))
        helper.start()
        helper.join(60)
        assert not store.is_locked(names(name)[0])


def test_a_late_task_leaves_the_next_hold_of_a_set_alone(url, name):
    async def main():
        store = aio.Store(url)
        accounts = aio.LockSet(*[store.lock(each) for each in names(name)])
        entered, leave = asyncio.Event(), asyncio.Event()

        async def second():
            async with accounts:
                entered.set()
                await leave.wait()
                await accounts.ensure_held()

        async with accounts:
            await accounts.release()
            task = asyncio.create_task(second())
            await entered.wait()
            for late in accounts.release, accounts.ensure_held:
                with pytest.raises(synlock.NotHeld):
                    await late()
        assert await store.is_locked(names(name)[0])
        leave.set()
        await task
        await accounts.acquire()
        await asyncio.create_task(accounts.ensure_held())
        await asyncio.create_task(accounts.release())
        assert not await store.is_locked(names(name)[0])

    asyncio.run(main())


def test_a_release_that_is_refused_leaves_the_locks_to_whoever_has_them():
    asked, answer = threading.Event(), threading.Event()

    class Slow(Drawer):
        def is_held(self, ask):
            if threading.current_thread() is not threading.main_thread():
                asked.set()
                assert answer.wait(60)
            return super().is_held(ask)

    store = synlock.Store.custom(Slow())
    locks = store.lock("x"), store.lock("y")
    accounts = synlock.LockSet(*locks)
    accounts.acquire()
    asking = threading.Thread(target=locks[1].ensure_held)
    asking.start()
    assert asked.wait(60)
    with pytest.raises(synlock.ConcurrentUse):
        accounts.release()
    answer.set()
    asking.join(60)
    for lock in locks:
        lock.ensure_held()
    accounts.release()
    assert not any(lock.locked() for lock in locks)


def test_sets_of_tasks(url, name):
    async def main():
        store = aio.Store(url)
        accounts = aio.LockSet(*[store.lock(each) for each in names(name)])
        async with accounts:
            assert accounts.locked()
            await accounts.ensure_held()
            assert not await store.lock(names(name)[1]).acquire(False)
            rival = aio.LockSet(*[store.lock(each) for each in names(name)])
            assert await rival.acquire(False) is False
            assert await abriefly(lambda seconds: rival.acquire(timeout=seconds)) is False
            waiting = asyncio.create_task(rival.acquire())
            await asyncio.sleep(0.05)
        assert await waiting is True and rival.last_acquired.contended
        # A task that is cancelled holds nothing.
        lost = asyncio.create_task(accounts.acquire())
        await asyncio.sleep(0.05)
        lost.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await lost
        await rival.release()
        async with accounts:
            pass
        with pytest.raises(synlock.NotHeld):
            await accounts.release()

    asyncio.run(main())
