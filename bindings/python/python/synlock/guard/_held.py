"""What one request was let in with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from .. import _synlock, aio
from .._base import logger, surely
from .._errors import SynlockError
from .._lock import Lock
from ._client import Check, while_here
from ._guards import Admission, Guards
from ._policy import Policy, Request

_POINTS = ("response", "terminate")
_Log = Callable[[Admission, SynlockError], object]


class Held:
    """What one request was let in with; released at its release points, the latest first."""

    def __init__(self, release: str = "response", log: _Log | None = None, check: Check | None = None) -> None:
        """`release` is the release point of policies that name none; `log` is told of a release that failed.

        `check` is called now and then during a wait, and ends it by what it raises: `ClientGone`.
        """
        if release not in _POINTS:
            Policy(release=release)
        self._release = release
        self._log = log or _tell
        self._check = check
        self._admissions: list[Admission] = []
        #: Guards, service and name of each.
        self._of: list[tuple[Guards, int, bytes]] = []

    def __iter__(self) -> Iterator[Admission]:
        return iter(list(self._admissions))

    def __len__(self) -> int:
        return len(self._admissions)

    def enter(self, guards: Guards, policy: Policy, request: Request) -> Admission | None:
        """Lets the request in by one more policy. A lock that it holds already is not asked for again: None."""
        gate = guards._gate(policy, request)
        if self._has(guards, gate):
            return None
        return self._note(guards, gate, guards._enter(policy, gate, self._check))

    async def aenter(
        self, guards: Guards, policy: Policy, request: Request, *, kind: type[Lock] | type[aio.Lock] = aio.Lock
    ) -> Admission | None:
        """As `enter`, awaited; `kind` is what the handler finds."""
        gate = guards._gate(policy, request)
        if self._has(guards, gate):
            return None
        return self._note(guards, gate, await while_here(guards._aenter(policy, gate, kind), self._check))

    def _has(self, guards: Guards, gate: _synlock.Gate) -> bool:
        wanted = (guards, gate.service, gate.name)
        held = zip(self._of, self._admissions, strict=True)
        return any(of == wanted for of, one in held if one.lock is not None and not one.is_released)

    def _note(self, guards: Guards, gate: _synlock.Gate, admission: Admission) -> Admission:
        self._of.append((guards, gate.service, gate.name))
        self._admissions.append(admission)
        return admission

    def _due(self, point: str | None) -> list[Admission]:
        return [
            held
            for held in reversed(self._admissions)
            if held.lock is not None
            and held.policy.auto_release
            and not held.is_released
            and point in (None, held.policy.release or self._release)
        ]

    def holds_until(self, point: str) -> bool:
        """Whether anything waits for the release point."""
        return bool(self._due(point))

    def release(self, point: str | None = None) -> None:
        """Releases what is due at the release point; everything, without one: the request is over."""
        for admission in self._due(point):
            try:
                surely(admission.release)
            except SynlockError as error:
                self._failed(admission, error)

    async def arelease(self, point: str | None = None) -> None:
        """As `release`, awaited; a cancel keeps none of them."""
        cancelled: asyncio.CancelledError | None = None
        for admission in self._due(point):
            try:
                await admission.arelease()
            except SynlockError as error:
                self._failed(admission, error)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _failed(self, admission: Admission, error: SynlockError) -> None:
        """What has happened cannot be undone by failing the request, nor does a log that fails."""
        try:
            self._log(admission, error)
        except Exception:
            logger.exception("the lock %r of a request: %s", admission.name, error)


def _tell(admission: Admission, error: SynlockError) -> None:
    logger.warning("the lock %r of a request: %s", admission.name, error)
