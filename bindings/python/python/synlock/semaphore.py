"""Locks by typed keys with one set of retry settings, as Avtonom's semaphore bundle has them for PHP.

>>> from synlock.semaphore import SemaphoreManager
>>> manager = SemaphoreManager("memory:", tries=10, sleep=0.5)
>>> with manager.lock(["order_", 17]):
...     manager.is_acquired(["order_", 17])
True
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from . import _gevent, _synlock
from ._base import _FOLDER, _LEVELS, Acquired, BaseStore, _at_exit, _kind, name_bytes, surely
from ._base import _warn as _warn_of
from ._errors import LockLost, NotHeld, Reentered
from ._lock import Store

#: Text, or a list that begins with text. The same key is the same lock in every language.
Key: TypeAlias = "str | bytes | Sequence[Any]"

logger = logging.getLogger("synlock.semaphore")


def key_name(key: Key, prefix: str | bytes = b"") -> bytes:
    """The name that a typed key stands for, in every language."""
    return _synlock.key_name(key, name_bytes(prefix))


def template_name(template: str | bytes, values: Mapping[str, str | bytes | int]) -> bytes:
    """The name that a template such as `order_{id}` makes, in every language.

    A placeholder without a value is an error, and so is a value that languages write in different ways.
    """
    pairs = [(name_bytes(name), _written(name, value)) for name, value in values.items()]
    return _synlock.template_name(name_bytes(template), pairs)


def _written(name: str, value: object) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    if isinstance(value, str | bytes | bytearray | memoryview):
        return name_bytes(value)  # type: ignore[arg-type]
    raise TypeError(f"the value of {name} is str, bytes or int, not {type(value).__name__}")


def _caller() -> str:
    """Who called this package: `module.function`."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(_FOLDER) or frame.f_code.co_filename == contextlib.__file__
    ):
        frame = frame.f_back
    name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
    return f"{frame.f_globals.get('__name__', '?')}.{name}"


class BaseManager:
    """What the managers for threads and for tasks have in common."""

    _store_type: type[BaseStore]

    def __init__(
        self,
        store: BaseStore | str | None = None,
        *,
        tries: int = 240,
        sleep: float = 0.5,
        jitter: float = 0.0,
        ttl: float = 60.0,
        prefix: str | bytes = "lock_",
        repeat: str = "error",
        demo: bool = False,
        logger: logging.Logger = logger,
        key_storage: Any = None,
    ) -> None:
        #: The application's keys: whatever was given.
        self.key_storage = key_storage
        self.store = self._store_type._of(store)
        self._logger = logger
        settings = {
            "tries": tries,
            "sleep": sleep,
            "jitter": jitter,
            "ttl": ttl,
            "prefix": name_bytes(prefix),
            "repeat": repeat,
            "demo": demo,
        }
        self._native = _synlock.Semaphores(self.store._backing, settings)
        # Not `self`: what is forgotten is told when the manager goes.
        self._native.observe(_logs(logger))
        self._native.observe(_warn_of, unheard=True)
        _at_exit.add(self._native)

    def __repr__(self) -> str:
        return f"<{_kind(self)} {self._native.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a manager cannot be pickled: make one in each process")

    def name(self, key: Key) -> bytes:
        """The name of a key's lock in the store."""
        return self._native.name(key)

    def held(self) -> list[tuple[bytes, str | None]]:
        """What this manager holds, as it knows, and who acquired it."""
        return self._native.held()

    def observe(self, callback: Callable[[dict[str, Any]], None]) -> int:
        """Calls back with every event, from the thread on which it happens."""
        return self._native.observe(callback)

    def unobserve(self, observer: int) -> None:
        """Stops calling back."""
        self._native.unobserve(observer)

    def measure(self, on: bool = True) -> None:
        """Counts what happens, for `synlock.metrics()`."""
        self._native.measure(on)


class SemaphoreManager(BaseManager):
    """Acquires and releases locks by typed keys, and tells of what was forgotten.

    A process holds a key, not a thread: asking again for a held one is `Reentered`, or with
    `repeat="extend"` lengthens its lease. Times are seconds. An acquire waits for `tries` times `sleep` at
    most (and up to `jitter` longer a try), and is woken. Where the store has no leases, a lock is held until it
    is released or its owner dies. `demo` writes nothing, grants everything and logs it all.

    Everything that happens is one line of the logger `synlock.semaphore`, or of the one given.
    """

    store: Store
    _store_type = Store

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        # Under gevent a wait must not block the hub.
        return _gevent.call(function, *arguments) if _gevent.is_patched() else function(*arguments)

    def _give_back(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return _gevent.give_back(function, *arguments) if _gevent.is_patched() else function(*arguments)

    def acquire(self, key: Key, path: str | None = None, ttl: float | None = None) -> Acquired:
        """Acquires the lock of a key; raises `LockTimeout`, `Reentered`.

        `path` says in the log who asks, by default the calling function; `ttl` is the lease.
        """
        acquire = self._acquire_by_greenlet if _gevent.is_patched() else self._native.acquire
        return Acquired(*acquire(key, path or _caller(), ttl))

    def _acquire_by_greenlet(self, key: Key, path: str, ttl: float | None) -> tuple[float, bool, int, bool]:
        """The wait is the greenlet's: killed, it has acquired nothing."""
        while True:
            errand, handle, lease = self._native.ask(key, path, ttl)
            if errand is not None:
                break
            assert handle is not None
            # Lost meanwhile, it is asked for anew.
            with contextlib.suppress(LockLost, NotHeld):
                self._call(handle.refresh, lease)
                return 0.0, False, 1, False
        handle, patience = errand.handle, errand.patience
        try:
            if self.store._is_custom:
                how: tuple[float, bool, int, bool] = _gevent.call(handle.acquire, patience, undo=handle.abandon)
            else:
                how = _gevent.run(handle, "acquire", patience)
        except Reentered:
            self._native.refuse(errand)
            raise
        self._native.keep(errand)
        return how

    def release(self, key: Key, path: str | None = None) -> None:
        """Releases it; raises `NotHeld`, or `LockLost` if it was lost meanwhile: whoever has it is left alone."""
        self._give_back(self._native.release, key, path or _caller())

    @contextlib.contextmanager
    def lock(self, key: Key, path: str | None = None, ttl: float | None = None) -> Iterator[Acquired]:
        """Holds the lock of a key for a `with` block."""
        path = path or _caller()
        acquired = self.acquire(key, path, ttl)
        try:
            yield acquired
        except BaseException:
            # What the block raised counts for more.
            with contextlib.suppress(Exception):
                surely(lambda: self.release(key, path))
            raise
        surely(lambda: self.release(key, path))

    def refresh(self, key: Key, ttl: float | None = None) -> None:
        """Lengthens the lease of a held key to `ttl` seconds from now, or to its own."""
        self._call(self._native.refresh, key, ttl)

    def is_acquired(self, key: Key) -> bool:
        """Whether this manager holds the key; asks the store."""
        return bool(self._call(self._native.is_acquired, key))

    def close(self) -> None:
        """Releases what is held, and logs it as forgotten."""
        self._give_back(self._native.end)


def _logs(to: logging.Logger) -> Callable[[dict[str, Any]], None]:
    def log(event: dict[str, Any]) -> None:
        level = _LEVELS[event["level"]]
        if to.isEnabledFor(level):
            to.log(level, "%s", event["line"], extra={"synlock": event})

    return log


__all__ = ["Key", "SemaphoreManager", "key_name", "template_name"]
