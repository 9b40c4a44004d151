"""Locks of Python libraries on Redis, and Redisson's scripts: redis_peer.py KIND PORT NAME."""

import sys
import threading
import uuid

import redis
from turns import serve

kind, port, name = sys.argv[1:]
client = redis.Redis(port=int(port))
TTL = 8

#: As Redisson 4.7 sends them.
ACQUIRE = """
if ((redis.call('exists', KEYS[1]) == 0) or (redis.call('hexists', KEYS[1], ARGV[2]) == 1)) then
  redis.call('hincrby', KEYS[1], ARGV[2], 1)
  redis.call('pexpire', KEYS[1], ARGV[1])
  return nil
end
return redis.call('pttl', KEYS[1])
"""
RELEASE = """
if (redis.call('hexists', KEYS[1], ARGV[3]) == 0) then return nil end
local counter = redis.call('hincrby', KEYS[1], ARGV[3], -1)
if (counter > 0) then
  redis.call('pexpire', KEYS[1], ARGV[2])
  return 0
end
redis.call('del', KEYS[1])
redis.call('publish', KEYS[2], ARGV[1])
return 1
"""


class RLock:
    """Redisson's plain lock: subscribes before it asks again, and sleeps until told."""

    def __init__(self) -> None:
        self.field = f"{uuid.uuid4()}:{threading.get_native_id()}"
        self.channel = f"redisson_lock__channel:{{{name}}}"
        self.told = client.pubsub(ignore_subscribe_messages=True)
        self.told.subscribe(self.channel)
        self.told.get_message(timeout=5)

    def acquire(self, blocking: bool = True) -> bool:
        while (left := client.eval(ACQUIRE, 1, name, TTL * 1000, self.field)) is not None:
            if not blocking:
                return False
            self.told.get_message(timeout=max(left, 1) / 1000)
        return True

    def release(self) -> bool:
        return client.eval(RELEASE, 2, name, self.channel, "0", TTL * 1000, self.field) == 1


def serve_redis_py() -> None:
    lock = client.lock(name, timeout=TTL, sleep=0.01)

    def release() -> bool:
        try:
            lock.release()
        except redis.exceptions.LockError:
            return False
        return True

    serve(lock.acquire, lambda: lock.acquire(blocking=False), release)


def serve_python_redis_lock() -> None:
    import redis_lock

    lock = redis_lock.Lock(client, name, expire=TTL)

    def try_take() -> bool:
        try:
            return lock.acquire(blocking=False)
        except redis_lock.AlreadyAcquired:
            return False

    def release() -> bool:
        try:
            lock.release()
        except redis_lock.NotAcquired:
            return False
        return True

    serve(lock.acquire, try_take, release)


def serve_redisson() -> None:
    lock = RLock()
    serve(lock.acquire, lambda: lock.acquire(blocking=False), lock.release)


{"redis-py": serve_redis_py, "python-redis-lock": serve_python_redis_lock, "redisson": serve_redisson}[kind]()
