"""Several locks at once: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import _gevent, _synlock
from ._base import Acquired, BaseLock, Entered
from ._errors import ConcurrentUse, LockBusy, LockTimeout, SynlockError, make
from ._lock import Lock

_L = TypeVar("_L", bound=BaseLock)


class _Hold(Generic[_L]):
    """One hold of all locks."""

    def __init__(self, locks: tuple[_L, ...]) -> None:
        #: Who has it, as each lock knows them.
        self.owners: dict[_L, object] = {}
        self.parts = [(lock, lock._spare()) for lock in locks]
        self.native = _synlock.Set([handle for _, handle in self.parts])

    def put_back(self) -> None:
        for lock, handle in self.parts:
            lock._keep(handle)

    def take(self, how: tuple[float, bool, int, bool]) -> None:
        for lock, handle in self.parts:
            lock._take(handle, how)
            self.owners[lock] = lock._me()

    def strike(self) -> None:
        """Takes what is released out of the books of its locks; what was given back by hand is not there."""
        self.parts = [(lock, handle) for lock, handle in self.parts if lock._strike(handle)]


class BaseLockSet(Generic[_L]):
    """What sets for threads and those for tasks have in common."""

    def __init__(self, *locks: _L, timeout: float | None = None) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must not be negative; None waits for ever")
        self.locks = locks
        self._timeout = timeout if timeout is not None or not locks else locks[0]._timeout
        self._held: list[_Hold[_L]] = []
        #: How the last acquire that was granted went; None before the first.
        self.last_acquired: Acquired | None = None
        # Wrong locks are told of here, not at the first acquire.
        self._new_hold().put_back()

    def __repr__(self) -> str:
        names = ", ".join(repr(lock.name) for lock in self.locks)
        return f"<{type(self).__module__}.{type(self).__name__} of {names}>".replace("._set.", ".")

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a set cannot be pickled: pickle its locks")

    def _new_hold(self) -> _Hold[_L]:
        return _Hold(self.locks)

    def _granted(self, hold: _Hold[_L], how: tuple[float, bool, int, bool]) -> None:
        hold.take(how)
        self._held.append(hold)
        self.last_acquired = Acquired(*how)

    def _find(self, own: bool = False) -> _Hold[_L]:
        """As `BaseLock._find`: the caller's newest hold; one who never had one means the oldest."""
        first = self.locks[0]
        me, holds = first._me(), list(self._held)
        if me is not None:
            holds = [hold for hold in reversed(holds) if hold.owners[first] is me]
        elif own:
            holds = []
        if not holds:
            raise self._not_held()
        return holds[0]

    def _pop(self, own: bool) -> _Hold[_L]:
        hold = self._find(own)
        try:
            self._held.remove(hold)
        except ValueError:
            raise self._not_held() from None
        hold.strike()
        return hold

    def _back(self, hold: _Hold[_L]) -> None:
        """After a release that was refused, since another call was using one of the locks."""
        for lock, handle in hold.parts:
            lock._note(hold.owners[lock], handle)
        self._held.append(hold)

    def _error(self, status: int, words: str, operation: str | None) -> SynlockError:
        names = ", ".join(repr(lock.name) for lock in self.locks)
        return make(status, f"the set of {names} {words}", self.locks[0].store.url, None, operation)

    def _not_held(self) -> SynlockError:
        return self._error(4, "is held, but not by this caller" if self._held else "is not held", "release")

    def locked(self) -> bool:
        """Whether all locks are held by their objects, by this process' own knowledge."""
        return all(lock.locked() for lock in self.locks)


def wait_of(blocking: bool, timeout: float) -> float | None:
    """What `threading.Lock.acquire` means by its arguments, in seconds; None is for ever."""
    if not blocking and timeout != -1:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0 and timeout != -1:
        raise ValueError("timeout value must be a non-negative number")
    return (None if timeout == -1 else float(timeout)) if blocking else 0.0


class LockSet(BaseLockSet[Lock], Entered):
    """Locks that are taken together, all or none, on any stores and in any modes.

    No two sets can wait for one another, whatever the order of their locks. While it waits, a set may hold some of
    its locks, with leases that are renewed; it gives them back if it fails. The locks stay what they are: each has its
    own fencing token and lease, and those of a set that is held are held by this thread.

    >>> import synlock
    >>> store = synlock.Store("memory:")
    >>> accounts = synlock.LockSet(store.lock("account 7"), store.lock("account 9"), timeout=5)
    >>> with accounts:
    ...     accounts.locked()
    True
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquires all; False, and none is held, if one was not free at once (or in time)."""
        return self._acquire(wait_of(blocking, timeout))

    def _acquire(self, wait: float | None) -> bool:
        hold = self._new_hold()
        try:
            how = self._run(hold, "acquire", wait, lambda: hold.native.acquire(wait))
        except (LockBusy, LockTimeout):
            hold.put_back()
            return False
        self._granted(hold, how)
        return True

    def release(self) -> None:
        """Releases all; raises `NotHeld`, or what the first said that was not released as it should be."""
        self._release(own=False)

    def _release(self, own: bool) -> None:
        hold = self._pop(own)
        try:
            self._run(hold, "release", None, hold.native.release)
        except ConcurrentUse:
            self._back(hold)
            raise
        hold.put_back()

    def ensure_held(self) -> None:
        """Asks the stores, and raises `LockLost` or `NotHeld` unless all are held."""
        hold = self._find()
        self._run(hold, "check", None, hold.native.ensure_held)

    def _run(self, hold: _Hold[Lock], op: str, wait: float | None, call: Callable[[], Any]) -> Any:
        waits = op == "acquire" and wait != 0.0
        # No thread but the program's asks a custom store.
        is_direct = op != "acquire" and any(lock.store._is_custom for lock in self.locks)
        if not is_direct and any(lock._blocks_a_hub(waits) for lock in self.locks):
            return _gevent.run(hold.native, op, wait)
        return call()

    def __enter__(self) -> LockSet:
        self._enter()
        return self

    __exit__ = Entered._exit
