import asyncio
import concurrent.futures
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import briefly, patient

import synlock
from synlock import _gevent, _synlock
from synlock.symfony import LockFactory


def test_threading_signatures(url, name):
    lock = synlock.Lock(url, name)
    assert lock.acquire() is True
    assert lock.locked() and lock.state == "held"
    # It contends with everybody, itself included.
    assert lock.acquire(False) is False
    assert briefly(lambda seconds: lock.acquire(timeout=seconds)) is False
    lock.release()
    assert not lock.locked()
    with pytest.raises(synlock.NotHeld):
        lock.release()
    with pytest.raises(ValueError):
        lock.acquire(False, 1)
    with pytest.raises(ValueError):
        lock.acquire(True, -2)


def test_with_and_timeout(url, name):
    store = synlock.Store(url)
    with store.lock(name) as lock:
        lock.ensure_held()
        assert lock.is_acquired() and store.is_locked(name)
        with pytest.raises(synlock.LockTimeout) as caught:
            briefly(lambda seconds: synlock.Lock(url, name, timeout=seconds).__enter__())
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.status, caught.value.code, caught.value.retriable) == (2, "TIMEOUT", True)
    assert not store.is_locked(name)


@pytest.mark.parametrize("bare", ["acquire", "with", "manager", "factory"])
def test_a_bare_acquire_waits(bare, url, name):
    store = synlock.Store(url)
    holder = store.lock(name)
    holder.acquire()
    manager = synlock.SemaphoreManager(store, prefix="")
    acquire = {
        "acquire": store.lock(name).acquire,
        "with": store.lock(name).__enter__,
        "manager": lambda: manager.acquire(name),
        "factory": LockFactory(store).createLock(name).acquire,
    }[bare]
    got = []
    thread = threading.Thread(target=lambda: got.append(acquire()))
    thread.start()
    while store.inspect(name)["waiters"] != 1:
        time.sleep(0.005)
    assert not got
    holder.release()
    thread.join(60)
    assert len(got) == 1
    assert store.is_locked(name)


def test_a_session_waits_only_when_it_is_told_to(url, name):
    with synlock.Lock(url, name), synlock.Session(url) as session:
        assert session.acquire(name) is False


def test_decorator(url, name):
    store = synlock.Store(url)

    @store.lock(name)
    def work(value):
        assert store.is_locked(name)
        return value + 1

    assert work(1) == 2
    assert work.__name__ == "work"
    assert not store.is_locked(name)


def test_eight_threads_on_one_object_never_overlap(url, name):
    lock, inside, total = synlock.Lock(url, name), [], []

    def work():
        for _ in range(10):
            with lock:
                inside.append(1)
                assert len(inside) == 1
                total.append(1)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(total) == 80


def test_release_from_another_thread(url, name):
    lock = synlock.Lock(url, name)
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.acquire(False)
    lock.release()


def test_the_interpreter_is_free_while_waiting(url, name):
    held = synlock.Lock(url, name)
    held.acquire()
    waiter = threading.Thread(target=synlock.Lock(url, name).acquire, args=(True, 0.5))
    waiter.start()
    count = 0
    while waiter.is_alive():
        count += 1
    assert count > 1000
    held.release()


def test_loss(url, name):
    store = synlock.Store(url)
    lock = store.lock(name)
    told = threading.Event()
    with pytest.raises(synlock.LockLost):
        with lock:
            lock.on_lost(told.set)
            assert store.break_lock(name)
            with pytest.raises(synlock.LockLost):
                lock.ensure_held()
            assert lock.lost
    assert told.wait(60)
    # The body's own exception is not hidden by the loss.
    with pytest.raises(ZeroDivisionError):
        with lock:
            store.break_lock(name)
            1 / 0  # noqa: B018


def test_shared_and_promotion(url, name):
    store = synlock.Store(url)
    first, second = store.lock(name, shared=True), store.lock(name, shared=True)
    first.acquire()
    second.acquire()
    assert not store.lock(name).acquire(False)
    assert first.promote() is False
    first.ensure_held()
    second.release()
    assert first.promote() is True
    assert not second.acquire(False)
    first.demote()
    assert second.acquire(False)


def test_leases(redis, name):
    store = synlock.Store(redis)
    lock = store.lock(name, ttl=30)
    with lock:
        assert 28 < lock.remaining <= 30
        lock.refresh(60)
        assert lock.remaining > 50
        first = lock.fencing_token
        assert isinstance(first, int) and first > 0
    with lock:
        assert lock.fencing_token > first
    assert lock.remaining is None and lock.fencing_token is None
    with store.lock(name) as renewed:
        assert 25 < renewed.remaining < 30


