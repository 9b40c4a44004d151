"""The manager of semaphores."""

import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

import synlock
import synlock.aio
from synlock import semaphore
from synlock.semaphore import SemaphoreManager

VECTORS = pathlib.Path(__file__).parents[3] / "tests/vectors/avtonom_key.json"
TEMPLATES = VECTORS.with_name("templates.tsv")
NAME = "lock_M_K_378261a619eba75d288b4929dc312ddf"


def manager(url=None, **settings):
    return SemaphoreManager(url or f"memory:{uuid.uuid4()}", **{"tries": 1, "sleep": 0.0, **settings})


def from_vector(part):
    if isinstance(part, dict) and list(part) == ["hex"]:
        return bytes.fromhex(part["hex"])
    return [from_vector(item) for item in part] if isinstance(part, list) else part


def test_keys_become_the_names_of_the_vectors():
    rows = json.loads(VECTORS.read_text())["rows"]
    assert len(rows) >= 47
    for row in rows:
        assert semaphore.key_name(from_vector(row["name"]), "lock_").decode() == row["expect"]["key"], row


def test_what_is_no_key():
    for key in [1, None, True, [], {}, [[1]], [{}]]:
        with pytest.raises(synlock.InvalidArgument):
            semaphore.key_name(key)
    for key in [object(), ["a", object()], ["a", {1.5: 2}]]:
        with pytest.raises(TypeError):
            semaphore.key_name(key)
    deep = []
    deep.append(deep)
    for key in [["a", 2**63], ["a", float("nan")], deep]:
        with pytest.raises(ValueError):
            semaphore.key_name(key)
    assert semaphore.key_name(("a", 1)) == semaphore.key_name(["a", 1])


def test_templates_make_the_names_of_the_vectors():
    lines = [line for line in TEMPLATES.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) >= 28
    for line in lines:
        template, wanted, *values = line.split("\t")
        values = dict(value.split("=", 1) for value in values)
        if wanted == "!":
            with pytest.raises(synlock.InvalidArgument, match="no value"):
                semaphore.template_name(template, values)
        else:
            assert semaphore.template_name(template, values).decode() == wanted, line
    values = {"a": 17, "b": 2**63, "c": b"\xff", "d": "ü"}
    assert semaphore.template_name("{a}-{b}-{c}-{d}", values) == b"17-9223372036854775808-\xff-\xc3\xbc"
    for value in [1.5, True, None, [], object()]:
        with pytest.raises(TypeError, match="value of a"):
            semaphore.template_name("{a}", {"a": value})


def test_acquire_and_release_with_a_line_for_each(caplog):
    caplog.set_level(logging.DEBUG, "synlock.semaphore")
    one = manager()
    how = one.acquire(["M_K_", 1], "A.first", 10)
    assert how.attempts == 1 and not how.contended
    assert one.store.is_locked(NAME) and one.is_acquired(["M_K_", 1])
    assert one.held() == [(NAME.encode(), "A.first")] and one.name(["M_K_", 1]) == NAME.encode()
    with pytest.raises(synlock.Reentered, match=r"A\.first"):
        one.acquire(["M_K_", 1], "B.second")
    one.refresh(["M_K_", 1], 90)
    one.release(["M_K_", 1])
    with pytest.raises(synlock.NotHeld):
        one.release(["M_K_", 1], "B.second")
    levels = [record.levelname for record in caplog.records]
    assert levels == ["DEBUG", "ERROR", "DEBUG", "DEBUG", "ERROR"]
    lines = [record.getMessage() for record in caplog.records]
    begin = f'[{os.getpid()}] A.first->acquire: acquired (ttl 10 s). Key: {NAME} ["M_K_",1] (store memory:'
    assert lines[0].startswith(begin)
    assert "] test_semaphore.test_acquire_and_release_with_a_line_for_each->release: " in lines[3]
    assert "] B.second->release: " in lines[4]
    assert caplog.records[0].synlock["key"] == '["M_K_",1]'


