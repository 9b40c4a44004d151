"""Locks as Symfony's Lock component has them: a factory, and locks of which each is an owner of its own.

>>> from synlock.symfony import LockFactory
>>> lock = LockFactory("memory:").createLock("pdf-invoice-generation")
>>> lock.acquire()
True
>>> lock.release()

Times are seconds. What differs from PHP is what Python expects: `acquire` waits unless it is told not to.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from . import _lock
from ._errors import LockLost, NotHeld, make

#: Of a lock that is made without saying.
_TTL = 300.0


class LockFactory:
    """Makes locks of one store, which a URL names: the same locks as everywhere else in synlock."""

    def __init__(self, store: _lock.Store | str | None = None, **options: Any) -> None:
        if not isinstance(store, _lock.Store):
            url = store or os.environ.get("SYNLOCK_URL", "")
            if url.startswith("quorum:") and "max_ttl=" not in url:
                # It grants no longer leases than that, and a minute unless it is told.
                options.setdefault("max_ttl", round(_TTL * 1000))
            store = _lock.Store(url, **options)
        self.store = store

    def createLock(self, resource: str | bytes, ttl: float | None = _TTL, autoRelease: bool = True) -> Lock:
        """A lock that takes nothing yet.

        `ttl`: seconds after which it is free unless it is refreshed; None: held until it is released or the
        owner dies. Stores without leases (`flock:`, `sysv:`, advisory locks, `zookeeper:`) take no notice of it.
        `autoRelease`: released when the object is destroyed, and at the end of the process.
        """
        return Lock(self.store, resource, ttl, autoRelease)


class Lock:
    """A lock, and its owner: two of them for one resource keep each other out."""

    def __init__(
        self, store: _lock.Store, resource: str | bytes, ttl: float | None = None, autoRelease: bool = True
    ) -> None:
        can = store.capabilities
        self._ttl = ttl or None
        self._has_lease = bool(can["ttl"])
        options: dict[str, Any] = {"ttl": self._ttl if self._has_lease else None, "auto_release": autoRelease}
        self._exclusive = store.lock(resource, **options)
        # Readers are writers where nobody can read beside others.
        self._shared = store.lock(resource, shared=True, **options) if can["shared"] else self._exclusive
        #: The one that holds.
        self._held: _lock.Lock | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Takes the lock, whether or not this object has it; a reader becomes the only one, or stays a reader."""
        held = self._holding()
        if held is None:
            return self._take(self._exclusive, blocking, timeout)
        if self._is_read(held):
            return held.promote((timeout if timeout >= 0 else None) if blocking else 0.0)
        return True

    def acquireRead(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Takes the lock together with other readers; a writer becomes a reader."""
        held = self._holding()
        if held is None:
            return self._take(self._shared, blocking, timeout)
        if self._shared is not self._exclusive and not self._is_read(held):
            held.demote()
        return True

    def _take(self, lock: _lock.Lock, blocking: bool, timeout: float) -> bool:
        if not lock.acquire(blocking, timeout):
            return False
        self._held = lock
        return True

    def _holding(self) -> _lock.Lock | None:
        """What holds, its lease renewed; a hold that is lost is forgotten."""
        if self._held is None:
            return None
        try:
            if self._has_lease:
                self._held.refresh()
            else:
                self._held.ensure_held()
        except (LockLost, NotHeld):
            self._forget()
        return self._held

    @staticmethod
    def _is_read(held: _lock.Lock) -> bool:
        return held._hold().mode == "shared"

    def _forget(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            try:
                held.release()
            except (LockLost, NotHeld):
                pass

    def refresh(self, ttl: float | None = None) -> None:
        """Lengthens the lease to `ttl` seconds from now, or to the lock's own; never shortens it.

        Raises `LockLost` if somebody else may have the lock, `NotHeld` if it was not acquired.
        """
        if not (ttl or self._ttl):
            raise make(101, "refresh() needs a TTL: the lock has none")
        held = self._owned()
        if self._has_lease:
            held.refresh(ttl)
        else:
            held.ensure_held()

    def isAcquired(self) -> bool:
        """Asks the store. A statement about the past by the time it is read."""
        return self._held is not None and self._held.is_acquired()

    def release(self) -> None:
        """Gives the lock back; without effect if it is not held."""
        self._forget()

    def isExpired(self) -> bool:
        """Whether the lease is over or the lock was lost, as far as this process knows."""
        return self._held is not None and self._held.lost

    def getRemainingLifetime(self) -> float | None:
        """Seconds of the lease that are left at least; None without a lease."""
        return None if self._held is None else self._held.remaining

    def _owned(self) -> _lock.Lock:
        if self._held is None:
            raise make(4, "the lock is not held")
        return self._held

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


__all__ = ["Lock", "LockFactory"]
