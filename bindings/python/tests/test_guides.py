"""The guides beside README.md: their code, under the programs that they speak of."""

import contextlib
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import filelock
import pytest
import redis as redis_py
from ports import free_port

import synlock

FOLDER = pathlib.Path(__file__).parents[1]
PATIENCE = 120


def blocks(guide, language="python"):
    return re.findall(rf"^```{language}\n(.+?)^```$", (FOLDER / f"{guide}.md").read_text(), re.M | re.S)


def ported(code, tmp_path, redis="redis://nowhere"):
    """The code of a guide, on the stores of the test."""
    host, _, options = redis.removeprefix("redis://").partition("?")
    name, _, port = host.partition(":")
    return (
        code.replace("shm:app", f"shm:{tmp_path / 'segment'}")
        .replace("/var/lock/app", str(tmp_path))
        .replace('redis.Redis("localhost")', f'redis.Redis("{name}", {port or 0})')
        .replace("redis://localhost?", f"redis://{host}?{options}&" if options else f"redis://{host}?")
        .replace("redis://localhost", redis)
    )


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def wait_until(told):
    end = time.monotonic() + PATIENCE
    while not (answer := told()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return answer


@contextlib.contextmanager
def program(*words, cwd, **environment):
    """A program of Python's, and the lines that it has written so far."""
    lines = []
    process = subprocess.Popen(
        [sys.executable, *words], cwd=cwd, env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))
    reader.start()
    try:
        yield process, lines
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()


def test_every_guide_is_linked_and_has_code():
    readme = (FOLDER / "README.md").read_text()
    counts = {"coming-from-redis-py": 2, "coming-from-filelock": 2, "gunicorn": 2, "celery": 1, "workers": 2}
    for guide, count in counts.items():
        assert f"({guide}.md)" in readme and len(blocks(guide)) == count, guide


def test_coming_from_redis_py(redis, tmp_path):
    for block in blocks("coming-from-redis-py"):
        assert run(ported(block, tmp_path, redis)) == "alone\n"
    host, port = redis.removeprefix("redis://").partition("?")[0].split(":")
    client, store = redis_py.Redis(host, int(port)), synlock.Store(f"{redis}&dialect=plain")
    old, new = client.lock("invoice 42", timeout=30, blocking_timeout=0.01), store.lock("invoice 42", ttl=30, timeout=0)
    assert old.acquire(blocking=False)
    assert store.is_locked("invoice 42") and not new.acquire(blocking=False)
    with pytest.raises(synlock.LockTimeout), new:
        pass
    old.release()
    with new:
        assert old.locked() and not old.acquire(blocking=False) and not old.owned() and new.is_acquired()
        with pytest.raises(redis_py.exceptions.LockError), old:
            pass
        assert 10_000 < client.pttl("invoice 42") <= 30_000
        new.refresh(60)
        assert client.pttl("invoice 42") > 40_000
        new.refresh(new.remaining + 30)
        assert client.pttl("invoice 42") > 70_000
        taken = threading.Thread(target=lambda: (client.lock("invoice 42", timeout=30).acquire(), None))
        taken.start()
    # A waiter of redis-py's has it next; then its owner is gone, and what is ours is lost.
    taken.join()
    assert not new.acquire(blocking=False)
    client.delete("invoice 42")
    assert new.acquire(blocking=False)
    client.delete("invoice 42")
    assert old.acquire(blocking=False)
    with pytest.raises(synlock.LockLost):
        new.release()
    assert old.owned()
    old.release()
    with pytest.raises(synlock.NotHeld):
        new.release()
    # Without a TTL it is not for ever.
    with store.lock("invoice 42"):
        assert 0 < client.pttl("invoice 42") <= 30_000


def test_coming_from_filelock(tmp_path):
    for block in blocks("coming-from-filelock"):
        assert run(ported(block, tmp_path)) == "alone\n"
        with filelock.FileLock(tmp_path / "import.lock", timeout=0):
            pass
    store = synlock.Store(f"flock:{tmp_path}?dialect=file&mode=0640")
    old, new = filelock.FileLock(f"{tmp_path}/beside.lock", timeout=0), store.lock("beside.lock", timeout=0)
    with new:
        assert (tmp_path / "beside.lock").stat().st_mode & 0o777 == 0o640
        with pytest.raises(filelock.Timeout), old:
            pass
        assert store.inspect("beside.lock")["holders"][0]["pid"] == os.getpid()
    with old:
        assert not new.acquire(blocking=False)
        with pytest.raises(synlock.LockTimeout), new:
            pass
    with new:
        assert not new.acquire(blocking=False)
    with store.lock("beside.lock", reentry="error"), pytest.raises(synlock.Reentered):
        store.lock("beside.lock", reentry="error").acquire()
    with store.lock("beside.lock", reentry="extend"):
        assert store.lock("beside.lock", reentry="extend").acquire(blocking=False)
    with pytest.raises(synlock.Unsupported):
        store.lock("beside.lock", ttl=60)


