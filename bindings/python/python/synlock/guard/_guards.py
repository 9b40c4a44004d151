"""Named stores, and whether a request is let in by them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .. import _gevent, _synlock, aio
from .._base import BaseStore, surely
from .._errors import ConcurrentUse, LockBusy, LockTimeout
from .._lock import Lock, Store
from .._loop import give_back, in_thread, operations
from ._client import Check
from ._policy import Policy, Request


class Refused(LockBusy):
    """A request was refused: somebody holds the lock."""

    code = "BUSY"
    status = 1

    def __init__(
        self,
        policy: Policy,
        name: str | bytes,
        service: str,
        retry_after: int | None,
        holders: list[dict[str, Any]],
        waited: float,
    ) -> None:
        super().__init__(policy.message)
        self.policy = policy
        #: Of the lock.
        self.name = name
        #: Short name of the store's service.
        self.service = service
        #: Seconds after which the holder's lease is over; None if unknown.
        self.retry_after = retry_after
        #: Who held it, if the store tells.
        self.holders = holders
        #: Seconds.
        self.waited = waited

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.policy, self.name, self.service, self.retry_after, self.holders, self.waited)
        return type(self), arguments

    @property
    def message(self) -> str:
        return self.policy.message

    @property
    def http_status(self) -> int:
        return self.policy.status

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class Admission:
    """A request that was let in, and what it holds."""

    def __init__(
        self,
        policy: Policy,
        name: str | bytes,
        service: str,
        lock: Lock | aio.Lock | None,
        waited: float,
        broken: list[dict[str, Any]],
    ) -> None:
        self.policy = policy
        #: Of the lock.
        self.name = name
        #: Short name of the store's service.
        self.service = service
        #: What is held; None in the mode `check`.
        self.lock = lock
        #: Seconds.
        self.waited = waited
        #: From whom `force` took the lock.
        self.broken = broken
        #: Whose it is, as the lock knows them, and its handle.
        self._hold = None if lock is None else lock._find()
        self._since = time.monotonic()
        self._held: float | None = None

    def __repr__(self) -> str:
        return f"<synlock.guard.Admission {self.name!r} by {self.policy.mode} on {self.service}>"

    @property
    def held(self) -> float:
        """For how long it has been, or was, held, in seconds."""
        if self.lock is None:
            return 0.0
        return time.monotonic() - self._since if self._held is None else self._held

    @property
    def is_released(self) -> bool:
        return self._held is not None

    def _end(self) -> tuple[Lock | aio.Lock, tuple[object, _synlock.Handle]] | None:
        """What is left to be released: nothing if the handler has done it, or handed it over."""
        if self.lock is None or self._hold is None or self._held is not None:
            return None
        self._held = self.held
        return (self.lock, self._hold) if self.lock._strike(self._hold[1]) else None

    def _again(self, lock: Lock | aio.Lock, hold: tuple[object, _synlock.Handle]) -> None:
        """Another call was using the hold."""
        lock._put_back(hold)
        self._held = None

    def release(self) -> None:
        """Gives the lock back; nothing the second time, nor if the handler has done it or handed it over.

        Any thread may call it. Raises `LockLost` if the lock was lost meanwhile.
        """
        if (end := self._end()) is None:
            return
        lock, hold = end
        handle = hold[1]
        try:
            if _gevent.is_patched() and lock.store._asks_a_server:
                _gevent.run(handle, "release")
            else:
                handle.release()
        except ConcurrentUse:
            self._again(lock, hold)
            raise

    async def arelease(self) -> None:
        """As `release`, awaited."""
        if (end := self._end()) is None:
            return
        lock, hold = end
        handle = hold[1]
        try:
            if lock.store._is_custom:
                await give_back(surely, handle.release)
            else:
                await operations().release(handle)
        except ConcurrentUse:
            self._again(lock, hold)
            raise


class Guards:
    """Named stores that requests are guarded with. May be used by several threads and event loops.

    `enter` is for threads, `aenter` for tasks, over the same stores.
    """

    def __init__(
        self,
        stores: Mapping[str, BaseStore | str] | BaseStore | str | None = None,
        *,
        dialect: str = "native",
        default: str | None = None,
    ) -> None:
        """`stores` by short name, or one, which is called `default`; a string is a URL.

        `dialect` says how names are made: `native`, `ixarlie` (its bundle before 2.0) or `ixarlie2` (2.1).
        """
        self._services = _synlock.Services(dialect)
        self._stores: list[tuple[str, BaseStore, float | None]] = []
        if stores is None or isinstance(stores, BaseStore | str):
            self.add("default", Store._of(stores))
        else:
            for name, store in stores.items():
                self.add(name, store)
        if default is not None:
            self.set_default(default)

    def __repr__(self) -> str:
        return f"<synlock.guard.Guards of {', '.join(self.names())}>"

    def add(self, name: str, store: BaseStore | str, *, can_wait: bool = True, max_wait: float | None = None) -> Guards:
        """Adds a store under a short name such as `redis.queued`; the first one is the default.

        `can_wait` is False for a custom store that cannot wait: `queue` is refused on it. `max_wait` is for
        policies that do not say.
        """
        opened = Store._of(store)
        if max_wait is not None:
            Policy(max_wait=max_wait)
        self._services.add(name, opened._backing, can_wait)
        self._stores.append((name, opened, max_wait))
        return self

    def set_default(self, name: str) -> None:
        """Says which service is meant by policies that name none; it may be added later."""
        self._services.set_default(name)

    def names(self) -> list[str]:
        """Short names of the services."""
        return [name for name, _, _ in self._stores]

    def find(self, name: str | None = None) -> str:
        """The short name of a service, by that or a full one (`synlock.redis.queued`,
        `ixarlie_mutex.redis_factory.queued`); of the default one if None."""
        return self._stores[self._services.find(name)][0]

    def store(self, name: str | None = None) -> Store:
        """The store of a service."""
        store = self._stores[self._services.find(name)][1]
        assert isinstance(store, Store)
        return store

    def name(self, policy: Policy, request: Request) -> str | bytes:
        """The name of the lock that a request is about; asks no store."""
        return _shown(self._gate(policy, request).name)

    def _gate(self, policy: Policy, request: Request) -> _synlock.Gate:
        max_wait = self._stores[self._services.find(policy.service)][2]
        return self._services.plan(policy._rules(max_wait), request._asked())

    def enter(self, policy: Policy, request: Request) -> Admission:
        """Applies the policy to the request; raises `Refused` if it is not let in."""
        return self._enter(policy, self._gate(policy, request))

    def _enter(self, policy: Policy, gate: _synlock.Gate, check: Check | None = None) -> Admission:
        _, store, _ = self._stores[gate.service]
        assert isinstance(store, Store)
        handle = gate.handle()
        wait = store._call(gate.begin)
        how = None
        while wait is not None:
            by_greenlet = _gevent.is_patched() and (wait > 0 or store._asks_a_server)
            try:
                how = _gevent.run(handle, "acquire", wait, check) if by_greenlet else handle.acquire(wait, check)
            except (LockBusy, LockTimeout):
                wait = store._call(gate.busy)
            else:
                gate.granted()
                break
        return self._settle(policy, gate, Lock, handle, how)

    async def aenter(self, policy: Policy, request: Request) -> Admission:
        """As `enter`, awaited; its lock is one of `synlock.aio`. No thread waits."""
        return await self._aenter(policy, self._gate(policy, request), aio.Lock)

    async def _aenter(self, policy: Policy, gate: _synlock.Gate, kind: type[Lock] | type[aio.Lock]) -> Admission:
        # Refuses what cannot be asked beside the loop.
        aio.Store._of(self._stores[gate.service][1])
        handle = gate.handle()
        # It asks the store in this mode alone.
        wait = await in_thread(gate.begin) if policy.mode == "check" else gate.begin()
        how = None
        while wait is not None:
            try:
                how = await operations().run(handle, "acquire", wait)
            except (LockBusy, LockTimeout):
                wait = await in_thread(gate.busy)
            else:
                gate.granted()
                break
        return self._settle(policy, gate, kind, handle, how)

    def _settle(
        self,
        policy: Policy,
        gate: _synlock.Gate,
        kind: type[Lock] | type[aio.Lock],
        handle: _synlock.Handle,
        how: tuple[float, bool, int, bool] | None,
    ) -> Admission:
        admitted, waited, holders, retry_after = gate.answer()
        service, store, _ = self._stores[gate.service]
        name = _shown(gate.name)
        if not admitted:
            raise Refused(policy, name, service, retry_after, holders, waited)
        if how is None:
            return Admission(policy, name, service, None, waited, [])
        # A lease that the store does not have was left out, unless the policy is strict.
        ttl = policy.ttl if store.capabilities["ttl"] else None
        lock = kind(store, name, ttl=ttl, auto_release=policy.auto_release, label=policy.label)
        lock._become(handle, how)
        return Admission(policy, name, service, lock, waited, holders)


def _shown(name: bytes) -> str | bytes:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name
