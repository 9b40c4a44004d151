"""Locks as Symfony's Lock component has them: a factory, and locks of which each is an owner of its own.

>>> from synlock.symfony import LockFactory
>>> lock = LockFactory("memory:").createLock("pdf-invoice-generation")
>>> lock.acquire()
True
>>> lock.release()

Times are seconds. What differs from PHP is what Python expects: `acquire` waits unless it is told not to.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from types import TracebackType
from typing import Any

from . import _lock
from ._base import surely
from ._errors import ConcurrentUse, LockLost, NotHeld, SynlockError, make

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
        return self.createLockFromKey(Key(resource), ttl, autoRelease)

    def createLockFromKey(self, key: Key, ttl: float | None = _TTL, autoRelease: bool = True) -> Lock:
        """A lock of a key, which may come from another process; locks of one key are one owner."""
        return Lock(self.store, key, ttl, autoRelease)


class Key:
    """The name of a lock, and its owner.

    Pickling one that holds hands the hold over: the first use of a copy (this one included) takes it, and the
    others find it lost. A hold that ends with its process (`flock:`, `memory:`, ...) refuses with `Unsupported`.
    """

    def __init__(self, resource: str | bytes) -> None:
        self.resource = resource
        #: What holds, if anything.
        self._held: _lock.Lock | None = None
        #: A hold that no copy has taken yet.
        self._text: str | None = None
        self._lost = False
        #: When the hold ends by the last TTL (monotonic), though the lease in the store may last longer.
        self._end: float | None = None

    def __str__(self) -> str:
        return self.resource if isinstance(self.resource, str) else self.resource.decode("utf-8", "backslashreplace")

    def __repr__(self) -> str:
        return f"<synlock.symfony.Key {self.resource!r}>"

    def __getstate__(self) -> dict[str, Any]:
        if self._held is not None:
            try:
                self._text = self._held.export()
                self._held = None
            except (LockLost, NotHeld):
                self._forget()
        end = None if self._end is None else self._end - time.monotonic() + time.time()
        return {"resource": self.resource, "_text": self._text, "_lost": self._lost, "_held": None, "_end": end}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._end is not None:
            # The monotonic clock of another machine tells nothing here.
            self._end += time.monotonic() - time.time()

    def _adopt(self, store: _lock.Store, options: dict[str, Any]) -> _lock.Lock | None:
        """What holds; a hold that was handed over is taken first."""
        if self._text is not None:
            try:
                self._held = store.adopt(self._text, **options)
            except LockLost:
                self._lost = True
            self._text = None
        return self._held

    def _is_over(self) -> bool:
        """Whether the last TTL that was asked for is over; the store may think that there is time."""
        return self._end is not None and time.monotonic() >= self._end

    def _take(self, held: _lock.Lock) -> None:
        self._held, self._lost, self._end = held, False, None

    def _forget(self) -> None:
        held, end = self._held, self._end
        self._held, self._end = None, None
        if held is not None:
            try:
                held.release()
            except (LockLost, NotHeld):
                pass
            except ConcurrentUse:
                self._held, self._end = held, end
                raise


class _Hold(_lock.Lock):
    """One whose hold is the object's, whichever thread acts on it."""

    def _begin(self) -> None:
        """Nothing is kept for each thread."""

    def _me(self, make: bool = False) -> object | None:
        # Not the object: its own book would keep it.
        return _Hold


class Lock:
    """A lock, and its owner: two of them for one resource keep each other out, unless they have one key.

    An object, or two of one key, is for one thread at a time: another call meanwhile may be `ConcurrentUse`.
    """

    def __init__(
        self, store: _lock.Store, key: Key | str | bytes, ttl: float | None = None, autoRelease: bool = True
    ) -> None:
        self._key = key if isinstance(key, Key) else Key(key)
        self._auto_release = autoRelease
        self._store = store
        can = store.capabilities
        self._ttl = ttl or None
        self._has_lease = bool(can["ttl"])
        options: dict[str, Any] = {"ttl": self._ttl if self._has_lease else None, "auto_release": autoRelease}
        self._options = options
        self._exclusive = _Hold(store, self._key.resource, **options)
        # Readers are writers where nobody can read beside others.
        self._shared = self._exclusive
        if can["shared"]:
            self._shared = _Hold(store, self._key.resource, shared=True, **options)
        #: What this object has acquired, or lengthened: a key's other locks may hold as well.
        self._mine: _lock.Lock | None = None

    def __del__(self) -> None:
        # The key may live on, in a variable of the program's; what it handed over is not ours any more.
        mine = self.__dict__.get("_mine")
        if mine is not None and mine is self._key._held and self._auto_release and not sys.is_finalizing():
            with contextlib.suppress(SynlockError):
                self._key._forget()

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
        self._key._take(lock)
        self._mine = lock
        return True

    def _known(self) -> _lock.Lock | None:
        """What holds, as far as this process knows; a hold that was handed over is taken first."""
        is_new = self._key._held is None
        held = self._key._adopt(self._store, self._options)
        if is_new and held is not None:
            self._mine = held
        return held

    def _held(self) -> _lock.Lock | None:
        """What holds; a hold whose TTL is over is given back."""
        held = self._known()
        if held is None or not self._key._is_over():
            return held
        self._key._lost = True
        self._key._forget()
        return None

    def _holding(self) -> _lock.Lock | None:
        """What holds, its lease renewed; a hold that is lost is forgotten."""
        held = self._held()
        if held is None:
            return None
        try:
            self._lengthen(held, self._ttl)
        except (LockLost, NotHeld):
            self._key._forget()
            return None
        return held

    def _lengthen(self, held: _lock.Lock, ttl: float | None) -> None:
        if self._has_lease:
            begin = time.monotonic()
            held.refresh(ttl)
            self._key._end = None if ttl is None else begin + ttl
        else:
            held.ensure_held()
        self._mine = held

    @staticmethod
    def _is_read(held: _lock.Lock) -> bool:
        return held._hold().mode == "shared"

    def refresh(self, ttl: float | None = None) -> None:
        """Sets what is left of the lease to `ttl` seconds from now, or to the lock's own.

        The lease in the store is never shortened: should this process die, it lasts for the longest TTL.
        Raises `LockLost` if somebody else may have the lock, `NotHeld` if it was not acquired.
        """
        if not (ttl or self._ttl):
            raise make(101, "refresh() needs a TTL: the lock has none")
        held = self._held()
        if held is None:
            raise make(3, "the lock was lost") if self._key._lost else make(4, "the lock is not held")
        self._lengthen(held, ttl or self._ttl)

    def isAcquired(self) -> bool:
        """Asks the store. A statement about the past by the time it is read."""
        held = self._held()
        return held is not None and held.is_acquired()

    def release(self) -> None:
        """Gives the lock back; without effect if it is not held."""
        self._held()
        self._key._forget()

    def isExpired(self) -> bool:
        """Whether the lease is over or the lock was lost, as far as this process knows."""
        held = self._known()
        return self._key._lost if held is None else held.lost or self._key._is_over()

    def getRemainingLifetime(self) -> float | None:
        """Seconds of the lease that are left at least; None without a lease."""
        held = self._known()
        left = None if held is None else held.remaining
        if left is None or self._key._end is None:
            return left
        return min(left, max(0.0, self._key._end - time.monotonic()))

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            surely(self.release)
        except SynlockError:
            if kind is None:
                raise


__all__ = ["Key", "Lock", "LockFactory"]
