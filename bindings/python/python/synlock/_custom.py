"""Stores made of an object of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from ._errors import LockLost, make

_HOLDER: dict[str, Any] = {
    "owner": "",
    "mode": "exclusive",
    "permits": 1,
    "host": None,
    "pid": None,
    "label": None,
    "remaining": None,
    "held": None,
    "fencing_token": None,
}
_OK, _BUSY, _LOST, _NOT_HELD, _PROTOCOL = 0, 1, 3, 4, 203


class Ask(NamedTuple):
    """What a custom store is asked about."""

    #: The lock's name; of `list`, the beginning of names.
    name: bytes
    #: Whose hold: 32 hexadecimal digits, never used for two. Whoever knows them may release the lock.
    owner: str
    #: exclusive, shared or permits; of `change_mode` the new one.
    mode: str
    #: Permits to take, and how many there are.
    permits: tuple[int, int] | None
    #: Seconds that the hold lasts without being lengthened; None without a lease.
    ttl: float | None
    #: Seconds that the answer may take; None leaves it to the store.
    time: float | None
    #: Words for whoever inspects the lock.
    label: str | None
    #: Whether the caller will ask again should the lock be taken.
    waits: bool


class Granted(NamedTuple):
    """The owner holds the lock."""

    fencing_token: int | None = None
    #: Whether the owner before died while it held.
    recovered: bool = False


class Busy(NamedTuple):
    """Somebody else does."""

    #: Seconds until the holder's lease can end, if known.
    until: float | None = None
    #: Seconds after which to ask again; None for 0.05.
    poll: float | None = None


class CustomStore(Protocol):
    """What an object must be able to do to be a store, each in one step; threads call it side by side.

    It may also have these, and can do what it has: `extend(ask) -> bool` (lengthen the owner's hold to
    `ask.ttl` from now, never shorten it), `change_mode(ask)` (as `attempt`, or raise `LockLost`),
    `inspect(ask)` (the holders, as `Store.inspect` tells of them), `list(ask)` (locks, as `Store.list`
    does), `break_lock(ask) -> bool`, `ping(ask)`, and the attributes `shared`, `permits`,
    `frees_on_death`, `survives_restart`, `fence` ("E", "H" or "D") and `scope` ("process", "host" or
    "cluster").

    An exception becomes a `SynlockError` with it as the cause: its own status if it is one, else
    `Uncertain` from what acts (the hold is released by the next call) and `Unavailable` from what looks.
    """

    def attempt(self, ask: Ask) -> Granted | Busy | bool:
        """May this owner hold the lock now? Asked again by an owner that holds it, it is a grant."""

    def release(self, ask: Ask) -> bool:
        """Ends the owner's hold; False if it has none."""

    def is_held(self, ask: Ask) -> bool:
        """Whether the owner holds the lock."""


def traits(store: CustomStore) -> dict[str, Any]:
    """What an object says of itself."""
    for verb in ("attempt", "release", "is_held"):
        if not callable(getattr(store, verb, None)):
            raise TypeError(f"a custom store needs {verb}(ask)")
    can: dict[str, Any] = {
        verb: callable(getattr(store, verb, None))
        for verb in ("extend", "change_mode", "inspect", "list", "break_lock", "ping")
    }
    for flag in ("shared", "permits", "frees_on_death", "survives_restart"):
        can[flag] = bool(getattr(store, flag, False))
    can["fence"] = getattr(store, "fence", None)
    can["scope"] = getattr(store, "scope", "process")
    return can


def asker(store: CustomStore) -> Callable[..., tuple[Any, ...]]:
    """The function that the core calls."""

    def ask(verb: str, name: bytes, *rest: Any) -> tuple[Any, ...]:
        question = Ask(bytes(name), *rest)
        if verb == "change_mode":
            try:
                return _grant(store.change_mode(question))  # type: ignore[attr-defined]
            except LockLost:
                return _reply(_LOST)
        answer = getattr(store, verb)(question)
        if hasattr(answer, "__await__"):
            answer.close() if hasattr(answer, "close") else None
            raise make(106, f"{verb} is a coroutine: a custom store answers at once")
        if verb == "attempt":
            return _grant(answer)
        if verb == "ping":
            return _reply(_OK)
        if verb == "inspect":
            return _reply(_OK, locks=[(question.name, None, _rows(answer))])
        if verb == "list":
            return _reply(_OK, locks=[_lock(row) for row in answer])
        return _reply(_OK if answer else _NOT_HELD if verb == "break_lock" else _LOST)

    return ask


def _reply(
    code: int,
    fence: int | None = None,
    recovered: bool = False,
    until: float | None = None,
    poll: float | None = None,
    locks: Iterable[tuple[bytes, int | None, list[dict[str, Any]]]] = (),
) -> tuple[Any, ...]:
    return code, fence, recovered, until, poll, list(locks)


def _grant(answer: Granted | Busy | bool) -> tuple[Any, ...]:
    if isinstance(answer, Busy):
        return _reply(_BUSY, until=answer.until, poll=answer.poll)
    if isinstance(answer, Granted):
        return _reply(_OK, fence=answer.fencing_token, recovered=answer.recovered)
    if isinstance(answer, bool):
        return _reply(_OK if answer else _BUSY)
    # None is what a function returns that forgot to.
    raise make(_PROTOCOL, f"the answer is Granted, Busy or a bool, not {answer!r}")


def _rows(holders: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**_HOLDER, **holder} for holder in holders]


def _lock(lock: Mapping[str, Any]) -> tuple[bytes, int | None, list[dict[str, Any]]]:
    name = lock["name"]
    return name.encode() if isinstance(name, str) else bytes(name), lock.get("waiters"), _rows(lock["holders"])
