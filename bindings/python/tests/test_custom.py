import asyncio
import contextlib
import gc
import pathlib
import pickle
import subprocess
import sys
import threading
import time
import weakref

import pytest

import synlock
from synlock import guard, symfony


class Drawer:
    """Locks in a dict."""

    frees_on_death = True
    fence = "E"

    def __init__(self):
        self.holds = {}
        self.fences = 0
        self.threads = set()
        self.asked = []
        self.mutex = threading.Lock()

    def attempt(self, ask):
        self.threads.add(threading.current_thread())
        self.asked.append(ask)
        with self.mutex:
            owner, until, _ = self.holds.get(ask.name, (None, None, None))
            taken = owner not in (None, ask.owner) and (until is None or until > time.monotonic())
            if taken:
                return synlock.Busy(until=until and until - time.monotonic(), poll=0.005)
            self.fences += 1
            self.holds[ask.name] = (ask.owner, ask.ttl and time.monotonic() + ask.ttl, ask)
            return synlock.Granted(self.fences)

    def release(self, ask):
        self.threads.add(threading.current_thread())
        with self.mutex:
            return self.is_held(ask) and bool(self.holds.pop(ask.name))

    def is_held(self, ask):
        return self.holds.get(ask.name, (None,))[0] == ask.owner


class Cabinet(Drawer):
    """With all there is."""

    scope = "host"

    def extend(self, ask):
        if not self.is_held(ask):
            return False
        _, until, first = self.holds[ask.name]
        self.holds[ask.name] = (ask.owner, max(until, time.monotonic() + ask.ttl), first)
        return True

    def holder(self, name):
        owner, until, ask = self.holds[name]
        return {"owner": owner, "label": ask.label, "pid": 7, "remaining": until and until - time.monotonic()}

    def inspect(self, ask):
        return [self.holder(ask.name)] if ask.name in self.holds else []

    def list(self, ask):
        return [{"name": n, "holders": [self.holder(n)]} for n in self.holds if n.startswith(ask.name)]

    def break_lock(self, ask):
        return self.holds.pop(ask.name, None) is not None

    def ping(self, ask):
        raise OSError("the cabinet is locked")


def test_an_object_becomes_a_store():
    drawer = Drawer()
    store = synlock.Store.custom(drawer, "drawer")
    assert store.url == "custom:drawer" and repr(store) == "<synlock.Store custom:drawer>"
    can = store.capabilities
    assert (can["store"], can["fence"], can["ttl"], can["list"]) == ("custom", "E", False, False)
    with store.lock("x", label="mine") as lock:
        assert lock.fencing_token == 1 and lock.is_acquired()
        asked = drawer.asked[-1]
        assert (asked.name, asked.mode, asked.ttl, asked.label) == (b"x", "exclusive", None, "mine")
        assert asked.owner == lock.owner_token and len(asked.owner) == 32
        assert not store.lock("x").acquire(blocking=False)
        assert not store.lock("x").acquire(timeout=0.03)
        assert store.lock("y").acquire(blocking=False)
    assert b"x" not in drawer.holds
    store.ping()
    with pytest.raises(synlock.Unsupported):
        store.inspect("x")
    with pytest.raises(synlock.Unsupported):
        store.lock("x", ttl=1)


def test_a_wait_is_answered_on_the_callers_thread():
    drawer = Drawer()
    store = synlock.Store.custom(drawer)
    first = store.lock("x")
    first.acquire()
    got = []

    def wait():
        with store.lock("x"):
            got.append(threading.current_thread())

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)
    first.release()
    waiter.join(20)
    assert got == [waiter]
    assert drawer.threads == {threading.current_thread(), waiter}


def test_leases_inspection_and_breaking():
    cabinet = Cabinet()
    store = synlock.Store.custom(cabinet, ttl=30_000)
    lock = store.lock("invoice 1", label="a label")
    lock.acquire()
    assert 25 < lock.remaining <= 30
    lock.refresh(90)
    assert lock.remaining > 80
    (holder,) = store.inspect("invoice 1")["holders"]
    assert (holder["owner"], holder["label"], holder["pid"]) == (lock.owner_token[:8], "a label", 7)
    assert holder["remaining"] > 80
    others = [store.lock(f"invoice {i}") for i in range(2, 9)]
    for other in others:
        other.acquire()
    page, cursor = store.list("invoice", limit=5)
    rest, end = store.list("invoice", cursor, limit=5)
    assert [found["name"] for found in page + rest] == [b"invoice %d" % i for i in range(1, 9)] and end is None
    assert not store.wait_free("invoice 1", 0.05)
    assert store.break_lock("invoice 1") and not store.break_lock("invoice 1")
    assert store.wait_free("invoice 1", 0)
    with pytest.raises(synlock.LockLost):
        lock.release()
    with pytest.raises(synlock.Unsupported, match="renews"):
        store.lock("x", ttl=5, renew=True)


