"""Stores and locks for threads: `threading.Lock`'s habits."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from . import _gevent, _synlock
from ._base import BaseLock, BaseStore, Entered, _option_text, name_bytes
from ._custom import CustomStore, asker, traits
from ._errors import ConcurrentUse, LockBusy, LockLost, LockTimeout, NotHeld

#: Seconds between two questions of a promotion.
_PAUSE = 0.05

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")


class Store(BaseStore):
    """Where locks are kept. Opening connects to nothing; works in threads and in forked children.

    Options beside the URL win over those in it, in the URL's units (milliseconds).
    """

    @classmethod
    def custom(cls, store: CustomStore, name: str = "python", **options: object) -> Store:
        """A store that keeps its locks in an object of one's own; see `CustomStore`.

        `name` is what its URL shows, `custom:NAME`. The object is asked by the threads that use the locks
        and by no other: a wait asks again and again, nobody renews a lease (its locks need a `ttl`, unless
        the object frees the locks of dead processes), and `synlock.aio` refuses it.
        """
        made = cls.__new__(cls)
        made._is_custom = True
        made._url = f"custom:{name}"
        made._options = {key: _option_text(value) for key, value in options.items()}
        made._begin(_synlock.Backing.custom(name, asker(store), traits(store), list(made._options.items())))
        return made

    def lock(self, name: str | bytes, **options: Any) -> Lock:
        """A lock of this store; options as for `Lock`."""
        return Lock(self, name, **options)

    def _call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        if _gevent.is_patched() and self._asks_a_server:
            return _gevent.call(function, *arguments)
        return function(*arguments)

    def _give_back(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """As `_call`, for a release."""
        if _gevent.is_patched() and self._asks_a_server:
            return _gevent.give_back(function, *arguments)
        return function(*arguments)

    def ping(self, timeout: float | None = None) -> None:
        """Connects now, and raises unless the store can serve."""
        self._call(self._backing.ping, timeout)

    def is_locked(self, name: str | bytes) -> bool:
        """Whether anybody holds the lock."""
        return self._call(self._backing.is_locked, name_bytes(name))

    def inspect(self, name: str | bytes) -> dict[str, Any]:
        """Who holds the lock and how many wait."""
        return self._call(self._backing.inspect, name_bytes(name))

    def break_lock(self, name: str | bytes) -> bool:
        """Takes the lock from whoever holds it; False if nobody did."""
        return self._call(self._backing.break_lock, name_bytes(name))

    def check(self) -> list[str]:
        """What dead users left and nobody has cleared away, and damage; `Unsupported` except on `shm:`."""
        return self._call(self._backing.check)

    def create_table(self, timeout: float | None = None) -> None:
        """Makes the table of the store, if it is not there; `Unsupported` where there is none."""
        self._call(self._backing.create_table, timeout)

    def ddl(self, engine: str | None = None) -> str:
        """The SQL that makes the table, on the store's own engine or on `sqlite`, `postgres`, `mysql`."""
        return self._backing.ddl(engine)

    def wait_free(self, name: str | bytes, timeout: float | None = None) -> bool:
        """Waits until nobody holds the lock, without taking it."""
        if not _gevent.is_patched() or self._is_custom:
            return self._backing.wait_free(name_bytes(name), timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # In slices: a greenlet that is killed leaves its thread soon.
            left = 0.2 if deadline is None else max(0.0, min(0.2, deadline - time.monotonic()))
            if _gevent.call(self._backing.wait_free, name_bytes(name), left):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def list(
        self, prefix: str | bytes = b"", cursor: str | None = None, limit: int = 1000
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of held locks, and where the next one begins."""
        return self._call(self._backing.list, name_bytes(prefix), cursor, limit)

    def adopt(self, text: str, **options: Any) -> Lock:
        """Takes over a hold that another process exported; one of several adopters wins.

        The lock has the name and mode that were exported, and is held already.
        """
        lock = Lock(self, "?", **options)
        lock._become(self._call(self._backing.adopt, text, lock._options))
        return lock


class Lock(BaseLock, Entered):
    """A lock, with `threading.Lock`'s signatures: it contends with everybody, itself included.

    Times are seconds. One object may be shared by threads. A thread acts on its own hold; one that
    never acquired may release for another.
    """

    store: Store
    _store_type = Store

    def _begin(self) -> None:
        self._mine = threading.local()
        # Under patches that replace it, owners are greenlets.
        self._is_of_threads = type(self._mine).__module__ == "_thread"

    def _me(self, make: bool = False) -> object | None:
        me: object | None = getattr(self._mine, "me", None)
        if me is None and make:
            me = self._mine.me = object()
        return me

    def _blocks_a_hub(self, waits: bool) -> bool:
        return _gevent.is_patched() and (waits or self.store._asks_a_server)

    def _by_greenlet(self, handle: _synlock.Handle, op: str, argument: float | None = None) -> bool:
        """Under gevent, does what would block the hub: False if the caller may just do it."""
        if not self._blocks_a_hub(waits=False):
            return False
        _gevent.run(handle, op, argument)
        return True

    # What is free is taken and given back in native code alone, which calls the methods below for the rest.
    acquire = _synlock.Book._acquire_as_thread
    release = _synlock.Book._release_as_thread
    __enter__ = _synlock.Book._enter_as_thread
    __exit__ = _synlock.Book._exit_as_thread

    def _acquire(self, wait: float | None) -> bool:
        handle = self._spare()
        try:
            by_greenlet = self._blocks_a_hub(wait != 0.0)
            how = _gevent.run(handle, "acquire", wait) if by_greenlet else handle.acquire(wait)
        except (LockBusy, LockTimeout):
            self._keep(handle)
            return False
        self._take(handle, how)
        return True

    def _release(self, own: bool) -> None:
        hold = self._pop(own)
        handle = hold[1]
        try:
            if not self._by_greenlet(handle, "release"):
                handle.release()
        except ConcurrentUse:
            self._put_back(hold)
            raise
        self._keep(handle)

    def __call__(self, function: _F) -> _F:
        """As a decorator: every call of the function runs under the lock."""
        for is_later in inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction:
            if is_later(function):
                name = getattr(function, "__qualname__", function)
                raise TypeError(f"{name} runs after its call has returned, without the lock: take it inside")

        @functools.wraps(function)
        def locked(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return locked  # type: ignore[return-value]

    def refresh(self, ttl: float | None = None) -> None:
        """Lengthens the lease to `ttl` seconds, or to the lock's own; never shortens it."""
        handle = self._hold()
        if not self._by_greenlet(handle, "refresh", ttl):
            handle.refresh(ttl)

    def promote(self, timeout: float | None = 0.0) -> bool:
        """Turns a shared hold into the exclusive one; False while others read, and it stays shared.

        Of two that wait without a bound (None) neither gets it: give a timeout, and release when it is refused.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        handle = self._hold()
        token = handle.owner_token
        while True:
            # Asked again and again, with a store's own time for each answer, so that Ctrl-C is heard, and whoever
            # leaves the block that holds it gets in.
            try:
                if not self._by_greenlet(handle, "promote", 0.0):
                    handle.promote(0.0)
                return True
            except (LockBusy, LockTimeout):
                left = _PAUSE if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
            _gevent.pause(min(_PAUSE, left))
            # Released meanwhile, its handle may serve the next acquire.
            now = handle.owner_token
            token = token or now
            if now is not None and now != token:
                raise self._not_held("promote")

    def demote(self) -> None:
        """Turns the exclusive hold into a shared one."""
        handle = self._hold()
        if not self._by_greenlet(handle, "demote"):
            handle.demote()

    def is_acquired(self) -> bool:
        """Asks the store whether the lock is held: a statement about the past."""
        try:
            self.ensure_held()
        except (LockLost, NotHeld):
            return False
        return True

    def ensure_held(self) -> None:
        """Asks the store, and raises `LockLost` or `NotHeld` unless the lock is held."""
        handle = self._hold()
        if not self._by_greenlet(handle, "check"):
            handle.ensure_held()

    def lost_fd(self) -> int:
        """A descriptor that becomes readable when the hold is lost. Poll it, do not read it."""
        return self._hold().lost_fd()

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls back once when the hold is lost, from the thread that finds out."""
        self._hold().on_lost(callback)

    def export(self) -> str:
        """Hands the hold over as text that another process can adopt."""
        handle = self._hold()
        text = self.store._call(handle.export)
        self._strike(handle)
        return text


__all__ = ["Lock", "Store"]
