from application import factory

lock = factory.createLock("charts-generation", 30)
lock.acquire()
# refresh the lock for 30 seconds
lock.refresh()
# ...
# refresh the lock for 600 seconds (next refresh() call will be 30 seconds again)
lock.refresh(600)
