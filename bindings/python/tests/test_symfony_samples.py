"""The samples in symfony_samples/, and what Symfony's documentation promises of the stores that it names."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types

import pytest
from conftest import patient, server

import synlock
from synlock.symfony import LockFactory

SAMPLES = pathlib.Path(__file__).parent / "symfony_samples"
#: The tree, of which a copy of the package has a part by a link.
ROOT = (pathlib.Path(__file__).parents[3] / "tests" / "support").resolve().parents[1]
PATIENCE = 60


@pytest.fixture(scope="module")
def services():
    """The ports of the servers, by their names."""
    subprocess.run(["cargo", "build", "-q", "-p", "synlock-tests", "--bin", "services"], cwd=ROOT, check=True)
    program = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/services"
    names = ["memcached", "mariadb", "postgres", "zookeeper"]
    with subprocess.Popen([program, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline().split() for _ in names]
        assert all(lines), "the servers do not start"
        yield {name: f"127.0.0.1:{port}" for name, port in lines}


@pytest.fixture
def application(url, monkeypatch):
    """What the samples go on from."""
    made = types.ModuleType("application")
    made.factory = LockFactory(url)
    end = time.monotonic() + 0.5
    made.is_finished = lambda: time.monotonic() >= end
    made.task = lambda: time.sleep(0.05)
    monkeypatch.setitem(sys.modules, "application", made)
    return made


def run(name, changes=()):
    """Runs a sample with the given parts of its text replaced; what it has made."""
    text = (SAMPLES / f"{name}.py").read_text()
    for old, new in dict(changes).items():
        assert old in text, old
        text = text.replace(old, new)
    made = {}
    exec(compile(text, name, "exec"), made)
    return types.SimpleNamespace(**made)


def works(factory, name="sample"):
    lock, other = factory.createLock(name, 30), factory.createLock(name, 30)
    assert lock.acquire(False)
    assert not other.acquire(False)
    assert lock.isAcquired()
    lock.refresh()
    lock.release()
    # Of several servers, the last may hear of a release a little later.
    assert other.acquire(True, PATIENCE)


def test_every_sample_is_run():
    code = pathlib.Path(__file__).read_text()
    names = sorted(path.stem for path in SAMPLES.glob("*.py"))
    assert len(names) == 13
    assert all(f'run("{name}"' in code for name in names)


def test_usage(tmp_path):
    made = run("01_usage", {'"semaphore"': f'"sysv:{tmp_path.name}"'})
    assert not made.lock.isAcquired()
    assert made.factory.createLock("pdf-invoice-generation").acquire(False)


def test_blocking(redis):
    factory = LockFactory(redis)
    holder = factory.createLock("notification-flush")
    holder.acquire()
    made = []
    sample = threading.Thread(target=lambda: made.append(run("02_blocking", {"redis://localhost:6379": redis})))
    sample.start()
    while factory.store.inspect("notification-flush")["waiters"] != 1:
        time.sleep(0.01)
    assert not made
    holder.release()
    sample.join(PATIENCE)
    assert made[0].lock.isAcquired()
    assert not factory.createLock("notification-flush").acquire(False)


def test_expiring(application):
    assert not run("03_expiring").lock.isAcquired()


def test_refreshing(application):
    assert not run("04_refreshing").lock.isAcquired()
    assert application.factory.createLock("charts-generation").acquire(False)


def test_another_ttl(application):
    lock = run("05_another_ttl").lock
    if not application.factory.store.capabilities["ttl"]:
        assert lock.getRemainingLifetime() is None
        return
    assert 540 < lock.getRemainingLifetime() <= 600
    # "next refresh() call will be 30 seconds again"
    lock.refresh()
    assert 0 < lock.getRemainingLifetime() <= 30
    assert lock.isAcquired()
    assert not lock.isExpired()


def test_flock(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    works(run("06_flock").factory)
    assert any(tmp_path.iterdir())


def test_memcached(services):
    works(run("07_memcached", {"memcached://localhost:11211": patient(f"memcached://{services['memcached']}")}).factory)


@pytest.mark.parametrize("engine", ["mariadb", "postgres", "sqlite"])
def test_pdo(engine, services, tmp_path):
    url = {
        "mariadb": patient(f"mysql://locker@{services['mariadb']}/test") + "&table=of_the_samples",
        "postgres": patient(f"postgres://postgres@{services['postgres']}/postgres") + "&table=of_the_samples",
        "sqlite": f"sqlite:{tmp_path}/locks.db",
    }[engine]
    made = run("08_pdo", {"mysql://myuser:mypassword@127.0.0.1/lock": url})
    works(made.factory)
    # It is there, and stays.
    made.factory.store.create_table()


def test_a_table_that_cannot_be_made_is_told_of(services):
    factory = LockFactory(patient(f"mysql://locker@{services['mariadb']}/nowhere"))
    with pytest.raises(synlock.SynlockError):
        factory.store.create_table()


def test_redis(redis):
    works(run("09_redis", {"redis://localhost": redis}).factory)


def test_semaphore(tmp_path):
    works(run("10_semaphore", {'"semaphore"': f'"sysv:{tmp_path.name}"'}).factory)


def test_combined():
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server()) for _ in range(3)]
        # A server that is gone is asked for as long as a connection may take.
        places = [f"{url.removeprefix('redis://')}?io_timeout=3000" for url, _ in servers]
        changes = dict(zip(("server1", "server2", "server3"), places, strict=True))
        # Servers that have just been started might have forgotten a holder.
        made = run("11_combined", changes | {'stores)})"': 'stores)})?cold_start=1"'})
        works(made.factory)
        works(made.unanimous, "of all")
        taken = made.unanimous.createLock("taken at one")
        one = LockFactory(patient(servers[0][0])).createLock("taken at one")
        assert one.acquire(False)
        assert not taken.acquire(False), "all have to grant"
        one.release()
        os.kill(servers[2][1], signal.SIGKILL)
        assert made.factory.createLock("two of three").acquire(False)
        with pytest.raises(synlock.SynlockError):
            made.unanimous.createLock("two of three").acquire(False)
        os.kill(servers[1][1], signal.SIGKILL)
        with pytest.raises(synlock.SynlockError):
            made.factory.createLock("one of three").acquire(False)


def test_zookeeper(services):
    # It stands still now and then, on a busy machine.
    url = f"zookeeper://{services['zookeeper']}?connect_timeout=60000&io_timeout=60000"
    works(run("12_zookeeper", {'("zookeeper://localhost:2181")': f'("{url}")'}).factory)


def test_robust(application):
    lock = run("13_robust").lock
    assert lock.isAcquired()
    assert not lock.isExpired()
