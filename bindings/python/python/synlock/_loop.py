"""Operations of one event loop: no thread per wait, one descriptor per loop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from . import _synlock
from ._errors import SynlockError

_T = TypeVar("_T")
_BATCH = 1024
#: Threads of a loop that wait for somebody else's lock to be free, one for each name. With more names
#: than this, they take turns.
_WATCHING_THREADS = 32
#: A thread that nobody waits for any more is back after this.
_SLICE = 0.2


class Operations:
    """What is under way on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._dispatch = _synlock.Dispatch()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        #: A handle serves one operation at a time; the others wait for this.
        self._using: dict[_synlock.Handle | _synlock.Set, asyncio.Future[Any]] = {}
        #: Tickets of promotions that wait.
        self._promoting: dict[_synlock.Handle | _synlock.Set, int] = {}
        #: Who waits for a name to be free, by store and name.
        self._watched: dict[tuple[int, bytes], list[asyncio.Future[bool]]] = {}
        self._watching: set[asyncio.Task[None]] = set()
        #: What tasks wait for that nobody else has.
        self.waited: set[asyncio.Event] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._loop = weakref.ref(loop)
        self.pid = os.getpid()
        # Which keeps this while the loop is open.
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
                if future is None:
                    continue
                if future.done():
                    # Its task was cancelled in this very turn of the loop, and has not run since: it asks.
                    future = self._pending[ticket] = self._new()
                if error is None:
                    future.set_result(how)
                else:
                    future.set_exception(error)
            if len(reaped) < _BATCH:
                break

    async def _turn(self, handle: _synlock.Handle | _synlock.Set) -> None:
        while (busy := self._using.get(handle)) is not None:
            await asyncio.wait([busy])

    def _over(self, handle: _synlock.Handle | _synlock.Set, turn: asyncio.Future[Any]) -> None:
        if self._using.get(handle) is turn:
            del self._using[handle]
        if not turn.done():
            turn.set_result(None)

    async def run(self, handle: _synlock.Handle | _synlock.Set, op: str, argument: float | None = None) -> Any:
        """Runs an operation of dispatch to its end, even if the task is cancelled meanwhile."""
        await self._turn(handle)
        turn = self._using[handle] = self._new()
        try:
            ticket = self._dispatch.submit(handle, op, argument)
            future = self._pending[ticket] = self._new()
            if op == "promote" and argument != 0:
                self._promoting[handle] = ticket
            try:
                return await future
            except asyncio.CancelledError:
                if future.cancelled():
                    future = await self._cancel(ticket)
                done = future.exception() is None
                if op == "acquire" and done:
                    # Granted before the cancel arrived: what was held before stays, and no more.
                    self._over(handle, turn)
                    with contextlib.suppress(SynlockError):
                        await self.run(handle, "abandon")
                raise
            finally:
                if self._promoting.get(handle) == ticket:
                    del self._promoting[handle]
        finally:
            self._over(handle, turn)

    async def _cancel(self, ticket: int) -> asyncio.Future[Any]:
        """What an operation came to, whose task is cancelled."""
        if (future := self._pending[ticket]).cancelled():
            self._dispatch.cancel(ticket)
            future = self._pending[ticket] = self._new()
            await _wait_out(future)
        else:
            del self._pending[ticket]
        return future

    async def release(self, handle: _synlock.Handle | _synlock.Set) -> None:
        """Releases; a cancel before or during it does not keep the lock. A promotion that waits ends for it."""
        cancelled: asyncio.CancelledError | None = None
        while (busy := self._using.get(handle)) is not None:
            if (ticket := self._promoting.get(handle)) is not None:
                self._dispatch.cancel(ticket)
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

    async def wait_free(self, backing: _synlock.Backing, name: bytes, timeout: float | None) -> bool:
        """Asks once, then waits: all tasks that wait for one name share one thread."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        if await self._in_own_thread(backing.wait_free, name, 0.0):
            return True
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            return False
        key = (id(backing), name)
        free: asyncio.Future[bool] = self._new()
        waiting = self._watched.get(key)
        if waiting is None:
            self._watched[key] = [free]
            task = loop.create_task(self._watch(key, backing))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)
        else:
            waiting.append(free)
        try:
            return await asyncio.wait_for(free, left)
        except asyncio.TimeoutError:
            return False

    async def _watch(self, key: tuple[int, bytes], backing: _synlock.Backing) -> None:
        waiting = self._watched[key]
        try:
            while waiting:
                # Who comes later is not told of what was so before: the next turn is theirs.
                asked = list(waiting)
                if await self._in_own_thread(backing.wait_free, key[1], _SLICE):
                    for one in asked:
                        if not one.done():
                            one.set_result(True)
                waiting[:] = [one for one in waiting if not one.done()]
        except SynlockError as error:
            for one in waiting:
                if not one.done():
                    one.set_exception(error)
        finally:
            del self._watched[key]

    async def _in_own_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_WATCHING_THREADS, "synlock-wait-free")
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


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


async def give_back(function: Callable[..., _T], *arguments: Any) -> _T:
    """Calls in a thread, for a release: a cancel before or during it does not keep the lock."""
    result, cancelled = await to_the_end(function, *arguments)
    if cancelled is not None:
        raise cancelled
    return result


async def in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """Calls in a thread, for what may be left alone."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


class _Collector:
    """Drops handles in a thread of its own: the release of a hold that was forgotten may wait for a server.

    Collection comes at any moment, perhaps while this very thread has one of Python's own locks: whoever is
    collected must take none, and start no thread.
    """

    def __init__(self) -> None:
        self._forgotten: queue.SimpleQueue[list[Any] | None] | None = None
        self._pid = 0

    def make_ready(self) -> None:
        """Before there is anything to drop."""
        if self._forgotten is not None and self._pid == os.getpid():
            return
        forgotten: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
        thread = threading.Thread(target=self._run, args=(forgotten,), name="synlock-release", daemon=True)
        # Without a thread they are dropped where they are forgotten.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._forgotten, self._pid = forgotten, os.getpid()
            atexit.register(self._end, thread, forgotten, os.getpid())

    def drop(self, handles: list[Any]) -> None:
        """The list must be the last to have them."""
        if self._forgotten is not None and self._pid == os.getpid():
            self._forgotten.put(handles)
        else:
            handles.clear()

    @staticmethod
    def _run(forgotten: queue.SimpleQueue[list[Any] | None]) -> None:
        while (handles := forgotten.get()) is not None:
            handles.clear()

    def _end(self, thread: threading.Thread, forgotten: queue.SimpleQueue[list[Any] | None], pid: int) -> None:
        if pid == os.getpid():
            # From now on at once.
            self._forgotten = None
            forgotten.put(None)
            thread.join()


collector = _Collector()

#: Not the operations themselves: their futures have the loop, and would keep one that was closed while they waited.
_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Operations]] = weakref.WeakKeyDictionary()


def operations() -> Operations:
    """Those of the running loop; a forked child has none of its parent's."""
    loop = asyncio.get_running_loop()
    known = _loops.get(loop)
    found = None if known is None else known()
    if found is None or found.pid != os.getpid():
        found = Operations(loop)
        _loops[loop] = weakref.ref(found)
    return found