def test_exceptions_are_the_cause():
    cabinet = Cabinet()
    store = synlock.Store.custom(cabinet)
    with pytest.raises(synlock.Unavailable, match="the cabinet is locked") as caught:
        store.ping()
    assert type(caught.value.__cause__) is OSError and caught.value.store == "custom:python"
    released = []

    class Broken(Drawer):
        failure = ZeroDivisionError("by zero")

        def attempt(self, ask):
            super().attempt(ask)
            raise self.failure

        def release(self, ask):
            released.append(ask.owner)
            return super().release(ask)

    broken = Broken()
    lock = synlock.Store.custom(broken).lock("x")
    with pytest.raises(synlock.Uncertain) as caught:
        lock.acquire()
    assert caught.value.__cause__ is Broken.failure
    # It may hold: the next call releases it.
    owner = broken.asked[-1].owner
    assert released == [] and b"x" in broken.holds
    Broken.failure = synlock.PermissionDenied("no key")
    Broken.failure.status = 202
    with pytest.raises(synlock.PermissionDenied) as caught:
        lock.acquire(False)
    assert released[0] == owner
    # What interrupts a program is no store's trouble.
    Broken.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire(False)


def test_what_is_no_answer():
    class Forgets(Drawer):
        def attempt(self, ask):
            pass

    class Awaits(Drawer):
        async def attempt(self, ask):
            return True

    with pytest.raises(synlock.ProtocolError, match="None"):
        synlock.Store.custom(Forgets()).lock("x").acquire()
    with pytest.raises(synlock.Unsupported, match="coroutine"):
        synlock.Store.custom(Awaits()).lock("x").acquire()
    with pytest.raises(TypeError, match="attempt"):
        synlock.Store.custom(object())
    with pytest.raises(synlock.InvalidArgument):
        synlock.Store.custom(Drawer(), "a/b")
    elsewhere = Drawer()
    elsewhere.scope = "galaxy"
    with pytest.raises(synlock.InvalidArgument, match="scope"):
        synlock.Store.custom(elsewhere)


def test_event_loops_and_pickles_refuse():
    store = synlock.Store.custom(Drawer())
    with pytest.raises(synlock.Unsupported, match="aio"):
        synlock.aio.Lock(store, "x")
    with pytest.raises(TypeError):
        pickle.dumps(store)

    async def main():
        with store.lock("x"):
            await asyncio.sleep(0)

    asyncio.run(main())


def test_it_is_let_go_of():
    drawer = Drawer()
    gone = weakref.ref(drawer)
    lock = synlock.Store.custom(drawer).lock("x")
    lock.acquire()
    del drawer
    gc.collect()
    assert gone() is not None
    lock.release()
    del lock
    gc.collect()
    assert gone() is None


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys; sys.path.insert(0, sys.argv[1])
import gevent, synlock
from test_custom import Cabinet
store = synlock.Store.custom(Cabinet())
held = store.lock("x")
print(held.acquire())
got = []
def work():
    with store.lock("x") as lock:
        got.append(lock.last_acquired.contended)
jobs = [gevent.spawn(work) for _ in range(5)]
killed = gevent.spawn(lambda: store.lock("x").acquire())
late = store.lock("x").acquire(timeout=0.05)
gevent.sleep(0.1)
print(late, got)
killed.kill()
held.release()
gevent.joinall(jobs, timeout=60, raise_error=True)
print(got, store.is_locked("x"))
class Readers(Cabinet):
    shared, owners = True, set()
    def attempt(self, ask):
        self.owners.add(ask.owner)
        return True
    def release(self, ask):
        self.owners.discard(ask.owner)
        return True
    def is_held(self, ask):
        return ask.owner in self.owners
    def change_mode(self, ask):
        return self.owners == {ask.owner}
store = synlock.Store.custom(Readers())
readers = [store.lock("y", shared=True) for _ in range(2)]
for reader in readers:
    reader.acquire()
