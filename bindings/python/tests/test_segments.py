"""The mapped files of `shm:` and of `flock:`'s queue have the layout that is written down."""

import pathlib
import shutil
import struct
import tempfile
import threading
import time

import pytest

import synlock

VECTORS = pathlib.Path(__file__).parents[3] / "tests/vectors"


@pytest.fixture
def folder():
    path = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm", prefix="segments"))
    yield path
    shutil.rmtree(path)


def check(vector, data, others):
    """Each word is the vector's, where it has one; of the rest only `others` is allowed."""
    lines = [line.split(maxsplit=2) for line in (VECTORS / vector).read_text().splitlines() if line[0] != "#"]
    assert struct.unpack_from("<Q", data, 32)[0] == len(data)
    known = {int(at): word for at, word, _ in lines}
    found = dict(zip(range(0, len(data), 8), struct.unpack(f"<{len(data) // 8}Q", data), strict=True))
    differ = {at: f"{found[at]:016x}" for at, word in known.items() if word not in ("-", f"{found[at]:016x}")}
    assert not differ
    rest = {at: f"{word:016x}" for at, word in found.items() if word and at not in known and not others(at, word)}
    assert not rest


def test_a_segment_of_shm(folder):
    file = folder / "segment"
    lock = synlock.Store(f"shm:{file}?slots=16").lock("invoice 42", label="vector")
    assert lock.acquire(blocking=False)
    data = file.read_bytes()
    assert struct.unpack_from("<Q", data, 430104)[0] == lock.fencing_token
    assert struct.unpack_from("<Q", data, 3063840)[0] + 3 == lock.fencing_token
    assert struct.unpack_from("<Q", data, 151552)[0] >> 63 == 1
    slots = range(3063808, 3063808 + 16 * 64, 64)
    check("shm-layout-1.txt", data, lambda at, word: at in slots and word == 0xFFFE << 48)
    lock.release()


def test_the_queue_of_flock(folder):
    store = synlock.Store(f"flock:{folder}")
    held, waits = store.lock("invoice 42"), store.lock("invoice 42")
    assert held.acquire(blocking=False)
    waiter = threading.Thread(target=waits.acquire)
    waiter.start()
    while store.inspect("invoice 42")["waiters"] != 1:
        time.sleep(0.01)
    while not struct.unpack_from("<Q", data := (folder / ".synlock").read_bytes(), 172032)[0] & 1:
        time.sleep(0.01)
    held.release()
    waiter.join()
    check("flock-queue-layout-1.txt", data, lambda at, word: False)
