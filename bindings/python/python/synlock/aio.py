"""The same stores and locks for asyncio. No thread per wait: one descriptor per event loop.

Cancelling a task that acquires is atomic: afterwards it holds nothing.
"""

from __future__ import annotations

import asyncio
import weakref
from types import TracebackType
from typing import Any

from . import _lock, _synlock
from ._base import BaseLock
from ._errors import LockBusy, LockTimeout, NotHeld, SynlockError

_BATCH = 1024


class _Completions:
    """Completions of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._dispatch = _synlock.Dispatch()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._loop = loop
        self._watching = False

    def _drain(self) -> None:
        while True:
            reaped = self._dispatch.reap(_BATCH)
            for ticket, error, how in reaped:
                future = self._pending.pop(ticket, None)
                if future is None or future.done():
                    continue
                if error is None:
                    future.set_result(how)
                else:
                    future.set_exception(error)
            if len(reaped) < _BATCH:
                break
        if not self._pending and self._watching:
            # An idle store must not keep a loop busy, nor a closed one referenced.
            self._loop.remove_reader(self._dispatch.fd())
            self._watching = False

    async def run(self, handle: _synlock.Handle, op: str, argument: float | None = None) -> Any:
        ticket = self._dispatch.submit(handle, op, argument)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[ticket] = future
        if not self._watching:
            self._loop.add_reader(self._dispatch.fd(), self._drain)
            self._watching = True
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._dispatch.cancel(ticket)
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue
            if op == "acquire" and future.exception() is None:
                # Granted before the cancel arrived: give it back.
                await self.run(handle, "release")
            raise


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Completions] = weakref.WeakKeyDictionary()


def _completions() -> _Completions:
    loop = asyncio.get_running_loop()
    found = _loops.get(loop)
    if found is None:
        found = _loops[loop] = _Completions(loop)
    return found


class Store(_lock.Store):
    """As `synlock.Store`; its locks are awaited. Inspecting and breaking run in a thread."""

    def lock(self, name: str | bytes, **options: Any) -> Lock:  # type: ignore[override]
        """A lock of this store; options as for `synlock.Lock`."""
        return Lock(self, name, **options)


class Lock(BaseLock):
    """As `synlock.Lock`, for tasks of one event loop at a time. Options are the same.

    A task acts on its own hold; one that never acquired may release for another.
    """

    store: Store
    _store_type = Store

    def _begin(self) -> None:
        self._tasks: weakref.WeakKeyDictionary[Any, object] = weakref.WeakKeyDictionary()

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
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return await self._acquire((None if timeout == -1 else float(timeout)) if blocking else 0.0)

    async def _acquire(self, wait: float | None) -> bool:
        handle = self._spare()
        try:
            await _completions().run(handle, "acquire", wait)
        except (LockBusy, LockTimeout):
            self._idle.append(handle)
            return False
        self._take(handle)
        return True

    async def release(self) -> None:
        """Releases; raises `NotHeld`, or `LockLost` if the lock was not ours any more."""
        await self._release(own=False)

    async def _release(self, own: bool) -> None:
        handle = self._pop(own)
        await _completions().run(handle, "release")
        self._idle.append(handle)

    async def __aenter__(self) -> Lock:
        if not await self._acquire(self._timeout):
            raise self._error(2, "was not free in time", "acquire")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._release(own=True)
        except NotHeld:
            pass
        except SynlockError:
            if kind is None:
                raise

    async def refresh(self, ttl: float | None = None) -> None:
        """Lengthens the lease."""
        await _completions().run(self._hold(), "refresh", ttl)

    async def promote(self, timeout: float | None = 0.0) -> bool:
        """Turns a shared hold into the exclusive one; False while others read."""
        try:
            await _completions().run(self._hold(), "promote", timeout)
        except (LockBusy, LockTimeout):
            return False
        return True

    async def demote(self) -> None:
        """Turns the exclusive hold into a shared one."""
        await _completions().run(self._hold(), "demote")

    async def ensure_held(self) -> None:
        """Asks the store, and raises unless the lock is held."""
        await _completions().run(self._hold(), "check")

    async def wait_lost(self) -> None:
        """Returns when the hold is lost."""
        loop = asyncio.get_running_loop()
        lost = loop.create_future()

        def tell() -> None:
            if not lost.done():
                lost.set_result(None)

        self._hold().on_lost(lambda: loop.call_soon_threadsafe(tell))
        await lost


__all__ = ["Lock", "Store"]
