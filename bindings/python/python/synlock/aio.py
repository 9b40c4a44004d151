"""The same stores and locks for asyncio. No thread per wait: one descriptor per event loop.

Cancelling a task that acquires is atomic: afterwards it holds nothing. Nothing here blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any

from . import _synlock
from ._base import Acquired, BaseLock, BaseSession, BaseStore, name_bytes
from ._errors import ConcurrentUse, LockBusy, LockLost, LockTimeout, NotHeld, Reentered, SynlockError, make
from ._loop import collector, give_back, in_thread, operations, to_the_end
from ._set import BaseLockSet, wait_of
from .semaphore import BaseManager, Key, _caller


class Store(BaseStore):
    """As `synlock.Store`, awaited. What has no descriptor to wait for runs in the loop's executor."""

    @classmethod
    def _of(cls, store: BaseStore | str | None) -> BaseStore:
        if isinstance(store, BaseStore) and store._is_custom:
            words = "a custom store is asked by the threads that use it: synlock.Lock, not synlock.aio"
            raise make(106, words, store.url)
        return super()._of(store)

    def lock(self, name: str | bytes, **options: Any) -> Lock:
        """A lock of this store; options as for `synlock.Lock`."""
        return Lock(self, name, **options)

    async def ping(self, timeout: float | None = None) -> None:
        """Connects now, and raises unless the store can serve."""
        await in_thread(self._backing.ping, timeout)

    async def is_locked(self, name: str | bytes) -> bool:
        """Whether anybody holds the lock."""
        return await in_thread(self._backing.is_locked, name_bytes(name))

    async def inspect(self, name: str | bytes) -> dict[str, Any]:
        """Who holds the lock and how many wait."""
        return await in_thread(self._backing.inspect, name_bytes(name))

    async def break_lock(self, name: str | bytes) -> bool:
        """Takes the lock from whoever holds it; False if nobody did."""
        return await in_thread(self._backing.break_lock, name_bytes(name))

    async def check(self) -> list[str]:
        """What dead users left and nobody has cleared away, and damage; `Unsupported` except on `shm:`."""
        return await in_thread(self._backing.check)

    async def create_table(self, timeout: float | None = None) -> None:
        """Makes the table of the store, if it is not there; `Unsupported` where there is none."""
        await in_thread(self._backing.create_table, timeout)

    def ddl(self, engine: str | None = None) -> str:
        """The SQL that makes the table, on the store's own engine or on `sqlite`, `postgres`, `mysql`."""
        return self._backing.ddl(engine)

    async def wait_free(self, name: str | bytes, timeout: float | None = None) -> bool:
        """Waits until nobody holds the lock, without taking it."""
        return await operations().wait_free(self._backing, name_bytes(name), timeout)

    async def adopt(self, text: str, **options: Any) -> Lock:
        """Takes over a hold that another process exported; one of several adopters wins.

        The lock has the name and mode that were exported, and is held already.
        """
        lock = Lock(self, "?", **options)
        handle, cancelled = await to_the_end(self._backing.adopt, text, lock._options)
        if cancelled is not None:
            with contextlib.suppress(SynlockError):
                await operations().release(handle)
            raise cancelled
        lock._become(handle)
        return lock

    async def list(
        self, prefix: str | bytes = b"", cursor: str | None = None, limit: int = 1000
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of held locks, and where the next one begins."""
        return await in_thread(self._backing.list, name_bytes(prefix), cursor, limit)


class _Entered:
    """What `async with` does to a lock, or to a set of them."""

    _timeout: float | None

    async def _acquire(self, wait: float | None) -> bool:
        raise NotImplementedError

    async def _release(self, own: bool) -> None:
        raise NotImplementedError

    def _error(self, status: int, words: str, operation: str | None) -> SynlockError:
        raise NotImplementedError

    async def _enter(self) -> None:
        if not await self._acquire(self._timeout):
            raise self._error(2, "was not free in time", "acquire")

    async def _exit(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._release(own=True)
        except NotHeld:
            pass
        except SynlockError:
            if kind is None:
                raise


class Lock(BaseLock, _Entered):
    """As `synlock.Lock`, for tasks of one event loop at a time. Options are the same.

    A task acts on its own hold; one that never acquired may release for another.
    """

    store: Store
    _store_type = Store

    def _begin(self) -> None:
        collector.make_ready()
        self._tasks: weakref.WeakKeyDictionary[Any, object] = weakref.WeakKeyDictionary()

    def __del__(self) -> None:
        handles = [handle for _, handle in self._holds() if handle.state == "held"]
        self._clear()
        if handles:
            collector.drop(handles)

    def _me(self, make: bool = False) -> object | None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return None
        if task is None:
            return None
        return self._tasks.setdefault(task, object()) if make else self._tasks.get(task)

    async def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquires; False if the lock was not free at once (or in time)."""
        return await self._acquire(wait_of(blocking, timeout))

    async def _acquire(self, wait: float | None) -> bool:
        handle = self._spare()
        try:
            how = await operations().run(handle, "acquire", wait)
        except (LockBusy, LockTimeout):
            self._keep(handle)
            return False
        self._take(handle, how)
        return True

    async def release(self) -> None:
        """Releases; raises `NotHeld`, or `LockLost` if the lock was not ours any more.

        Waits for what is under way on the hold; a promotion that waits raises `LockCancelled`.
        """
        await self._release(own=False)

    async def _release(self, own: bool) -> None:
        hold = self._pop(own)
        try:
            await operations().release(hold[1])
        except ConcurrentUse:
            self._put_back(hold)
            raise
        self._keep(hold[1])

    async def __aenter__(self) -> Lock:
        await self._enter()
        return self

    __aexit__ = _Entered._exit

    async def refresh(self, ttl: float | None = None) -> None:
        """Lengthens the lease to `ttl` seconds, or to the lock's own; never shortens it."""
        await operations().run(self._hold(), "refresh", ttl)

    async def promote(self, timeout: float | None = 0.0) -> bool:
        """Turns a shared hold into the exclusive one; False while others read, and it stays shared.

        Of two that wait without a bound (None) neither gets it: give a timeout, and release when it is refused.
        """
        try:
            await operations().run(self._hold(), "promote", timeout)
        except (LockBusy, LockTimeout):
            return False
        return True

    async def demote(self) -> None:
        """Turns the exclusive hold into a shared one."""
        await operations().run(self._hold(), "demote")

    async def is_acquired(self) -> bool:
        """Asks the store whether the lock is held: a statement about the past."""
        try:
            await self.ensure_held()
        except (LockLost, NotHeld):
            return False
        return True

    async def ensure_held(self) -> None:
        """Asks the store, and raises `LockLost` or `NotHeld` unless the lock is held."""
        await operations().run(self._hold(), "check")

    async def export(self) -> str:
        """Hands the hold over as text that another process can adopt. Cancelled, it still holds."""
        handle = self._hold()
        owner = next(owner for owner, known in self._holds() if known is handle)

        def back(text: str) -> _synlock.Handle:
            return self.store._backing.adopt(text, self._options)

        exported, cancelled = await operations().export(handle, back)
        self._strike(handle)
        if isinstance(exported, str):
            return exported
        self._note(owner, exported)
        raise cancelled or asyncio.CancelledError

    async def lost_fd(self) -> int:
        """A descriptor that becomes readable when the hold is lost. Poll it, do not read it."""
        return await in_thread(self._hold().lost_fd)

    async def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls back on the loop, once, when the hold is lost."""
        known = weakref.ref(asyncio.get_running_loop())

        def tell() -> None:
            if (loop := known()) is not None:
                # A closed one has nobody left to tell.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(callback)

        await in_thread(self._hold().on_lost, tell)

    async def wait_lost(self) -> None:
        """Returns when the hold is lost."""
        lost = asyncio.Event()
        known = weakref.ref(lost)

        def tell() -> None:
            if (lost := known()) is not None:
                lost.set()

        # The hold must not keep who waits for its end: the loop does, until it is closed.
        waited = operations().waited
        waited.add(lost)
        try:
            await self.on_lost(tell)
            await lost.wait()
        finally:
            waited.discard(lost)


class LockSet(BaseLockSet[Lock], _Entered):
    """As `synlock.LockSet`, of locks of this module, for tasks of one event loop."""

    def __del__(self) -> None:
        held: list[Any] = self.__dict__.pop("_held", [])
        if held:
            collector.drop(held)

    async def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquires all; False, and none is held, if one was not free at once (or in time)."""
        return await self._acquire(wait_of(blocking, timeout))

    async def _acquire(self, wait: float | None) -> bool:
        hold = self._new_hold()
        try:
            how = await operations().run(hold.native, "acquire", wait)
        except (LockBusy, LockTimeout):
            hold.put_back()
            return False
        self._granted(hold, how)
        return True

    async def release(self) -> None:
        """Releases all; raises `NotHeld`, or what the first said that was not released as it should be."""
        await self._release(own=False)

    async def _release(self, own: bool) -> None:
        hold = self._pop(own)
        try:
            await operations().release(hold.native)
        except ConcurrentUse:
            self._back(hold)
            raise
        hold.put_back()

    async def ensure_held(self) -> None:
        """Asks the stores, and raises `LockLost` or `NotHeld` unless all are held."""
        await operations().run(self._find().native, "check")

    async def __aenter__(self) -> LockSet:
        await self._enter()
        return self

    __aexit__ = _Entered._exit


class Session(BaseSession):
    """As `synlock.Session`, awaited. A task that is cancelled while it acquires has acquired nothing."""

    store: Store
    _store_type = Store

    def __init__(self, store: Store | str | None = None, id: str | None = None) -> None:
        collector.make_ready()
        #: Of acquires, by loop and name; whoever is at one has a task, which keeps its loop and so the id.
        self._turns: weakref.WeakValueDictionary[tuple[int, bytes], asyncio.Lock] = weakref.WeakValueDictionary()
        super().__init__(store, id)

    def __del__(self) -> None:
        # A release may wait for a server: not on the loop.
        owner = [self.__dict__.pop("_owner", None)]
        collector.drop(owner)

    async def acquire(self, name: str | bytes, ttl: float = 30.0) -> bool:
        """Takes the lock for `ttl`, or renews it if the session holds it. Does not wait."""
        key = name_bytes(name)
        # One at a time: what a cancelled one takes back, no other of this loop has been told that it holds.
        turn = id(asyncio.get_running_loop()), key
        async with self._turns.setdefault(turn, asyncio.Lock()):
            (held, is_new), cancelled = await to_the_end(self._owner.acquire, key, ttl)
            if cancelled is not None:
                if is_new:
                    with contextlib.suppress(SynlockError):
                        await to_the_end(self._owner.release, key)
                raise cancelled
            return held

    async def renew(self, name: str | bytes, ttl: float = 30.0) -> bool:
        """Lengthens a hold; False if there is none. A persistent session renews what any process acquired."""
        return await in_thread(self._owner.renew, name_bytes(name), ttl)

    async def may_be_available(self, name: str | bytes) -> bool:
        """Whether an acquire by somebody else would find the lock free now. Breaks a hold whose lease has ended."""
        return await in_thread(self._owner.may_be_available, name_bytes(name))

    async def wait(self, name: str | bytes, delay: float = 30.0) -> bool:
        """Waits until the lock may be available: True if it is still held after `delay`. Takes nothing."""
        return not await self.store.wait_free(name, delay)

    async def release(self, name: str | bytes) -> bool:
        """Releases one lock; False if the session did not hold it any more."""
        return await give_back(self._owner.release, name_bytes(name))

    async def release_all(self, id: str | None = None) -> int:
        """As `synlock.Session.release_all`: all locks of this session, or all of that id; how many there were."""
        return await give_back(self._owner.release_all, id)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_persistent:
            return
        try:
            await self.release_all()
        except SynlockError:
            if kind is None:
                raise


class SemaphoreManager(BaseManager):
    """As `synlock.SemaphoreManager`, awaited: the process holds a key, not a task.

    A task that is cancelled while it acquires has acquired nothing.
    """

    store: Store
    _store_type = Store

    def __init__(self, store: BaseStore | str | None = None, **settings: Any) -> None:
        collector.make_ready()
        super().__init__(store, **settings)

    def __del__(self) -> None:
        # A release may wait for a server: not on the loop.
        native = [self.__dict__.pop("_native", None)]
        collector.drop(native)

    def acquire(self, key: Key, path: str | None = None, ttl: float | None = None) -> Coroutine[Any, Any, Acquired]:
        """Acquires the lock of a key; raises `LockTimeout`, `Reentered`.

        `path` says in the log who asks, by default the calling function; `ttl` is the lease.
        """
        return self._acquire(key, path or _caller(), ttl)

    async def _acquire(self, key: Key, path: str, ttl: float | None) -> Acquired:
        while True:
            errand, handle, lease = self._native.ask(key, path, ttl)
            if errand is not None:
                break
            assert handle is not None
            # Lost meanwhile, it is asked for anew.
            with contextlib.suppress(LockLost, NotHeld):
                await operations().run(handle, "refresh", lease)
                return Acquired(0.0, False, 1, False)
        try:
            how = await operations().run(errand.handle, "acquire", errand.patience)
        except Reentered:
            self._native.refuse(errand)
            raise
        self._native.keep(errand)
        return Acquired(*how)

    def release(self, key: Key, path: str | None = None) -> Coroutine[Any, Any, None]:
        """Releases it; raises `NotHeld`, or `LockLost` if it was lost meanwhile: whoever has it is left alone."""
        return self._release(key, path or _caller())

    async def _release(self, key: Key, path: str) -> None:
        errand = self._native.take(key, path)
        if errand is None:
            return
        try:
            await operations().release(errand.handle)
        except ConcurrentUse:
            self._native.put_back(errand)
            raise

    def lock(
        self, key: Key, path: str | None = None, ttl: float | None = None
    ) -> contextlib.AbstractAsyncContextManager[Acquired]:
        """Holds the lock of a key for an `async with` block."""
        return self._lock(key, path or _caller(), ttl)

    @contextlib.asynccontextmanager
    async def _lock(self, key: Key, path: str, ttl: float | None) -> AsyncIterator[Acquired]:
        acquired = await self._acquire(key, path, ttl)
        try:
            yield acquired
        except BaseException:
            # What the block raised counts for more.
            with contextlib.suppress(Exception):
                await self._release(key, path)
            raise
        await self._release(key, path)

    async def refresh(self, key: Key, ttl: float | None = None) -> None:
        """Lengthens the lease of a held key to `ttl` seconds from now, or to its own."""
        handle, has_lease = self._native.holding(key)
        await operations().run(handle, "refresh", ttl if has_lease else None)

    async def is_acquired(self, key: Key) -> bool:
        """Whether this manager holds the key; asks the store."""
        try:
            await operations().run(self._native.holding(key)[0], "check")
        except (LockLost, NotHeld):
            return False
        return True

    async def close(self) -> None:
        """Releases what is held, and logs it as forgotten."""
        await give_back(self._native.end)


__all__ = ["Lock", "LockSet", "SemaphoreManager", "Session", "Store"]
