from synlock.symfony import LockFactory

factory = LockFactory("redis://localhost")
