from synlock.symfony import LockFactory

# the store is a URL; this one is SemaphoreStore's
factory = LockFactory("semaphore")

# ...
lock = factory.createLock("pdf-invoice-generation")

if lock.acquire(False):
    # The resource "pdf-invoice-generation" is locked.
    # You can compute and generate invoice safely here.

    lock.release()
