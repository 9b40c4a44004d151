"""Under gevent's patches a wait must not block the hub: it waits on a descriptor instead."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from . import _synlock
from ._errors import LockBusy, LockTimeout, SynlockError, Unsupported

#: How long the hub stands still, in seconds, while a custom store is asked.
_SLICE = 0.001
#: How often a greenlet looks whether it should go on waiting, in seconds.
_LOOK = 0.1
_T = TypeVar("_T")


class _Look(Exception):
    """A wait is to be looked at: none of the program's own timeouts."""


def is_patched() -> bool:
    """Whether gevent has patched this process' sockets."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def pause(seconds: float) -> None:
    """Sleeps; other greenlets run meanwhile, also where `time` is not patched."""
    if is_patched():
        from gevent import sleep  # type: ignore[import-untyped,import-not-found,unused-ignore]

        sleep(seconds)
    else:
        time.sleep(seconds)


def run(
    handle: _synlock.Handle | _synlock.Set,
    op: str,
    argument: float | None = None,
    check: Callable[[], None] | None = None,
) -> Any:
    """Runs an operation through dispatch, letting other greenlets run; an acquire that is killed holds nothing.

    `check` is called now and then meanwhile; what it raises ends the operation.
    """
    from gevent.socket import wait_read  # type: ignore[import-untyped,import-not-found,unused-ignore]

    dispatch = _synlock.Dispatch()
    try:
        ticket = dispatch.submit(handle, op, argument)
    except Unsupported:
        if op != "acquire":
            raise
        return _ask_again(handle, argument, check)
    done: list[tuple[int, BaseException | None, Any]] = []
    killed: BaseException | None = None
    while not done:
        try:
            try:
                wait_read(dispatch.fd(), None if check is None or killed else _LOOK, _Look)
            except _Look:
                assert check is not None
                check()
                continue
            done = dispatch.reap(1)
        except BaseException as error:
            if killed is not None and type(error).__name__ == "LoopExit":
                raise
            killed = killed or error
            dispatch.cancel(ticket)
    if killed is not None:
        if op == "acquire" and done[0][1] is None:
            with contextlib.suppress(SynlockError):
                run(handle, "abandon")
        raise killed
    if done[0][1] is not None:
        raise done[0][1]
    return done[0][2]


def _ask_again(handle: _synlock.Handle | _synlock.Set, wait: float | None, check: Callable[[], None] | None) -> Any:
    """A wait on a custom store, which threads of the program ask and no other: in between, other greenlets run."""
    from gevent import sleep  # type: ignore[import-untyped,import-not-found,unused-ignore]

    begin, pauses = time.monotonic(), 0
    while True:
        left = _SLICE if wait is None else max(0.0, min(_SLICE, begin + wait - time.monotonic()))
        try:
            _, contended, attempts, recovered = handle.acquire(left)
            return time.monotonic() - begin, contended or pauses > 0, attempts + pauses, recovered
        except (LockBusy, LockTimeout):
            if wait is not None and time.monotonic() >= begin + wait:
                raise
        if check is not None:
            check()
        pauses += 1
        sleep(min(0.1, 0.01 * pauses))


def call(function: Callable[..., _T], *arguments: Any, undo: Callable[[], object] | None = None) -> _T:
    """Calls what has no operation of dispatch, in a thread of the hub.

    `undo` is called there too, when a greenlet is killed that would have had the result.
    """
    import gevent  # type: ignore[import-untyped,import-not-found,unused-ignore]

    pool = gevent.get_hub().threadpool
    job = pool.spawn(function, *arguments)
    try:
        result: _T = job.get()
    except BaseException as error:
        if undo is not None and error is not job.exception:
            # The thread is still at it, or its result came as the greenlet was killed. The hub itself may not wait
            # for a thread that is free.
            job.rawlink(lambda done: gevent.spawn(pool.spawn, undo) if done.successful() else None)
        raise
    return result


def give_back(function: Callable[..., _T], *arguments: Any) -> _T:
    """As `call`, for a release: a greenlet that is killed meanwhile does not keep the lock."""
    import gevent  # type: ignore[import-untyped,import-not-found,unused-ignore]

    pool = gevent.get_hub().threadpool
    try:
        job = pool.spawn(function, *arguments)
    except BaseException:
        # No thread was free yet: somebody else waits for one.
        gevent.spawn(pool.spawn, function, *arguments)
        raise
    result: _T = job.get()
    return result