def test_permits(redis, name):
    store = synlock.Store(redis)
    pool = store.lock(name, permits=(1, 2))
    assert pool.acquire() and pool.acquire() and not pool.acquire(False)
    pool.release()
    assert pool.acquire(False)


def test_hand_over(redis, name):
    store = synlock.Store(redis)
    lock = store.lock(name, ttl=30)
    lock.acquire()
    text = lock.export()
    heir = synlock.Store(redis).adopt(text, ttl=30)
    assert heir.locked() and not lock.locked()
    with pytest.raises(synlock.LockLost):
        store.adopt(text)
    heir.release()


def test_exceptions_are_one_tree(tmp_path, name):
    for _number, _code, klass, _text, _retriable in _synlock.codes():
        if klass:
            assert issubclass(getattr(synlock, klass), synlock.SynlockError), klass
    for bad, wanted in [
        ("foo:x", synlock.InvalidUrl),
        ("memory:?tll=1", synlock.InvalidArgument),
        ("", synlock.InvalidUrl),
    ]:
        with pytest.raises(wanted) as caught:
            synlock.Store(bad)
        assert caught.value.status >= 100
    with pytest.raises(synlock.InvalidUrl, match="memory"):
        synlock.Store("foo:x")
    with pytest.raises(synlock.Unsupported):
        synlock.Lock(f"flock:{tmp_path}", name, ttl=5)
    refreshed = synlock.Lock("memory:", name, ttl=5)
    refreshed.acquire()
    for ttl in [0, -0.001, -1, -1e9, float("-inf"), float("nan")]:
        with pytest.raises(synlock.InvalidArgument):
            synlock.Lock("memory:", name, ttl=ttl)
        with pytest.raises(synlock.InvalidArgument):
            refreshed.refresh(ttl)
    # A refusal leaves the lease as it was.
    assert 0 < refreshed.remaining <= 5
    refreshed.release()
    with pytest.raises(synlock.InvalidArgument):
        synlock.Lock("memory:", "")
    with pytest.raises(synlock.Unavailable) as caught:
        synlock.Store("redis://127.0.0.1:1?io_timeout=50").ping()
    assert isinstance(caught.value, ConnectionError) and caught.value.retriable
    # A panic of ours is an exception that `except Exception` sees.
    with pytest.raises(synlock.InternalError):
        _synlock._panic()


def test_pickling(url, name):
    store = pickle.loads(pickle.dumps(synlock.Store(url)))
    lock = pickle.loads(pickle.dumps(store.lock(name, timeout=1)))
    with lock:
        with pytest.raises(TypeError):
            pickle.dumps(lock)
        assert not synlock.Lock(url, name).acquire(False)


def test_inspection(url, name):
    store = synlock.Store(url)
    with store.lock(name, label="nightly"):
        found = store.inspect(name)
        assert found["holders"][0]["label"] == "nightly"
        rows, cursor = store.list(name)
        assert [row["name"] for row in rows] == [name.encode()] and cursor is None
        assert store.wait_free(name, 0.05) is False
    assert store.wait_free(name, 1) is True
    store.ping(1)


def test_a_name_is_text_or_bytes(url, name):
    store = synlock.Store(url)
    for bad in (5, 5.0, None, ["a"], True):
        with pytest.raises(TypeError, match="str or bytes"):
            store.lock(bad)
        with pytest.raises(TypeError, match="str or bytes"):
            store.is_locked(bad)
    with store.lock(bytearray(name.encode())):
        assert store.is_locked(name) and store.is_locked(memoryview(name.encode()))


def test_check(tmp_path, name):
    path = tmp_path / "segment"
    url = f"shm:{path}?slots=16"
    store = synlock.Store(url)
    assert store.check() == [] and not path.exists()
    left = f"import os, synlock; lock = synlock.Lock({url!r}, {name!r}); lock.acquire(); os._exit(0)"
    subprocess.run([sys.executable, "-c", left], check=True)
    assert sorted(found.split(":")[0] for found in store.check()) == ["holder", "slot"]
    with store.lock(name):
        assert store.check() == []
    assert asyncio.run(synlock.aio.Store(url).check()) == []
    with pytest.raises(synlock.Unsupported):
        synlock.Store("memory:").check()


def test_events(url, name):
    store = synlock.Store(url)
    heard = []
    observer = store.observe(heard.append)
    with store.lock(name):
        pass
    store.unobserve(observer)
    assert [event["kind"] for event in heard] == ["acquired", "released"]
    assert heard[0]["resource"] == name.encode()


