"""What the stores and locks for threads and those for tasks have in common."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from . import _gevent, _synlock
from ._errors import ConcurrentUse, NotHeld, SynlockError, SynlockWarning, make

_T = TypeVar("_T")
logger = logging.getLogger("synlock")
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

#: Seconds from one refused release to the next.
_AGAIN = 0.005

_FOLDER = os.path.join(os.path.dirname(__file__), "")

_handles: weakref.WeakSet[_synlock.Handle] = weakref.WeakSet()
#: Managers, which hold locks of their own.
_at_exit: weakref.WeakSet[_synlock.Semaphores] = weakref.WeakSet()
_sessions: weakref.WeakSet[BaseSession] = weakref.WeakSet()


def _all(things: weakref.WeakSet[_T]) -> list[_T]:
    while True:
        # A thread that is at work may add to them meanwhile.
        with contextlib.suppress(RuntimeError):
            return list(things)


@atexit.register
def _release_at_exit() -> None:
    for handle in _all(_handles):
        handle.end_with_process()
    for manager in _all(_at_exit):
        manager.end()
    for session in _all(_sessions):
        session._owner.end()
    _synlock.collect_releases()


def _release_at_end_of_child() -> None:
    """As above, of a child of multiprocessing: it ends by `os._exit`, without what `atexit` was told."""
    if sys.modules["multiprocessing.process"].parent_process() is not None:
        # What such a child does next: a thread that is at work keeps what it holds. Celery's children wait for none.
        getattr(threading, "_shutdown", lambda: None)()
    _release_at_exit()


_minds_children = False


def _mind_children() -> None:
    """Has children of multiprocessing release at their end, if that module is in use; once, as forks inherit it."""
    global _minds_children
    util: Any = sys.modules.get("multiprocessing.util")
    if _minds_children or not hasattr(util, "Finalize"):
        return
    _minds_children = True

    def tell(release: Callable[[], None]) -> None:
        # After all that has an end to await.
        util.Finalize(None, release, exitpriority=-1000)

    # This process may be such a child; those to come forget what was told before they began.
    tell(_release_at_end_of_child)
    util.register_after_fork(_release_at_end_of_child, tell)


_mind_children()
os.register_at_fork(after_in_child=_mind_children)


def _log(event: dict[str, Any]) -> None:
    level = _LEVELS[event["level"]]
    if logger.isEnabledFor(level):
        logger.log(level, "%s", _words(event), extra={"synlock": event}, stacklevel=_caller())


def _caller() -> int:
    """How far up the caller of this package is, for `logging` to name; of an event of our own thread, we are."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_FOLDER):
        frame, level = frame.f_back, level + 1
    return level


def _words(event: dict[str, Any]) -> str:
    name = event["resource"].decode("utf-8", "backslashreplace")
    return f"{name}: {event['message']} ({event['store']})" if name else f"{event['message']} ({event['store']})"


def _warn(event: dict[str, Any]) -> None:
    """Of what neither a call nor an observer has told."""
    if logger.hasHandlers():
        _log(event)
    else:
        warnings.warn(_words(event), SynlockWarning, stacklevel=2)


def _option_text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def name_bytes(name: str | bytes) -> bytes:
    """A name as the stores see it: text is its UTF-8 bytes."""
    if isinstance(name, str):
        return name.encode()
    # bytes(5) would be five NULs.
    if isinstance(name, bytes | bytearray | memoryview):
        return bytes(name)
    raise TypeError(f"a lock's name is str or bytes, not {type(name).__name__}")


class Acquired(NamedTuple):
    """How an acquire went that was granted."""

    #: Seconds from the call to the grant.
    waited: float
    #: Whether somebody else held the lock first.
    contended: bool
    #: How often the store was asked.
    attempts: int
    #: Whether the owner before died while it held: what the lock protects may be half done.
    recovered: bool


def _kind(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}".replace("._lock.", ".")


