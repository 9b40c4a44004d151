"""`synlock.symfony`, and the samples of Symfony's documentation of its Lock component in Python."""

import pickle
import subprocess
import sys
import threading

import pytest

import synlock
from synlock.symfony import Key, LockFactory


@pytest.fixture
def factory(url):
    return LockFactory(url)


def has_lease(factory):
    return factory.store.capabilities["ttl"]


# The samples, in the order of the documentation.


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


def test_expiring(factory):
    # create an expiring lock that lasts 30 seconds
    lock = factory.createLock("charts-generation", 30)
    lock.acquire()
    try:
        pass  # perform a job during less than 30 seconds
    finally:
        lock.release()
    assert not lock.isAcquired()


def test_refreshing(factory):
    lock = factory.createLock("charts-generation", 30)
    lock.acquire()
    try:
        for _ in range(3):
            # perform a small part of the job.

            # renew the lock for 30 more seconds.
            lock.refresh()
    finally:
        lock.release()


def test_another_ttl(factory):
    lock = factory.createLock("charts-generation", 30)
    lock.acquire()
    # refresh the lock for 30 seconds
    lock.refresh()
    # refresh the lock for 600 seconds; a lease is never shortened, so the next refresh() leaves it
    lock.refresh(600)
    lock.refresh()
    left = lock.getRemainingLifetime()
    assert (left > 590) if has_lease(factory) else left is None


def test_health(factory):
    lock = factory.createLock("invoice-publication", 30)
    lock.acquire()
    for _ in range(3):
        if (lock.getRemainingLifetime() or 0) <= 5:
            if lock.isExpired():
                # lock was lost, perform a rollback or send a notification
                raise RuntimeError("Lock lost during the overall process")
            lock.refresh()
        # Perform the task whose duration MUST be less than 5 minutes
    assert lock.isAcquired()


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
