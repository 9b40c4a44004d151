from application import factory, is_finished, task

lock = factory.createLock("invoice-publication", 30)

lock.acquire()
while not is_finished():
    left = lock.getRemainingLifetime()
    # None where the store has no leases
    if left is not None and left <= 5:
        if lock.isExpired():
            # lock was lost, perform a rollback or send a notification
            raise RuntimeError("Lock lost during the overall process")

        lock.refresh()

    # Perform the task whose duration MUST be less than 5 minutes
    task()