class BaseStore:
    """Where locks are kept. Opening connects to nothing; works in threads and in forked children."""

    #: Made of an object of the program's.
    _is_custom = False

    def __init__(self, url: str | None = None, **options: object) -> None:
        self._url = url or os.environ.get("SYNLOCK_URL", "")
        self._options = {key: _option_text(value) for key, value in options.items()}
        self._begin(_synlock.Backing(self._url, list(self._options.items())))

    def _begin(self, backing: _synlock.Backing) -> None:
        self._backing = backing
        # Told only to those who had asked for it when the store was opened.
        if logger.isEnabledFor(logging.INFO):
            self._backing.observe(_log)
        self._backing.observe(_warn, unheard=True)

    def __repr__(self) -> str:
        return f"<{_kind(self)} {self.url}>"

    @functools.cached_property
    def _asks_a_server(self) -> bool:
        return not self._is_custom and bool(self._backing.capabilities()["clock"] == "server")

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_custom:
            raise TypeError("a custom store cannot be pickled: make one of the object there")
        return _open, (type(self), self._url, self._options)

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

    def observe(self, callback: Callable[[dict[str, Any]], None]) -> int:
        """Calls back with every event of this store's locks, from the thread on which it happens."""
        return self._backing.observe(callback)

    def unobserve(self, observer: int) -> None:
        """Stops calling back."""
        self._backing.unobserve(observer)

    def measure(self, on: bool = True) -> None:
        """Counts what happens to this store's locks, for `synlock.metrics()`; off, it costs nothing."""
        self._backing.measure(on)

    @classmethod
    def _of(cls, store: BaseStore | str | None) -> BaseStore:
        """This kind of face on a store, or on what a URL names."""
        if isinstance(store, cls):
            return store
        if not isinstance(store, BaseStore):
            return cls(store)
        made = cls.__new__(cls)
        made.__dict__.update(store.__dict__)
        return made


def _open(kind: type[BaseStore], url: str, options: dict[str, str]) -> BaseStore:
    return kind(url, **options)


def surely(release: Callable[[], object]) -> None:
    """Releases at a block's end: nobody comes back for it, and another thread's call on the hold is over soon."""
    while True:
        try:
            release()
            return
        except ConcurrentUse:
            _gevent.pause(_AGAIN)


class Entered:
    """What `with` does to a lock, or to a set of them."""

    _timeout: float | None

    def _acquire(self, wait: float | None) -> bool:
        raise NotImplementedError

    def _release(self, own: bool) -> None:
        raise NotImplementedError

    def _error(self, status: int, words: str, operation: str | None) -> SynlockError:
        raise NotImplementedError

    def _enter(self) -> Any:
        if not self._acquire(self._timeout):
            raise self._error(2, "was not free in time", "acquire")
        return self

    def _exit(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            surely(lambda: self._release(own=True))
        except NotHeld:
            pass
        except SynlockError:
            if kind is None:
                raise


class BaseLock(_synlock.Book):
    """The holds of one lock object, each tied to the thread or task that acquired it."""

    #: What a URL is opened as.
    _store_type: type[BaseStore] = BaseStore
    #: Whether a hold belongs to a thread of the kernel, so that the native way can tell whose it is.
    _is_of_threads = False

    def __init__(
        self,
        store: BaseStore | str | None,
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
        self._begin()
        self.store = self._store_type._of(store)
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
        # A wrong option is told of here, not at the first acquire.
        first = self._new_handle()
        self._keep(first)
        if timeout is None:
            # What the URL says, if it does.
            self._timeout = first.timeout

    def __repr__(self) -> str:
        return f"<{_kind(self)} {self.name!r} on {self.store.url}{' held' if self._holds() else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._holds():
            raise TypeError("a held lock cannot be pickled: export() it, or pickle the store")
        return _remake, (type(self), self.store, self.name, self._timeout, self._options)

    def _begin(self) -> None:
        """Makes what `_me` needs, which a pickle does not carry."""
        raise NotImplementedError

    def _me(self, make: bool = False) -> object | None:
        """Stands for the calling thread or task, once it has had a hold of this object."""
        raise NotImplementedError

    def _new_handle(self) -> _synlock.Handle:
        handle = self.store._backing.lock(name_bytes(self.name), self._options)
        _handles.add(handle)
        return handle

    def _spare(self) -> _synlock.Handle:
        while (handle := self._lend()) is not None:
            if handle.state == "idle":
                return handle
        return self._new_handle()

    def _take(self, handle: _synlock.Handle, how: tuple[float, bool, int, bool] | None = None) -> None:
        self._note(self._me(make=True), handle, how, self._is_of_threads)

    @property
    def last_acquired(self) -> Acquired | None:
        """How the last acquire of this object that was granted went; None before the first."""
        how = self._how()
        return None if how is None else Acquired(*how)

    def _become(self, handle: _synlock.Handle, how: tuple[float, bool, int, bool] | None = None) -> None:
        """Turns into the lock of a hold that it has not acquired itself."""
        try:
            self.name = handle.name.decode()
        except UnicodeDecodeError:
            self.name = handle.name
        self._options.update(shared=handle.mode == "shared", permits=handle.permits)
        self._clear()
        _handles.add(handle)
        self._take(handle, how)

    def _find(self, own: bool = False) -> tuple[object, _synlock.Handle] | None:
        """The caller's newest hold. One who never had a hold of this object means the oldest one."""
        me = self._me()
        holds = self._holds()
        if me is None:
            return holds[0] if holds and not own else None
        # Whoever had one may be late, and another's hold must not suffer for that.
        return next((hold for hold in reversed(holds) if hold[0] is me), None)

    def _hold(self) -> _synlock.Handle:
        found = self._find()
        if found is None:
            raise self._not_held(None)
        return found[1]

    def _pop(self, own: bool) -> tuple[object, _synlock.Handle]:
        """Takes the hold that is to be released out of the book."""
        found = self._find(own)
        if found is not None and self._strike(found[1]):
            return found
        raise self._not_held("release")

    def _put_back(self, hold: tuple[object, _synlock.Handle]) -> None:
        """After a release that was refused because another call was using the hold."""
        self._note(hold[0], hold[1])

    def _error(self, status: int, words: str, operation: str | None) -> SynlockError:
        name = name_bytes(self.name).decode("utf-8", "backslashreplace")
        return make(status, f"the lock {name!r} {words}", self.store.url, name, operation)

    def _not_held(self, operation: str | None) -> SynlockError:
        return self._error(4, "is held, but not by this caller" if self._holds() else "is not held", operation)

    def locked(self) -> bool:
        """Whether this object holds the lock, by its own knowledge (`is_acquired` asks the store)."""
        return any(handle.state in ("held", "expired", "releasing") for _, handle in self._holds())

    @property
    def state(self) -> str:
        """idle, acquiring, held, expired, lost, releasing or forked."""
        found = self._find()
        return found[1].state if found else "idle"

    @property
    def lost(self) -> bool:
        """Whether the hold was lost or has expired, by this process' knowledge."""
        return self.state in ("lost", "expired")

    def is_expired(self) -> bool:
        """As `lost`: by this process' knowledge, asking nobody."""
        return self.lost

    @property
    def remaining(self) -> float | None:
        """How much of the lease is left at least, in seconds; None without a lease."""
        found = self._find()
        return found[1].remaining if found else None

    @property
    def fencing_token(self) -> int | None:
        """The fencing token of the hold."""
        found = self._find()
        return found[1].fencing_token if found else None

    @property
    def owner_token(self) -> str | None:
        """The owner token of the hold: whoever has it may release the lock."""
        found = self._find()
        return found[1].owner_token if found else None

    def set_auto_release(self, on: bool) -> None:
        """Whether dropping the lock, or the end of the process, releases what it holds now and later."""
        self._options["auto_release"] = on
        for handle in [*self._idle(), *(handle for _, handle in self._holds())]:
            handle.set_auto_release(on)


def _remake(
    kind: type[BaseLock], store: BaseStore, name: str | bytes, timeout: float | None, options: dict[str, Any]
) -> BaseLock:
    return kind(store, name, timeout=timeout, **options)


class BaseSession:
    """One owner of any number of exclusive locks, known by its id: Drupal's model of locks.

    All of them end with it: released together, when it is dropped, and at the interpreter's end. With an
    `id` it is the persistent session of that id, whose locks outlive it and the process until their
    leases end.
    """

    _store_type: type[BaseStore]

    def __init__(self, store: BaseStore | str | None = None, id: str | None = None) -> None:
        self.store = self._store_type._of(store)
        self._owner = _synlock.Owner(self.store._backing, id)
        _sessions.add(self)

    def __repr__(self) -> str:
        return f"<{_kind(self)} of {self.store.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a session cannot be pickled")

    @property
    def id(self) -> str:
        """The same for the session's whole life. A forked child that held nothing has another."""
        return self._owner.id

    @property
    def is_persistent(self) -> bool:
        """Whether its locks outlive it."""
        return self._owner.is_persistent
