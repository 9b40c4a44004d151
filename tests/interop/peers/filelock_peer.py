"""Python's filelock on a file: filelock_peer.py FILE."""

import sys

import filelock
from turns import serve

lock = filelock.FileLock(sys.argv[1])


def take() -> bool:
    lock.acquire()
    return True


def try_take() -> bool:
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    return True


def release() -> bool:
    lock.release()
    return True


serve(take, try_take, release)
