from application import factory, is_finished

lock = factory.createLock("charts-generation", 30)

lock.acquire()
try:
    while not is_finished():
        # perform a small part of the job.

        # renew the lock for 30 more seconds.
        lock.refresh()
finally:
    lock.release()
