"""Under gevent's patches a wait must not block the hub: it waits on a descriptor instead."""

from __future__ import annotations

import sys
from typing import Any

from . import _synlock


def is_patched() -> bool:
    """Whether gevent has patched this process' sockets."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def acquire(handle: _synlock.Handle, wait: float | None) -> None:
    """Acquires through dispatch, letting other greenlets run; killed, it holds nothing."""
    from gevent.socket import wait_read  # type: ignore[import-untyped,import-not-found,unused-ignore]

    dispatch = _synlock.Dispatch()
    ticket = dispatch.submit(handle, "acquire", wait)
    done: list[tuple[int, BaseException | None, Any]] = []
    try:
        while not done:
            wait_read(dispatch.fd())
            done = dispatch.reap(1)
    except BaseException:
        dispatch.cancel(ticket)
        while not done:
            wait_read(dispatch.fd())
            done = dispatch.reap(1)
        if done[0][1] is None:
            handle.release()
        raise
    error = done[0][1]
    if error is not None:
        raise error