def test_another_holder_is_waited_for_and_left_alone():
    url = f"memory:{uuid.uuid4()}"
    one, other = manager(url, tries=2, sleep=0.01), synlock.Lock(url, "lock_k")
    with other, pytest.raises(synlock.LockTimeout):
        one.acquire("k")
    with pytest.raises(synlock.LockBusy), other:
        manager(url).acquire("k")
    one.acquire("k")
    assert one.store.break_lock("lock_k")
    with other:
        with pytest.raises(synlock.LockLost):
            one.release("k")
        assert other.is_acquired()


def test_a_waiter_is_woken():
    one = manager(tries=1, sleep=3600.0)
    holder = one.store.lock("lock_k")
    holder.acquire()
    waiter = threading.Thread(target=one.acquire, args=("k",))
    waiter.start()
    while not one.store.inspect("lock_k")["waiters"]:
        time.sleep(0.005)
    holder.release()
    waiter.join()
    assert one.is_acquired("k")
    one.release("k")  # for the thread that is gone


def test_a_key_that_died_of_its_ttl_is_told_of(caplog):
    one = manager()
    one.acquire("k", path="Job.dies", ttl=0.05)
    while len(caplog.records) < 1:
        time.sleep(0.005)
        one.store.is_locked("lock_k")
    record = caplog.records[0]
    assert (record.levelname, record.name) == ("WARNING", "synlock.semaphore")
    assert "Job.dies->hold: " in record.getMessage() and 'Key: lock_k "k"' in record.getMessage()
    with pytest.raises(synlock.LockLost):
        one.release("k")


def test_a_repetition_extends_where_that_was_chosen(caplog):
    one = manager(repeat="extend")
    one.acquire("k", ttl=30)
    one.acquire("k", ttl=90)
    assert one.store.inspect("lock_k")["holders"][0]["remaining"] > 50
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    one.release("k")
    assert not one.store.is_locked("lock_k")


def test_a_block_releases_whatever_happens():
    one = manager()
    with pytest.raises(RuntimeError, match="work"), one.lock(["k", 1]):
        raise RuntimeError("work")
    with pytest.raises(synlock.LockLost), one.lock("k"):
        one.store.break_lock("lock_k")
    with one.lock("k"):
        assert one.is_acquired("k")
    assert one.held() == []


def test_what_is_forgotten_is_told_and_released(caplog):
    one = manager()
    store = one.store
    one.acquire("k", "Job.run")
    one.close()
    one.acquire("k", "Job.run")
    del one
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2 and all("] Job.run->end: " in line for line in errors), errors
    assert not store.is_locked("lock_k")


def test_what_is_forgotten_at_the_end_of_the_process(tmp_path):
    code = """
import logging, sys
from synlock.semaphore import SemaphoreManager
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(levelname)s %(message)s")
manager = SemaphoreManager(sys.argv[1])
manager.acquire(["k", 1], "main")
"""
    url = f"flock:{tmp_path}"
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "ERROR [" in done.stdout and "] main->end: the process ended" in done.stdout, done.stdout
    assert not synlock.Store(url).list()[0]


def test_a_child_holds_nothing(tmp_path):
    one = manager(f"flock:{tmp_path}")
    one.acquire("k")
    child = os.fork()
    if child == 0:
        try:
            for call in (one.release, one.acquire):
                with pytest.raises((synlock.NotHeld, synlock.LockBusy)):
                    call("k")
            one.acquire("other")
            one.release("other")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert one.is_acquired("k")
    one.release("k")


def test_ctrl_c_ends_a_wait_and_leaves_no_place():
    one = manager(tries=1, sleep=3600.0)
    holder = one.store.lock("lock_k")
    holder.acquire()

    def interrupt():
        while not one.store.inspect("lock_k")["waiters"]:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGUSR1)

    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            one.acquire("k")
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()
    assert one.store.inspect("lock_k")["waiters"] == 0


def test_a_demo_does_nothing():
    one = manager(demo=True)
    one.acquire("k")
    one.acquire("k")
    assert not one.store.is_locked("lock_k")
    one.release("k")


def test_the_defaults_are_avtonoms():
    url = f"memory:{uuid.uuid4()}"
    for kind in SemaphoreManager, synlock.aio.SemaphoreManager:
        for settings, patience in ({}, 120.0), ({"sleep": 1.0}, 240.0):
            errand, _, _ = kind(url, **settings)._native.ask("k")
            assert patience - 60.0 < errand.patience <= patience
    one = SemaphoreManager(url)
    one.acquire("k")
    assert one.name("k") == b"lock_k"
    assert 30.0 < one.store.inspect("lock_k")["holders"][0]["remaining"] <= 60.0
    with pytest.raises(synlock.Reentered):
        one.acquire("k")
    one.release("k")