def test_a_dropped_lock_is_released(url, name):
    store = synlock.Store(url)
    lock = store.lock(name)
    lock.acquire()
    del lock
    gc.collect()
    assert store.lock(name).acquire(False)
    kept = store.lock(name + "-kept", auto_release=False)
    kept.acquire()
    del kept
    gc.collect()
    assert not store.lock(name + "-kept").acquire(False)


def test_defaults(name):
    lock = synlock.Lock("memory:", name)
    start = time.monotonic()
    lock.acquire()
    assert lock.remaining is None and time.monotonic() - start < 60
    lock.release()


def test_an_adopted_lock_has_the_exported_name_and_mode(redis, name):
    store = synlock.Store(redis)
    for given, options in [(name, {}), (b"\xff" + name.encode(), {}), (name + "-s", {"shared": True})]:
        lock = store.lock(given, ttl=30, **options)
        lock.acquire()
        heir = store.adopt(lock.export(), ttl=30)
        assert heir.name == given and heir.locked()
        # What it acquires next is the same lock.
        assert heir.acquire(False) is bool(options)
        if options:
            heir.release()
        heir.release()
        with pytest.raises(synlock.NotHeld) as caught:
            heir.release()
        assert "adopted" not in str(caught.value) and str(caught.value.resource) in str(caught.value)
        assert not store.is_locked(given)
        with heir:
            assert store.is_locked(given)
    pool = store.lock(name + "-p", permits=(1, 2), ttl=30)
    pool.acquire()
    heir = store.adopt(pool.export(), ttl=30)
    assert heir.acquire(False) and not heir.acquire(False)


def test_a_function_that_returns_before_it_is_done_is_not_decorated(name):
    async def coroutine():
        pass

    def generator():
        yield

    async def both():
        yield

    for function in coroutine, generator, both:
        with pytest.raises(TypeError, match=function.__name__):
            synlock.Lock(f"memory:{name}", name)(function)


def test_a_late_thread_leaves_the_next_hold_alone(url, name):
    lock = synlock.Lock(url, name)
    entered, released = threading.Event(), threading.Event()

    def second():
        with lock:
            entered.set()
            assert released.wait(60)

    thread = threading.Thread(target=second)
    with lock:
        lock.release()
        thread.start()
        assert entered.wait(60)
        for late in [lock.release, lock.refresh, lock.ensure_held]:
            with pytest.raises(synlock.NotHeld):
                late()
        assert not lock.is_acquired() and lock.fencing_token is None and lock.state == "idle"
    # Leaving the block has not released the other thread's hold either.
    assert lock.store.is_locked(name)
    released.set()
    thread.join(60)
    assert not lock.store.is_locked(name)


def test_a_block_is_left_though_another_thread_waits_for_a_promotion(name):
    store = synlock.Store(f"memory:{name}")
    lock, reader = store.lock(name, shared=True), store.lock(name, shared=True)
    reader.acquire()
    ended = []

    def promote():
        with pytest.raises(synlock.NotHeld):
            lock.promote(None)
        ended.append(True)

    promoting = threading.Thread(target=promote)
    with pytest.raises(KeyError), lock:
        promoting.start()
        time.sleep(0.1)
        raise KeyError
    promoting.join(60)
    assert ended and not lock.locked()
    reader.release()
    assert not store.is_locked(name)


def test_a_promotion_whose_hold_was_released_leaves_the_next_one_alone(name, monkeypatch):
    store = synlock.Store(f"memory:{name}")
    lock, reader = store.lock(name, shared=True), store.lock(name, shared=True)
    reader.acquire()
    ended, asked, pause = [], threading.Event(), _gevent.pause
    monkeypatch.setattr(_gevent, "pause", lambda seconds: (asked.set(), pause(seconds)))

    def promote():
        with pytest.raises(synlock.NotHeld):
            lock.promote(None)
        ended.append(True)

    promoting = threading.Thread(target=promote)
    with lock:
        promoting.start()
        assert asked.wait(60)
    assert lock.acquire(False)
    reader.release()
    promoting.join(60)
    assert ended and store.inspect(name)["holders"][0]["mode"] == "shared"
    lock.release()


