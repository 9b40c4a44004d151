"""The checking half of fencing: a holder that was stopped for longer than its lease, and then writes."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.parse

import pytest

import synlock

HOLDER = """
import sys, synlock
url, name = sys.argv[1:]
lock = synlock.Store(url).lock(name, ttl=0.4)
lock.acquire()
token = lock.fencing_token
print(token, flush=True)
sys.stdin.readline()
print(token, flush=True)
"""


class Redis:
    """As much of a client as it takes."""

    def __init__(self, url):
        parsed = urllib.parse.urlparse(url)
        self.file = socket.create_connection((parsed.hostname, parsed.port)).makefile("rwb")

    def __call__(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.file.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        self.file.flush()
        line = self.file.readline().rstrip(b"\r\n").decode()
        if line[0] == "$":
            return self.file.read(int(line[1:]) + 2)[:-2].decode() if line != "$-1" else None
        if line[0] == "-":
            raise RuntimeError(line[1:])
        return line[1:]


@pytest.fixture(params=["shm", "redis"])
def store_url(request, tmp_path):
    return f"shm:{tmp_path / 'segment'}" if request.param == "shm" else request.getfixturevalue("redis")


@pytest.fixture
def paused(store_url, name):
    """The token of a holder that was stopped past its lease, and of the next; in that order."""
    words = [sys.executable, "-c", HOLDER, store_url, name]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    old = int(holder.stdout.readline())
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        heir = synlock.Store(store_url).lock(name, ttl=30)
        assert heir.acquire(timeout=20)
        new = heir.fencing_token

        def wake():
            # It goes on where it was stopped, and believes in the token that it has.
            os.kill(holder.pid, signal.SIGCONT)
            out, _ = holder.communicate("\n", timeout=20)
            return int(out)

        yield old, new, wake
    finally:
        # A stopped process is killed too.
        holder.kill()
        holder.wait()


def test_sqlite_refuses_a_paused_holder(paused, name, tmp_path):
    old, new, wake = paused
    assert new > old
    path = tmp_path / "data.sqlite"
    database = sqlite3.connect(path, isolation_level=None)
    for _ in range(2):  # run again, it changes nothing
        for sql in synlock.fencing.ddl("sqlite"):
            database.execute(sql)
    database.execute("CREATE TABLE balance (amount INTEGER)")
    database.execute("INSERT INTO balance VALUES (100)")

    def write(token, amount):
        cursor = database.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            synlock.fencing.check(cursor, name, token)
            cursor.execute("UPDATE balance SET amount = ?", (amount,))
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise

    write(new, 70)
    write(new, 50)
    late = wake()
    with pytest.raises(synlock.LockLost, match="stale") as caught:
        write(late, 90)
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert database.execute("SELECT amount FROM balance").fetchall() == [(50,)]
    assert database.execute("SELECT name, token FROM synlock_fence").fetchall() == [(name, new)]
    # Another lock has tokens of its own.
    synlock.fencing.check(database.cursor(), "another", 1)


def test_redis_refuses_a_paused_holder(paused, name, redis):
    old, new, wake = paused
    call = Redis(redis)
    script = synlock.fencing.redis_script()
    balance = f"{name}-balance"

    def write(token, *command):
        return call("EVAL", script, 2, f"{name}-fence", balance, token, *command)

    assert write(new, "SET", balance, "70") == "OK"
    assert write(new, "INCRBY", balance, "5") == "75"
    with pytest.raises(RuntimeError, match=f"^STALE stale fencing token {old}: {new} has been seen") as caught:
        write(wake(), "SET", balance, "90")
    assert synlock.fencing.is_stale(caught.value)
    assert call("GET", balance) == "75" and call("GET", f"{name}-fence") == str(new)
    # Beyond 2^53, where Lua's own numbers end.
    assert write(2**62 + 1, "GET", balance) == "75"
    for stale in (2**62, 9):
        with pytest.raises(RuntimeError, match="^STALE"):
            write(stale, "SET", balance, "1")
    for bad in ("", "-1", "07", "1e9", "x"):
        with pytest.raises(RuntimeError, match="positive"):
            write(bad, "SET", balance, "1")


def test_a_table_of_ones_own():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, fence INTEGER)")
    for sql in synlock.fencing.trigger("sqlite", "account", "fence"):
        database.execute(sql)
    database.execute("INSERT INTO account VALUES (1, 100, NULL)")
    update = "UPDATE account SET amount = ?, fence = ? WHERE id = 1"
    database.execute(update, (90, 7))
    database.execute(update, (80, 7))
    for stale in (6, None):
        with pytest.raises(sqlite3.IntegrityError) as caught:
            database.execute(update, (1, stale))
        assert synlock.fencing.is_stale(caught.value)
    assert database.execute("SELECT amount, fence FROM account").fetchone() == (80, 7)


def test_texts():
    fencing = synlock.fencing
    for engine in ("sqlite", "postgres", "mysql", "mariadb", "pgsql"):
        assert fencing.ddl(engine, "app.fences")[0].startswith("CREATE TABLE IF NOT EXISTS")
    assert fencing.statement("postgres").count("$") == 2
    assert "(%s, %s)" in fencing.statement("postgres", paramstyle="pyformat")
    assert "(:1, :2)" in fencing.statement("sqlite", paramstyle="numeric")
    for wrong in [lambda: fencing.ddl("oracle"), lambda: fencing.ddl("sqlite", 'x"; --')]:
        with pytest.raises(synlock.InvalidArgument):
            wrong()
    with pytest.raises(synlock.InvalidArgument):
        fencing.statement("sqlite", paramstyle="named")
    # What is no refusal stays what it is.
    with pytest.raises(sqlite3.OperationalError):
        fencing.check(sqlite3.connect(":memory:").cursor(), "x", 1)


def test_a_holder_within_its_lease_writes(tmp_path):
    lock = synlock.Store(f"shm:{tmp_path / 's'}").lock("x", ttl=30)
    lock.acquire()
    database = sqlite3.connect(":memory:")
    for sql in synlock.fencing.ddl("sqlite", "mine"):
        database.execute(sql)
    synlock.fencing.check(database.cursor(), "x", lock.fencing_token, table="mine")
