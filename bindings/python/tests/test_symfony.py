"""`synlock.symfony`. The samples of Symfony's documentation: test_symfony_samples.py."""

import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_custom import Drawer

import synlock
from synlock.symfony import Key, LockFactory


@pytest.fixture
def factory(url):
    return LockFactory(url)


def has_lease(factory):
    return factory.store.capabilities["ttl"]


# Two samples of the documentation, on every store.


def test_usage(factory):
    lock = factory.createLock("pdf-invoice-generation")
    done = False
    if lock.acquire(False):
        # The resource "pdf-invoice-generation" is locked.
        # You can compute and generate invoice safely here.
        done = True
        lock.release()
    assert done


def test_blocking(factory):
    holder = factory.createLock("notification-flush")
    holder.acquire()
    threading.Timer(0.05, holder.release).start()
    lock = factory.createLock("notification-flush")
    assert lock.acquire(True)


# What the documentation says around them.


def test_acquire_can_be_called_repeatedly_and_instances_are_told_apart(factory):
    lock, other = factory.createLock("repeated"), factory.createLock("repeated")
    assert lock.acquire() and lock.acquire() and lock.acquire(True, 0.1)
    assert not other.acquire(False)
    assert not other.acquire(True, 0.05)
    assert lock.isAcquired() and not other.isAcquired()
    other.release()
    assert lock.isAcquired()
    lock.release()
    lock.release()
    assert other.acquire(False)


def test_a_lock_is_released_with_its_object(factory):
    lock = factory.createLock("dropped")
    lock.acquire()
    del lock
    assert factory.createLock("dropped").acquire(False)


def test_a_bare_acquire_waits_as_in_python(factory):
    for bare in (lambda lock: lock.acquire(), lambda lock: lock.acquireRead(), lambda lock: lock.__enter__()):
        holder, lock, got = factory.createLock("bare"), factory.createLock("bare"), []
        assert holder.acquire(False)
        waiter = threading.Thread(target=lambda bare=bare, lock=lock, got=got: got.append(bare(lock)))
        waiter.start()
        while factory.store.inspect("bare")["waiters"] != 1:
            time.sleep(0.01)
        assert not got
        holder.release()
        waiter.join(60)
        assert got == [True] or got == [lock]
        assert lock.isAcquired()
        lock.release()
    assert not lock.isAcquired()


def test_a_ttl_that_is_over_ends_the_hold_though_the_lease_was_longer(factory):
    if not has_lease(factory):
        return
    lock, other = factory.createLock("over", 30), factory.createLock("over", 30)
    assert lock.acquire(False)
    lock.refresh(600)
    lock.refresh(0.2)
    for _ in range(6000):
        if lock.isExpired():
            break
        time.sleep(0.01)
    assert lock.isExpired()
    assert lock.getRemainingLifetime() == 0
    assert not other.acquire(False), "a lease is never shortened"
    with pytest.raises(synlock.LockLost):
        lock.refresh()
    assert not lock.isAcquired()
    assert other.acquire(False), "what was over is given back"
    other.release()
    # An acquire begins anew.
    assert lock.acquire(False)
    lock.refresh(600)
    assert lock.acquire(False)
    assert lock.getRemainingLifetime() <= 30
    lock.refresh(600)
    lock.release()
    assert lock.acquire(False)
    assert lock.getRemainingLifetime() <= 30


def test_without_automatic_release_a_lease_stays(redis):
    program = "import sys, synlock.symfony as s; s.LockFactory(sys.argv[1]).createLock('kept', 30, False).acquire()"
    subprocess.run([sys.executable, "-c", program, redis], check=True)
    assert not LockFactory(redis).createLock("kept").acquire(False)


def test_readers(factory):
    a, b, writer = (factory.createLock("read") for _ in range(3))
    assert a.acquireRead() and b.acquireRead()
    assert not writer.acquire(False)
    assert not a.acquire(False), "another reads"
    assert a.isAcquired()
    b.release()
    assert a.acquire(False), "the only reader becomes the writer"
    assert not b.acquireRead(False)
    assert a.acquireRead()
    assert b.acquireRead(False)


def test_a_store_without_readers_takes_them_for_writers(tmp_path):
    factory = LockFactory(f"sysv:{tmp_path}")
    reader = factory.createLock("read")
    assert reader.acquireRead()
    assert not factory.createLock("read").acquireRead(False)


