from synlock import SynlockError
from synlock.symfony import LockFactory

# also postgres://, and sqlite:/path/of/a/file
factory = LockFactory("mysql://myuser:mypassword@127.0.0.1/lock")

try:
    factory.store.create_table()
except SynlockError:
    # the table could not be created for some reason
    pass