def test_settings_are_checked():
    for settings in [{"tries": 0}, {"ttl": 0.0}, {"sleep": -1.0}, {"repeat": "never"}]:
        with pytest.raises(synlock.InvalidArgument):
            manager(**settings)


def test_numbers():
    one = manager()
    one.acquire("k")
    one.release("k")
    url = one.store.url
    assert url not in synlock.metrics()
    one.measure()
    with one.lock("k"), pytest.raises(synlock.Reentered):
        one.acquire("k")
    text = synlock.metrics().splitlines()
    for outcome in ("granted", "reentered"):
        assert f'synlock_acquires_total{{store="{url}",outcome="{outcome}"}} 1' in text
    store = synlock.Store(url)
    store.measure()
    with store.lock("x"):
        pass
    assert f'synlock_releases_total{{store="{url}"}} 2' in synlock.metrics()


def test_waits_refreshes_and_losses_are_counted():
    one = manager(tries=6000, sleep=0.01)
    one.measure()
    holder = one.store.lock("lock_k")
    holder.acquire()
    waiter = threading.Thread(target=one.acquire, args=["k"])
    waiter.start()
    while not one.store.inspect("lock_k")["waiters"]:
        time.sleep(0.005)
    holder.release()
    waiter.join()
    one.refresh("k", 90.0)
    one.acquire("other")
    assert one.store.break_lock("lock_k")
    with pytest.raises(synlock.LockLost):
        one.release("k")
    label = f'{{store="{one.store.url}"}} '
    lines = [line.split(label) for line in synlock.metrics().splitlines() if label in line]
    counted = {name: float(number) for name, number in lines}
    for name, number in {"waits": 1, "refreshes": 1, "losses": 1, "releases": 0}.items():
        assert counted[f"synlock_{name}_total"] == number, name
    assert counted["synlock_waited_seconds_count"] == 2
    assert counted["synlock_waited_seconds_sum"] > 0
    assert counted["synlock_held_seconds_count"] == 1
    assert counted["synlock_held_seconds_sum"] > 0


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys, gevent, synlock
from synlock.semaphore import SemaphoreManager
class Custom:
    owner, frees_on_death = None, True
    def attempt(self, ask):
        if Custom.owner is None:
            Custom.owner = ask.owner
        return Custom.owner == ask.owner
    def release(self, ask):
        Custom.owner = None if Custom.owner == ask.owner else Custom.owner
        return True
    def is_held(self, ask):
        return Custom.owner == ask.owner
url = sys.argv[1]
store = synlock.Store.custom(Custom()) if url == "custom" else synlock.Store(url)
manager = SemaphoreManager(store, prefix="", tries=100, sleep=1.0)
holder = store.lock("key")
def take():
    for _ in range(3000):
        if holder.acquire(False):
            return True
        gevent.sleep(0.01)
print(take())
waiting = gevent.spawn(manager.acquire, "key")
# Others run, and it asks.
for _ in range(30):
    gevent.sleep(0.01)
print(waiting.ready())
waiting.kill()
holder.release()
# Whoever is late with it, has it by then.
for _ in range(50):
    gevent.sleep(0.01)
print(manager.held(), manager.is_acquired("key") if manager.held() else None, take())
waiting = gevent.spawn(manager.acquire, "key")
gevent.sleep(0.05)
holder.release()
print(waiting.get(timeout=60).attempts > 0, manager.is_acquired("key"), holder.acquire(False))
try:
    manager.acquire("key")
except synlock.Reentered:
    print("again")
manager.release("key")
with manager.lock("key"):
    pass
print(take())
"""


def test_a_greenlet_that_is_killed_has_acquired_nothing(url):
    for place in [url, "custom"]:
        done = subprocess.run([sys.executable, "-c", GREENLETS, place], capture_output=True, text=True, timeout=120)
        wanted = ["True", "False", "[] None True", "True True False", "again", "True"]
        assert done.stdout.splitlines() == wanted, (place, done.stdout, done.stderr)
