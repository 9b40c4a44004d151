"""Stores and locks for threads: `threading.Lock`'s habits."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from . import _gevent, _synlock
from ._errors import LockBusy, LockLost, LockTimeout, NotHeld, SynlockError, make

_F = TypeVar("_F", bound=Callable[..., Any])

logger = logging.getLogger("synlock")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO, "warning": logging.WARNING}

_handles: weakref.WeakSet[_synlock.Handle] = weakref.WeakSet()


@atexit.register
def _release_at_exit() -> None:
    for handle in list(_handles):
        handle.end_with_process()


def _log(event: dict[str, Any]) -> None:
    level = _LEVELS[event["level"]]
    if logger.isEnabledFor(level):
        name = event["resource"].decode("utf-8", "backslashreplace")
        logger.log(level, "%s: %s (%s)", name, event["message"], event["store"], extra={"synlock": event})


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def name_bytes(name: str | bytes) -> bytes:
    """A name as the stores see it: text is its UTF-8 bytes."""
    return name.encode() if isinstance(name, str) else bytes(name)


class Store:
    """Where locks are kept. Opening connects to nothing; works in threads and in forked children.

    Options beside the URL win over those in it, in the URL's units (milliseconds).
    """

    def __init__(self, url: str | None = None, **options: object) -> None:
        self._url = url or os.environ.get("SYNLOCK_URL", "")
        self._options = {key: _text(value) for key, value in options.items()}
        self._backing = _synlock.Backing(self._url, list(self._options.items()))
        # Told only to those who had asked for it when the store was opened.
        if logger.isEnabledFor(logging.INFO):
            self._backing.observe(_log)

    def __repr__(self) -> str:
        return f"<synlock.Store {self.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self._url, self._options)

    @property
    def url(self) -> str:
        """The URL without credentials."""
        return self._backing.url

    @property
    def fingerprint(self) -> str:
        """Equal in every process and language that shares the same locks."""
        return self._backing.fingerprint

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the store can do."""
        return self._backing.capabilities()

    def lock(self, name: str | bytes, **options: Any) -> Lock:
        """A lock of this store; options as for `Lock`."""
        return Lock(self, name, **options)

    def ping(self, timeout: float | None = None) -> None:
        """Connects now, and raises unless the store can serve."""
        self._backing.ping(timeout)

    def is_locked(self, name: str | bytes) -> bool:
        """Whether anybody holds the lock."""
        return self._backing.is_locked(name_bytes(name))

    def inspect(self, name: str | bytes) -> dict[str, Any]:
        """Who holds the lock and how many wait."""
        return self._backing.inspect(name_bytes(name))

    def list(
        self, prefix: str | bytes = b"", cursor: str | None = None, limit: int = 1000
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of held locks, and where the next one begins."""
        return self._backing.list(name_bytes(prefix), cursor, limit)

    def break_lock(self, name: str | bytes) -> bool:
        """Takes the lock from whoever holds it; False if nobody did."""
        return self._backing.break_lock(name_bytes(name))

    def wait_free(self, name: str | bytes, timeout: float | None = None) -> bool:
        """Waits until nobody holds the lock, without taking it."""
        return self._backing.wait_free(name_bytes(name), timeout)

    def adopt(self, text: str, **options: Any) -> Lock:
        """Takes over a hold that another process exported; one of several adopters wins."""
        lock = Lock(self, b"adopted", **options)
        lock._take(self._backing.adopt(text, lock._native_options()))
        return lock

    def observe(self, callback: Callable[[dict[str, Any]], None]) -> int:
        """Calls back with every event of this store's locks, from the thread on which it happens."""
        return self._backing.observe(callback)

    def unobserve(self, observer: int) -> None:
        """Stops calling back."""
        self._backing.unobserve(observer)


def _open(url: str, options: dict[str, str]) -> Store:
    return Store(url, **options)


class Lock:
    """A lock, with `threading.Lock`'s signatures: it contends with everybody, itself included.

    Times are seconds. One object may be shared by threads; `release` from any of them frees.
    """

    def __init__(
        self,
        store: Store | str | None,
        name: str | bytes,
        *,
        ttl: float | None = None,
        renew: bool | None = None,
        timeout: float | None = None,
        shared: bool = False,
        permits: tuple[int, int] | None = None,
        auto_release: bool | None = None,
        fair: bool | None = None,
        strict: bool | None = None,
        reentry: str | None = None,
        label: str | None = None,
    ) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError("timeout must not be negative; None waits for ever")
        self.store = store if isinstance(store, Store) else Store(store)
        self.name = name
        self._timeout = timeout
        self._options: dict[str, Any] = {
            "ttl": ttl,
            "renew": renew,
            "shared": shared,
            "permits": permits,
            "auto_release": auto_release,
            "fair": fair,
            "strict": strict,
            "reentry": reentry,
            "label": label,
        }
        #: Thread and handle of every hold; more than one only for shared locks and permits.
        self._holds: list[tuple[int, _synlock.Handle]] = []
        # A wrong option is told of here, not at the first acquire.
        self._idle: list[_synlock.Handle] = [self._new_handle()]

    def __repr__(self) -> str:
        return f"<synlock.Lock {self.name!r} on {self.store.url}{' held' if self._holds else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._holds:
            raise TypeError("a held lock cannot be pickled: export() it, or pickle the store")
        return _remake, (self.store, self.name, self._timeout, self._options)

    def _native_options(self) -> dict[str, Any]:
        return self._options

    def _new_handle(self) -> _synlock.Handle:
        handle = self.store._backing.lock(name_bytes(self.name), self._options)
        _handles.add(handle)
        return handle

    def _take(self, handle: _synlock.Handle) -> None:
        _handles.add(handle)
        self._holds.append((threading.get_ident(), handle))

    def _spare(self) -> _synlock.Handle:
        while True:
            try:
                handle = self._idle.pop()
            except IndexError:
                return self._new_handle()
            if handle.state == "idle":
                return handle

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquires; False if the lock was not free at once (or in time)."""
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        wait = None if timeout == -1 else float(timeout)
        return self._acquire(wait if blocking else 0.0)

    def _acquire(self, wait: float | None) -> bool:
        handle = self._spare()
        try:
            if wait != 0.0 and _gevent.is_patched():
                _gevent.acquire(handle, wait)
            else:
                handle.acquire(wait)
        except (LockBusy, LockTimeout):
            self._idle.append(handle)
            return False
        self._holds.append((threading.get_ident(), handle))
        return True

    def release(self) -> None:
        """Releases; raises `NotHeld`, or `LockLost` if the lock was not ours any more."""
        me = threading.get_ident()
        holds = self._holds
        try:
            # This thread's own hold first: another thread's may be of a later owner.
            mine = next((hold for hold in reversed(holds) if hold[0] == me), None)
            hold = mine if mine is not None else holds[0]
            holds.remove(hold)
        except (IndexError, ValueError):
            raise self._error(4, "is not held", "release") from None
        hold[1].release()
        self._idle.append(hold[1])

    def locked(self) -> bool:
        """Whether this object holds the lock, by its own knowledge (`is_acquired` asks the store)."""
        return any(handle.state in ("held", "expired", "releasing") for _, handle in list(self._holds))

    def __enter__(self) -> Lock:
        if not self._acquire(self._timeout):
            raise self._error(2, "was not free in time", "acquire")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.release()
        except NotHeld:
            pass
        except SynlockError:
            if kind is None:
                raise

    def __call__(self, function: _F) -> _F:
        """As a decorator: every call of the function runs under the lock."""

        @functools.wraps(function)
        def locked(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return locked  # type: ignore[return-value]

    def _error(self, status: int, words: str, operation: str | None) -> SynlockError:
        name = name_bytes(self.name).decode("utf-8", "backslashreplace")
        return make(status, f"the lock {name!r} {words}", self.store.url, name, operation)

    def _hold(self) -> _synlock.Handle:
        me = threading.get_ident()
        holds = list(self._holds)
        if not holds:
            raise self._error(4, "is not held", None)
        return next((handle for ident, handle in reversed(holds) if ident == me), holds[0][1])

    def refresh(self, ttl: float | None = None) -> None:
        """Lengthens the lease to `ttl` seconds, or to the lock's own; never shortens it."""
        self._hold().refresh(ttl)

    def promote(self, timeout: float | None = 0.0) -> bool:
        """Turns a shared hold into the exclusive one; False while others read, and it stays shared."""
        deadline = None if timeout is None else time.monotonic() + timeout
        handle = self._hold()
        while True:
            # In slices, so that Ctrl-C is heard.
            left = 0.2 if deadline is None else max(0.0, min(0.2, deadline - time.monotonic()))
            try:
                handle.promote(left)
                return True
            except (LockBusy, LockTimeout):
                if deadline is not None and time.monotonic() >= deadline:
                    return False

    def demote(self) -> None:
        """Turns the exclusive hold into a shared one."""
        self._hold().demote()

    def is_acquired(self) -> bool:
        """Asks the store whether the lock is held: a statement about the past."""
        return bool(self._holds) and self._hold().is_acquired()

    def ensure_held(self) -> None:
        """Asks the store, and raises `LockLost` or `NotHeld` unless the lock is held."""
        self._hold().ensure_held()

    @property
    def lost(self) -> bool:
        """Whether the hold was lost or has expired, by this process' knowledge."""
        return any(handle.state in ("lost", "expired") for _, handle in list(self._holds))

    @property
    def state(self) -> str:
        """idle, acquiring, held, expired, lost, releasing or forked."""
        holds = list(self._holds)
        return holds[-1][1].state if holds else "idle"

    @property
    def remaining(self) -> float | None:
        """How much of the lease is left at least, in seconds; None without a lease."""
        return self._hold().remaining if self._holds else None

    @property
    def fencing_token(self) -> int | None:
        """The fencing token of the hold."""
        return self._hold().fencing_token if self._holds else None

    @property
    def owner_token(self) -> str | None:
        """The owner token of the hold: whoever has it may release the lock."""
        return self._hold().owner_token if self._holds else None

    def lost_fd(self) -> int:
        """A descriptor that becomes readable when the hold is lost. Poll it, do not read it."""
        return self._hold().lost_fd()

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls back once when the hold is lost, from the thread that finds out."""
        self._hold().on_lost(callback)

    def export(self) -> str:
        """Hands the hold over as text that another process can adopt."""
        handle = self._hold()
        text = handle.export()
        self._holds = [hold for hold in self._holds if hold[1] is not handle]
        return text


def _remake(store: Store, name: str | bytes, timeout: float | None, options: dict[str, Any]) -> Lock:
    return Lock(store, name, timeout=timeout, **options)


__all__ = ["Lock", "LockLost", "Store"]
