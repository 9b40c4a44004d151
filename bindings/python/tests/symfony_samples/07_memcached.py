from synlock.symfony import LockFactory

factory = LockFactory("memcached://localhost:11211")
