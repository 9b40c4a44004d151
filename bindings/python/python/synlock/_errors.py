"""The exceptions, made from the core's table of codes: one tree under `SynlockError`."""

from __future__ import annotations

from . import _synlock


class SynlockError(Exception):
    """Anything that synlock raises."""

    #: Number of the status, the same in every language.
    status: int = 900
    #: Its name, such as ``TIMEOUT``.
    code: str = "INTERNAL"
    #: Whether the same call may succeed later.
    retriable: bool = False
    #: The store's URL without credentials.
    store: str | None = None
    #: The lock's name, made printable.
    resource: str | None = None
    #: The operation that failed.
    operation: str | None = None


class SynlockWarning(RuntimeWarning):
    """A caution, or a lost lock, that no observer and no log handler heard of."""


class LockBusy(SynlockError):
    """Somebody else holds the lock."""


class LockTimeout(SynlockError, TimeoutError):
    """The lock was not free in time."""


class LockLost(SynlockError):
    """The lock was lost: it expired, was broken, or its store forgot it."""


class NotHeld(SynlockError):
    """The lock is not held."""


class AlreadyHeld(SynlockError):
    """The lock is held already."""


class LockCancelled(SynlockError):
    """The wait was cancelled."""


class LockInterrupted(SynlockError):
    """A wait was interrupted."""


class InvalidArgument(SynlockError, ValueError):
    """An argument is out of its range."""


class InvalidUrl(InvalidArgument):
    """The store URL cannot be used."""


class Unsupported(SynlockError):
    """The store cannot do this."""


class InvalidHandle(SynlockError):
    """The handle is stale."""


class ForkedHandle(SynlockError):
    """The lock belongs to the parent process; make a new one in this process."""


class ConcurrentUse(SynlockError):
    """Another call uses the same hold at this moment."""


class Reentered(SynlockError):
    """This process holds the lock already, and its policy forbids asking again."""


class Deadlock(SynlockError):
    """Waiting would never end."""


class Unavailable(SynlockError, ConnectionError):
    """The store cannot be reached or cannot serve now."""


class Uncertain(SynlockError):
    """The reply was lost: the store may or may not have acted."""


class PermissionDenied(SynlockError, PermissionError):
    """The store refuses this user."""


class ProtocolError(SynlockError):
    """The store answered something that cannot be right."""


class Exhausted(SynlockError):
    """A resource of the store or of this process is used up."""


class StorageError(SynlockError, OSError):
    """The file system or kernel reported an error."""


class InternalError(SynlockError):
    """A bug in synlock was contained."""


_TABLE: dict[int, tuple[str, type[SynlockError], bool]] = {
    number: (name, globals()[klass], retriable) for number, name, klass, _text, retriable in _synlock.codes() if klass
}


def make(
    status: int, message: str, store: str | None = None, resource: str | None = None, operation: str | None = None
) -> SynlockError:
    """The exception for a status; called by the native module."""
    name, klass, retriable = _TABLE.get(status, ("INTERNAL", InternalError, False))
    error = klass(message)
    error.status = status
    error.code = name
    error.retriable = retriable
    error.store = store
    error.resource = resource
    error.operation = operation
    return error