def test_a_lock_that_is_lost(url):
    factory = LockFactory(url)
    lock = factory.createLock("lost", 30)
    with pytest.raises(synlock.NotHeld):
        lock.refresh()
    lock.acquire()
    factory.store.break_lock("lost")
    with pytest.raises(synlock.LockLost):
        lock.refresh()
    assert not lock.isAcquired()
    assert lock.isExpired()
    lock.release()
    assert lock.acquire(False)


def test_without_a_ttl(factory):
    lock = factory.createLock("no ttl", None)
    lock.acquire()
    with pytest.raises(synlock.InvalidArgument):
        lock.refresh()


def test_as_a_context(factory):
    with factory.createLock("context") as lock:
        assert lock.isAcquired()
    assert not lock.isAcquired()


def test_what_a_block_raises_counts_for_more_than_its_end():
    class Broken(Drawer):
        def release(self, ask):
            raise OSError("it is stuck")

    factory = LockFactory(synlock.Store.custom(Broken()))
    with pytest.raises(KeyError), factory.createLock("x", None):
        raise KeyError
    with pytest.raises(synlock.SynlockError), factory.createLock("y", None):
        pass


def test_a_store_is_taken_as_well_as_a_url(url):
    store = synlock.Store(url)
    assert LockFactory(store).store is store


def test_a_quorum_grants_the_default_ttl(tmp_path):
    members = ",".join(f"sqlite:{tmp_path / name}.db" for name in "abc")
    lock = LockFactory(f"quorum:({members})").createLock("quorum")
    assert lock.acquire(False)
    assert lock.getRemainingLifetime() > 250


def test_locks_of_one_key_are_one_owner(factory):
    key = Key("shared key")
    one, two, other = factory.createLockFromKey(key), factory.createLockFromKey(key), factory.createLock("shared key")
    assert one.acquire(False) and two.isAcquired() and two.acquire(False) and not other.acquire(False)
    two.refresh(600)
    assert one.getRemainingLifetime() == pytest.approx(two.getRemainingLifetime(), abs=5)
    two.release()
    assert not one.isAcquired() and other.acquire(False)
    assert str(key) == "shared key" and str(Key(b"x\xff")) == "x\\xff"


@pytest.mark.parametrize("take", ["acquire", "acquireRead"])
def test_threads_may_use_a_lock_in_turn(factory, take):
    lock, other = factory.createLock("in turn", 60), factory.createLock("in turn")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        for first, second in (one, two), (two, one), (one, two):
            assert first.submit(getattr(lock, take), False).result(60)
            # It has the lock, whoever asks.
            assert second.submit(lock.isAcquired).result(60)
            assert second.submit(lock.acquire, False).result(60)
            second.submit(lock.refresh).result(60)
            assert not other.acquire(False)
            second.submit(lock.release).result(60)
            assert other.acquire(False)
            other.release()


def test_a_release_that_is_refused_may_be_repeated():
    asked, answer = threading.Event(), threading.Event()

    class Slow(Drawer):
        def is_held(self, ask):
            if threading.current_thread() is not threading.main_thread():
                asked.set()
                assert answer.wait(60)
            return super().is_held(ask)

    factory = LockFactory(synlock.Store.custom(Slow()))
    lock = factory.createLock("busy", None)
    lock.acquire()
    asking = threading.Thread(target=lock.isAcquired)
    asking.start()
    assert asked.wait(60)
    with pytest.raises(synlock.ConcurrentUse):
        lock.release()
    answer.set()
    asking.join(60)
    assert lock.isAcquired()
    lock.release()
    assert factory.createLock("busy", None).acquire(False)


def test_a_lock_of_a_key_is_released_with_its_object(factory):
    key = Key("with its object")
    lock = factory.createLockFromKey(key)
    assert lock.acquire(False)
    del lock
    assert factory.createLock("with its object").acquire(False)
    kept = factory.createLockFromKey(key := Key("kept by its key"), autoRelease=False)
    assert kept.acquire(False)
    del kept
    assert not factory.createLock("kept by its key").acquire(False)
    factory.createLockFromKey(key).release()


