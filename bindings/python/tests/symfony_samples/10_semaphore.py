from synlock.symfony import LockFactory

factory = LockFactory("semaphore")
