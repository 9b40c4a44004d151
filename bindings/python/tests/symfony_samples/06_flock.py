import tempfile

from synlock.symfony import LockFactory

# the path of the directory where the locks are created
factory = LockFactory(f"flock:{tempfile.gettempdir()}")