promoting = gevent.spawn(readers[0].promote, 60)
gevent.sleep(0.05)
readers[1].release()
print(promoting.get(timeout=60))
"""


UNDONE = """
from gevent import monkey; monkey.patch_all()
import sys; sys.path.insert(0, sys.argv[1])
import gevent, os, synlock
from test_custom import Cabinet
pool = gevent.get_hub().threadpool
pool.maxsize = 1
store = synlock.Store.custom(Cabinet())
manager = synlock.SemaphoreManager(store, sleep=60)
held = store.lock(manager.name(["x"]))
held.acquire()
killed = gevent.spawn(manager.acquire, ["x"])
gevent.sleep(0.1)
killed.kill()
read, write = os.pipe()
busy = [gevent.spawn(pool.spawn, os.read, read, 1) for _ in range(4)]
gevent.sleep(0)
held.release()
gevent.sleep(0.5)
os.write(write, b"xxxx")
for _ in range(600):
    gevent.sleep(0.1)
    if not store.is_locked(held.name):
        break
gevent.joinall(busy)
print(store.is_locked(held.name))
"""


def test_under_gevent_what_a_killed_greenlet_would_have_had_is_given_back():
    folder = str(pathlib.Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", UNDONE, folder], capture_output=True, text=True, timeout=240)
    assert done.stdout == "False\n", done.stdout + done.stderr


MIXED = """
from gevent import monkey; monkey.patch_all()
import sys; sys.path.insert(0, sys.argv[1])
import gevent, synlock
from test_custom import Cabinet
stores = synlock.Store.custom(Cabinet()), synlock.Store(sys.argv[2])
accounts = synlock.LockSet(*[store.lock(sys.argv[3]) for store in stores])
with accounts:
    accounts.ensure_held()
    print([store.is_locked(sys.argv[3]) for store in stores])
print([store.is_locked(sys.argv[3]) for store in stores])
"""


def test_under_gevent_a_set_has_locks_of_custom_stores_and_of_servers(redis, name):
    folder = str(pathlib.Path(__file__).parent)
    command = [sys.executable, "-c", MIXED, folder, redis, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[True, True]\n[False, False]\n", done.stdout + done.stderr


def test_under_gevent_a_wait_lets_other_greenlets_run():
    folder = str(pathlib.Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", GREENLETS, folder], capture_output=True, text=True, timeout=120)
    wanted = ["True", "False []", "[True, True, True, True, True] False", "True"]
    assert done.stdout.splitlines() == wanted, done.stdout + done.stderr


def block_of(kind, store):
    """A block that holds a lock, and what asks of it meanwhile."""
    if kind == "set":
        locks = store.lock("x"), store.lock("y")
        return synlock.LockSet(*locks), locks[1].ensure_held
    if kind == "symfony":
        lock = symfony.LockFactory(store).createLock("x", None)
        return lock, lock.isAcquired
    if kind == "manager":
        manager = synlock.SemaphoreManager(store)
        return manager.lock(["x"]), lambda: manager.is_acquired(["x"])
    if kind == "guard":
        held = guard.Held()
        block = contextlib.ExitStack()
        admission = held.enter(guard.Guards(store), guard.Policy(name="x"), guard.Request())
        block.callback(held.release)
        return block, admission.lock.ensure_held
    lock = store.lock("x")
    return lock, lock.ensure_held


@pytest.mark.parametrize("kind", ["lock", "set", "symfony", "manager", "guard"])
@pytest.mark.parametrize("error", [None, KeyError])
def test_the_end_of_a_block_waits_for_what_is_under_way(kind, error):
    asked, answer = threading.Event(), threading.Event()

    class Slow(Drawer):
        def is_held(self, ask):
            if threading.current_thread() is asking:
                asked.set()
                assert answer.wait(60)
            return super().is_held(ask)

    drawer = Slow()
    block, ask = block_of(kind, synlock.Store.custom(drawer))
    asking = threading.Thread(target=ask)
    with contextlib.suppress(KeyError), block:
        asking.start()
        assert asked.wait(60)
        threading.Timer(0.2, answer.set).start()
        if error is not None:
            raise error
    asking.join(60)
    assert not drawer.holds


LOOKS = """
import sys; sys.path.insert(0, sys.argv[1])
import threading, time, synlock
from test_custom import Drawer
asked = threading.Event()
class Slow(Drawer):
    def is_held(self, ask):
        asked.set()
        time.sleep(0.05)
        return super().is_held(ask)
store = synlock.Store.custom(Slow())
lock = store.lock("x")
lock.acquire()
manager = synlock.SemaphoreManager(store)
manager.acquire(["y"])
looks = [lock.locked, lambda: lock.state, manager.held]
for ask in lock.ensure_held, lambda: manager.is_acquired(["y"]):
    for look in looks:
        asked.clear()
        thread = threading.Thread(target=ask)
        thread.start()
        asked.wait()
        look()
        thread.join()
print("done")
"""


def test_a_look_waits_for_no_thread_that_waits_for_python():
    folder = str(pathlib.Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", LOOKS, folder], capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr
