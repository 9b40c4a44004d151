"""Whether the client of a request under WSGI is still there, which WSGI itself does not tell."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .._loop import _wait_out

_T = TypeVar("_T")

#: Raises `ClientGone`, or returns.
Check = Callable[[], None]
#: What is sent to nobody.
STATUS, WORDS = 499, "Client Closed Request"
#: How often a loop looks, in seconds.
_LOOK = 0.1


class ClientGone(Exception):
    """The client hung up while its request waited for a lock."""

    def __init__(self) -> None:
        super().__init__("the client has hung up")


def check_of(environ: dict[str, Any]) -> Check | None:
    """A look at the client's connection, if the server gives it away: gunicorn, uWSGI, waitress, werkzeug's."""
    is_gone = environ.get("waitress.client_disconnected") or _look_at(_descriptor(environ))
    if is_gone is None:
        return None

    def check() -> None:
        if is_gone():
            raise ClientGone

    return check


def _descriptor(environ: dict[str, Any]) -> int:
    """That of the connection, or -1."""
    for name in ("gunicorn.socket", "werkzeug.socket"):
        if name in environ:
            descriptor: int = environ[name].fileno()
            return descriptor
    # A module that is there inside of uWSGI alone.
    uwsgi: Any = sys.modules.get("uwsgi")
    return -1 if uwsgi is None else int(uwsgi.connection_fd())


def _look_at(descriptor: int) -> Callable[[], bool] | None:
    if descriptor < 0:
        return None
    # gevent's own knows no end of one side.
    monkey: Any = sys.modules.get("gevent.monkey")
    make = select.poll if monkey is None else monkey.get_original("select", "poll")
    poll = make()
    # The other side will send no more; nothing is read, which TLS would not bear.
    poll.register(descriptor, select.POLLRDHUP)
    return lambda: bool(poll.poll(0))


async def while_here(work: Coroutine[Any, Any, _T], check: Check | None) -> _T:
    """Waits for the work, which is cancelled when the client is gone."""
    if check is None:
        return await work
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            check()
            await asyncio.wait([task], timeout=_LOOK)
    except BaseException:
        task.cancel()
        await _wait_out(task)
        raise
    return task.result()
