from synlock.symfony import LockFactory

# There is no RetryTillSaveStore: an acquire that blocks is woken, and its place in the queue is kept.
factory = LockFactory("redis://localhost:6379")

lock = factory.createLock("notification-flush")
lock.acquire(True)