def get(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


#: What the guide says of mistakes, and of workers that die.
EXTRA = """
import signal

held = store.lock("master")
held.acquire()
counted = app


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/":
        return counted(environ, start_response)
    if path == "/die":
        counter.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        held.ensure_held()
        text = "held"
    except synlock.ForkedHandle:
        text = "forked"
    free = store.lock("master").acquire(blocking=False)
    with counter as lock:
        recovered = lock.last_acquired.recovered
    start_response("200 OK", [])
    return [f"{text} {free} {recovered}".encode()]
"""


def test_gunicorn_with_preload(tmp_path):
    app, conf = blocks("gunicorn")
    [command] = blocks("gunicorn", "sh")
    (tmp_path / "app.py").write_text(ported(app, tmp_path) + EXTRA)
    (tmp_path / "gunicorn.conf.py").write_text(ported(conf, tmp_path))
    (counter := tmp_path / "counter").write_text("")
    (ticks := tmp_path / "ticks").write_text("")
    port = free_port()
    words = f"-m {command} --timeout 0 --bind 127.0.0.1:{port}".split()
    with program(*words, cwd=tmp_path, COUNTER=str(counter), TICKS=str(ticks)) as (process, lines):

        def is_up():
            assert process.poll() is None, lines
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(is_up)
        answers = []
        # Until more than one worker has served: each number once, whoever counts.
        while len({answer.split()[2] for answer in answers}) < 2 and len(answers) < 2000:
            threads = [threading.Thread(target=lambda: answers.extend(get(port) for _ in range(5))) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(int(answer.split()[0]) for answer in answers) == list(range(1, len(answers) + 1))
        assert len({answer.split()[2] for answer in answers}) > 1
        # The master's hold is neither a worker's nor free.
        assert get(port, "/held") == "forked False False"
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port, "/die")
        assert get(port, "/held") == "forked False True"
        assert int(get(port).split()[0]) == len(answers) + 1
        # One worker ticks, which may have been the one that died; when it is killed, another goes on.
        is_alive = lambda pid: pathlib.Path(f"/proc/{pid}").exists()
        first = wait_until(lambda: [pid for pid in ticks.read_text().split()[-1:] if is_alive(pid)])[0]
        known = ticks.read_text().split()
        os.kill(int(first), signal.SIGKILL)
        second = wait_until(lambda: [pid for pid in ticks.read_text().split() if pid not in known])[0]
        wait_until(lambda: ticks.read_text().split().count(second) > 2)
        pids = ticks.read_text().split()
        assert pids == sorted(pids, key=[*dict.fromkeys(pids)].index), "two at once"
    assert process.returncode == 0, lines


#: The claim on limits of time.
LIMITED = """
from celery.exceptions import SoftTimeLimitExceeded


@app.task(soft_time_limit=1)
def waits():
    try:
        with store.lock("invoice 9"):
            pass
    except SoftTimeLimitExceeded:
        with open(FILE, "a") as file:
            file.write("limited\\n")
"""


def test_celery(redis, tmp_path):
    (tmp_path / "shop.py").write_text(ported(blocks("celery")[0], tmp_path, redis.partition("?")[0]) + LIMITED)
    (sent := tmp_path / "sent").write_text("")
    store = synlock.Store(redis)

    def produce(code):
        with program("-c", f"import shop\n{code}", cwd=tmp_path, SENT=str(sent)) as (process, lines):
            assert process.wait(PATIENCE) == 0, lines

    # Delivered four times; one is queued, and no second.
    produce("for _ in range(4): shop.send_invoice.delay(7)\nfor _ in range(2): shop.queue_rebuild('a')")
    busy = [store.lock(f"invoice {number}") for number in (8, 9)]
    for lock in busy:
        lock.acquire()
    words = "-m celery -A shop worker --pool prefork -c 3 --loglevel INFO".split()
    with program(*words, cwd=tmp_path, SENT=str(sent)) as (process, lines):

        def count(task, word):
            assert process.poll() is None, lines
            return sum(f"Task shop.{task}[" in line and word in line for line in [*lines])

        wait_until(lambda: count("send_invoice", "succeeded") == 4 and count("rebuild", "succeeded") == 1)
        assert sorted(sent.read_text().split()) == ["7", "a"]
        produce("shop.send_invoice.delay(8)\nshop.waits.delay()\nshop.queue_rebuild('b')")
        wait_until(lambda: count("send_invoice", "retry") and count("waits", "succeeded"))
        wait_until(lambda: count("rebuild", "succeeded") == 2)
        assert "8" not in sent.read_text().split() and sorted(sent.read_text().split())[2:] == ["b", "limited"]
        busy[0].release()
        wait_until(lambda: count("send_invoice", "succeeded") == 5)
        assert sent.read_text().split().count("8") == 1
    for name in ("invoice 7", "invoice 8", "rebuild a", "rebuild b"):
        assert not store.is_locked(name), name
    busy[1].release()


@pytest.mark.parametrize("kind", ["shm", "redis"])
def test_workers_and_signals(kind, request, tmp_path):
    url = f"shm:{tmp_path / 'segment'}" if kind == "shm" else request.getfixturevalue("redis")
    code = blocks("workers")[0].replace("shm:app", url)
    store = synlock.Store(url)
    with program("-c", code, cwd=tmp_path) as (holder, lines), program("-c", code, cwd=tmp_path) as (other, _):
        wait_until(lambda: store.inspect("import")["holders"] and store.inspect("import")["waiters"])
        (pid,) = [found["pid"] for found in store.inspect("import")["holders"]]
        holds, waits = (holder, other) if pid == holder.pid else (other, holder)
        waits.terminate()
        assert waits.wait(PATIENCE) == 0
        assert not store.inspect("import")["waiters"] and store.is_locked("import")
        holds.terminate()
        assert holds.wait(PATIENCE) == 0
        assert store.lock("import").acquire(blocking=False)


def test_workers_that_are_killed_or_hand_over(tmp_path):
    first, second = (ported(block, tmp_path) for block in blocks("workers"))
    store = synlock.Store(f"shm:{tmp_path / 'segment'}")
    with program("-c", first, cwd=tmp_path) as (process, lines):
        wait_until(lambda: lines == ["alone\n"])
        assert not store.lock("import").acquire(blocking=False)
        process.kill()
        process.wait(PATIENCE)
        with store.lock("import", timeout=0):
            pass
    run(second)
