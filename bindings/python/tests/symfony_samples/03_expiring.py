from application import factory

# create an expiring lock that lasts 30 seconds
lock = factory.createLock("charts-generation", 30)

lock.acquire()
try:
    # perform a job during less than 30 seconds
    pass
finally:
    lock.release()