@pytest.mark.parametrize("timeout", [None, 100])
def test_a_promotion_gives_a_server_its_time(own_redis, name, timeout):
    url, pid = own_redis
    store = synlock.Store(patient(url))
    lock, reader = (store.lock(name, shared=True, ttl=120) for _ in range(2))
    assert lock.acquire() and reader.acquire()
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        promoted = other.submit(lock.promote, timeout)
        time.sleep(0.1)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)
        reader.release()
        assert promoted.result(60) is True
    lock.release()


def test_auto_release_can_be_switched(url, name):
    store = synlock.Store(url)
    for on in [True, False]:
        lock = store.lock(name, auto_release=not on)
        lock.acquire()
        lock.set_auto_release(on)
        assert not lock.is_expired() and pickle.loads(pickle.dumps(store)).url == store.url
        del lock
        gc.collect()
        assert store.lock(name).acquire(False) is on


def test_is_expired(redis, name):
    lock = synlock.Lock(redis, name, ttl=2)
    lock.acquire()
    assert not lock.is_expired()
    time.sleep(2.1)
    assert lock.is_expired() and lock.lost and lock.state == "expired" and not lock.is_acquired()


def test_pickles_keep_their_kind(url, name):
    for store in [synlock.Store(url), synlock.aio.Store(url)]:
        again = pickle.loads(pickle.dumps(store.lock(name, ttl=None, label="x")))
        assert type(again).__module__ == type(store.lock(name)).__module__
        assert type(again.store) is type(store) and again.store.fingerprint == store.fingerprint


def test_truth_and_numbers_of_any_kind(url, name):
    lock = synlock.Lock(url, name)
    assert lock.acquire(0) is True and lock.acquire(None) is False
    lock.release()
    assert lock.acquire(1, timeout=60) is True
    assert synlock.Lock(url, name).acquire(True, 0) is False
    lock.release()
    with pytest.raises(synlock.InvalidArgument):
        lock.acquire(timeout=float("nan"))
    with pytest.raises(TypeError):
        lock.acquire(timeout="soon")
    assert not lock.locked()


def test_readers_in_two_threads_release_their_own(url, name):
    lock = synlock.Lock(url, name, shared=True)
    turns = [threading.Event() for _ in range(4)]
    states = []

    def second():
        lock.acquire()
        turns[0].set()
        turns[1].wait(60)
        states.append(lock.state)
        lock.release()
        turns[2].set()
        turns[3].wait(60)
        states.append(lock.state)

    thread = threading.Thread(target=second)
    # The first of two in each thread: once through the long way, then again through the short one.
    for _ in range(2):
        lock.acquire()
        lock.release()
    lock.acquire()
    thread.start()
    assert turns[0].wait(60)
    # The newest hold is the other thread's.
    lock.release()
    assert lock.state == "idle" and lock.locked()
    with pytest.raises(synlock.NotHeld):
        lock.release()
    turns[1].set()
    assert turns[2].wait(60)
    assert not lock.locked()
    lock.acquire()
    turns[3].set()
    thread.join(60)
    assert states == ["held", "idle"]
    lock.release()
    assert not synlock.Store(url).is_locked(name)


def test_tells_how_each_acquire_went(url, name):
    lock = synlock.Lock(url, name)
    assert lock.last_acquired is None
    for _ in range(3):
        with lock:
            how = lock.last_acquired
            assert (how.contended, how.attempts, how.recovered) == (False, 1, False)
    holder = synlock.Lock(url, name)
    holder.acquire()
    threading.Timer(0.05, holder.release).start()
    with lock:
        assert lock.last_acquired.contended and lock.last_acquired.waited > 0


def test_a_held_lock_in_a_circle_is_collected(url, name):
    lock = synlock.Lock(url, name)
    for _ in range(2):
        lock.acquire()
        lock.release()
    lock.acquire()
    lock.itself = lock
    del lock
    gc.collect()
    assert synlock.Lock(url, name).acquire(timeout=60)


def test_what_is_required_of_a_store():
    synlock.Store("memory:", require="fence,crash_release").lock("x")
    store = synlock.Store("memory:?require=quorum")
    for refused in [store.ping, lambda: store.lock("x")]:
        with pytest.raises(synlock.Unsupported, match="quorum"):
            refused()
    with pytest.raises(synlock.InvalidArgument):
        synlock.Store("memory:", require="wings")


def test_a_lock_delay_follows_an_unclean_end(name):
    store = synlock.Store("memory:", lock_delay=60_000)
    dead, heir = store.lock(name, ttl=0.05), store.lock(name, ttl=5)
    dead.acquire()
    time.sleep(0.1)
    assert dead.lost and not heir.acquire(blocking=False)
    dead.release()
    assert heir.acquire(blocking=False)
