"""Locks for processes, on one machine or on many.

>>> import synlock
>>> with synlock.Lock("memory:", "invoice", timeout=5) as lock:
...     lock.locked()
True
"""

from . import aio, fencing, semaphore
from ._base import Acquired
from ._custom import Ask, Busy, CustomStore, Granted
from ._errors import (
    AlreadyHeld,
    ConcurrentUse,
    Deadlock,
    Exhausted,
    ForkedHandle,
    InternalError,
    InvalidArgument,
    InvalidHandle,
    InvalidUrl,
    LockBusy,
    LockCancelled,
    LockInterrupted,
    LockLost,
    LockTimeout,
    NotHeld,
    PermissionDenied,
    ProtocolError,
    Reentered,
    StorageError,
    SynlockError,
    SynlockWarning,
    Unavailable,
    Uncertain,
    Unsupported,
)
from ._lock import Lock, Store
from ._session import Session
from ._set import LockSet
from ._synlock import metrics, schemes
from .semaphore import SemaphoreManager

__all__ = [
    "Acquired",
    "AlreadyHeld",
    "Ask",
    "Busy",
    "ConcurrentUse",
    "CustomStore",
    "Deadlock",
    "Exhausted",
    "ForkedHandle",
    "Granted",
    "InternalError",
    "InvalidArgument",
    "InvalidHandle",
    "InvalidUrl",
    "Lock",
    "LockBusy",
    "LockCancelled",
    "LockInterrupted",
    "LockLost",
    "LockSet",
    "LockTimeout",
    "NotHeld",
    "PermissionDenied",
    "ProtocolError",
    "Reentered",
    "SemaphoreManager",
    "Session",
    "StorageError",
    "Store",
    "SynlockError",
    "SynlockWarning",
    "Unavailable",
    "Uncertain",
    "Unsupported",
    "aio",
    "fencing",
    "metrics",
    "schemes",
    "semaphore",
]