def test_a_lock_of_a_key_frees_what_it_has_acquired_and_nothing_else(factory):
    key = Key("one of two")
    holder, other = factory.createLockFromKey(key), factory.createLock("one of two")
    assert holder.acquire(False)
    idle = factory.createLockFromKey(key)
    assert idle.isAcquired()
    del idle
    assert holder.isAcquired()
    assert not other.acquire(False)
    holder.release()
    # What the other one of the key has acquired since is not its own.
    successor = factory.createLockFromKey(key)
    assert successor.acquire(False)
    del holder
    assert successor.isAcquired()
    again = factory.createLockFromKey(key)
    assert again.acquire(False)
    del again
    assert other.acquire(False), "an acquire that finds the key's hold makes it the object's own, as Symfony's does"


WORKER = """
import pickle, sys
from synlock.symfony import LockFactory
factory = LockFactory(sys.argv[1])
lock = factory.createLockFromKey(pickle.loads(bytes.fromhex(sys.argv[2])), 60)
print(lock.isAcquired(), factory.createLock(lock._key.resource).acquire(False), flush=True)
lock.refresh(120)
sys.stdin.read()
lock.release()
"""


@pytest.mark.parametrize("kind", ["shm", "redis"])
def test_a_pickled_key_hands_its_hold_over(kind, request, tmp_path):
    url = f"shm:{tmp_path / 'segment'}" if kind == "shm" else request.getfixturevalue("redis")
    factory = LockFactory(url)
    key = Key("travels")
    lock = factory.createLockFromKey(key, 60)
    assert lock.acquire(False)
    sent = pickle.dumps(key)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, url, sent.hex()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout.readline() == "True False\n"
    # Whoever comes second has nothing, and is told so.
    with pytest.raises(synlock.LockLost):
        lock.refresh()
    assert not lock.isAcquired() and lock.isExpired()
    copy = factory.createLockFromKey(pickle.loads(sent))
    assert not copy.isAcquired() and not copy.acquire(False)
    copy.release()
    del copy
    assert not factory.createLock("travels").acquire(False)
    worker.communicate("")
    assert worker.returncode == 0
    assert lock.acquire(False) and not lock.isExpired()


def test_a_pickled_key_takes_its_last_ttl_along(redis):
    factory = LockFactory(redis)
    lock = factory.createLockFromKey(key := Key("taken along"), 30)
    assert lock.acquire(False)
    lock.refresh(600)
    lock.refresh()
    copy = factory.createLockFromKey(pickle.loads(pickle.dumps(key)), 30)
    assert copy.isAcquired()
    assert 0 < copy.getRemainingLifetime() <= 31
    copy.release()


def test_a_key_travels_on(redis):
    factory = LockFactory(redis)
    lock, keys = factory.createLockFromKey(key := Key("travels on"), 60), []
    assert lock.acquire(False)
    for _ in range(3):
        key = pickle.loads(pickle.dumps(key))
        keys.append(key)
        lock = factory.createLockFromKey(key, 60)
        lock.refresh()
        assert lock.isAcquired()
        assert not factory.createLock("travels on").acquire(False)
    for late in keys[:-1]:
        assert not factory.createLockFromKey(late).isAcquired()
    assert lock.isAcquired()
    # What an object has taken by adopting it goes with that object, though its key stays.
    del lock
    assert factory.createLock("travels on").acquire(False)


def test_a_pickled_key_that_nobody_took_is_still_held(redis):
    factory = LockFactory(redis)
    lock = factory.createLockFromKey(key := Key("taken back"), 60)
    assert lock.acquire(False)
    assert pickle.loads(pickle.dumps(key)).resource == "taken back"
    assert not factory.createLock("taken back").acquire(False)
    assert lock.isAcquired()
    lock.release()
    assert factory.createLock("taken back").acquire(False)
    assert not LockFactory(redis).createLockFromKey(pickle.loads(pickle.dumps(Key("free")))).isAcquired()


@pytest.mark.parametrize("kind", ["memory", "flock"])
def test_a_hold_that_ends_with_its_process_is_not_pickled(kind, tmp_path):
    url = "memory:pickled" if kind == "memory" else f"flock:{tmp_path}"
    lock = LockFactory(url).createLockFromKey(key := Key("stays"))
    assert lock.acquire(False)
    with pytest.raises(synlock.Unsupported):
        pickle.dumps(key)
    assert lock.isAcquired()
