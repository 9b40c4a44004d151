"""Operations of one event loop: no thread per wait, one descriptor per loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from . import _synlock
from ._errors import SynlockError

_T = TypeVar("_T")
_BATCH = 1024
#: Threads of the loop's executor that may wait for somebody else's lock to be free.
_WAITING_THREADS = 2


class Operations:
    """What is under way on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._dispatch = _synlock.Dispatch()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        #: A handle serves one operation at a time; the others wait for this.
        self._using: dict[_synlock.Handle, asyncio.Future[Any]] = {}
        self._waiting_threads = 0
        # The table of loops must not keep this loop.
        self._loop = weakref.ref(loop)
        self.pid = os.getpid()
        loop.add_reader(self._dispatch.fd(), self._drain)

    def _new(self) -> asyncio.Future[Any]:
        loop = self._loop()
        assert loop is not None
        return loop.create_future()

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

    async def _turn(self, handle: _synlock.Handle) -> None:
        while (busy := self._using.get(handle)) is not None:
            await asyncio.wait([busy])

    def _over(self, handle: _synlock.Handle, turn: asyncio.Future[Any]) -> None:
        if self._using.get(handle) is turn:
            del self._using[handle]
        if not turn.done():
            turn.set_result(None)

    async def run(self, handle: _synlock.Handle, op: str, argument: float | None = None) -> Any:
        """Runs an operation of dispatch to its end, even if the task is cancelled meanwhile."""
        await self._turn(handle)
        turn = self._using[handle] = self._new()
        try:
            ticket = self._dispatch.submit(handle, op, argument)
            future = self._pending[ticket] = self._new()
            try:
                return await future
            except asyncio.CancelledError:
                if future.cancelled():
                    self._dispatch.cancel(ticket)
                    future = self._pending[ticket] = self._new()
                    await _wait_out(future)
                done = future.exception() is None
                if op == "acquire" and done:
                    # Granted before the cancel arrived: give it back.
                    self._over(handle, turn)
                    with contextlib.suppress(SynlockError):
                        await self.run(handle, "release")
                raise
        finally:
            self._over(handle, turn)

    async def release(self, handle: _synlock.Handle) -> None:
        """Releases; a cancel before or during it does not keep the lock."""
        cancelled: asyncio.CancelledError | None = None
        while (busy := self._using.get(handle)) is not None:
            try:
                await asyncio.wait([busy])
            except asyncio.CancelledError as error:
                cancelled = error
        try:
            await self.run(handle, "release")
        except SynlockError:
            if cancelled is None:
                raise
        if cancelled is not None:
            raise cancelled

    async def export(
        self, handle: _synlock.Handle, back: Callable[[str], _synlock.Handle]
    ) -> tuple[str | _synlock.Handle, asyncio.CancelledError | None]:
        """The text; or, cancelled too late, the handle that `back` has made of it."""
        await self._turn(handle)
        turn = self._using[handle] = self._new()
        try:
            text, cancelled = await to_the_end(handle.export)
            if cancelled is None:
                return text, None
            return (await to_the_end(back, text))[0], cancelled
        finally:
            self._over(handle, turn)

    async def wait_free(self, free: Callable[[float], bool], timeout: float | None) -> bool:
        """Asks in slices: a thread that nobody waits for any more is soon back."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = 0.2 if deadline is None else max(0.0, min(0.2, deadline - loop.time()))
            wait = left if self._waiting_threads < _WAITING_THREADS else 0.0
            self._waiting_threads += wait > 0
            try:
                if await loop.run_in_executor(None, free, wait):
                    return True
            finally:
                self._waiting_threads -= wait > 0
            if deadline is not None and loop.time() >= deadline:
                return False
            if wait == 0:
                await asyncio.sleep(min(0.05, left))


async def _wait_out(future: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Waits for the future whatever cancels come meanwhile; the last of them."""
    cancelled = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def to_the_end(function: Callable[..., _T], *arguments: Any) -> tuple[_T, asyncio.CancelledError | None]:
    """Calls in a thread, for what must not be left half done: the result, and the cancel that came meanwhile."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    cancelled = await _wait_out(future)
    if cancelled is not None and future.exception() is not None:
        raise cancelled
    return future.result(), cancelled


async def in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """Calls in a thread, for what may be left alone."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Operations] = weakref.WeakKeyDictionary()


def operations() -> Operations:
    """Those of the running loop; a forked child has none of its parent's."""
    loop = asyncio.get_running_loop()
    found = _loops.get(loop)
    if found is None or found.pid != os.getpid():
        found = _loops[loop] = Operations(loop)
    return found
