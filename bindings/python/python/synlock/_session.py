"""Sessions for threads."""

from __future__ import annotations

from types import TracebackType

from ._base import BaseSession, name_bytes
from ._errors import SynlockError
from ._lock import Store


class Session(BaseSession):
    """One owner of any number of exclusive locks, known by its id: Drupal's model of locks.

    All of them end with it: released together, at the end of a `with`, when it is dropped, and at the
    interpreter's end. With an `id` it is the persistent session of that id, whose locks outlive it and
    the process until their leases end. Times are seconds; threads that share a session share its locks.
    """

    store: Store
    _store_type = Store

    def acquire(self, name: str | bytes, ttl: float = 30.0) -> bool:
        """Takes the lock for `ttl`, or renews it if the session holds it. Does not wait.

        False if somebody else holds it; to who held it, that somebody else has it or may have had it.
        """
        return self.store._call(self._owner.acquire, name_bytes(name), ttl)[0]

    def renew(self, name: str | bytes, ttl: float = 30.0) -> bool:
        """Lengthens a hold; False if there is none. A persistent session renews what any process acquired."""
        return self.store._call(self._owner.renew, name_bytes(name), ttl)

    def may_be_available(self, name: str | bytes) -> bool:
        """Whether an acquire by somebody else would find the lock free now. Breaks a hold whose lease has ended."""
        return self.store._call(self._owner.may_be_available, name_bytes(name))

    def wait(self, name: str | bytes, delay: float = 30.0) -> bool:
        """Waits until the lock may be available: True if it is still held after `delay`. Takes nothing."""
        return not self.store.wait_free(name, delay)

    def release(self, name: str | bytes) -> bool:
        """Releases one lock; False if the session did not hold it any more."""
        return self.store._give_back(self._owner.release, name_bytes(name))

    def release_all(self, id: str | None = None) -> int:
        """Releases all locks of this session, or all of that id; how many there were.

        Without an id a persistent session releases what this object took, not what others took under its id.
        """
        return self.store._give_back(self._owner.release_all, id)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_persistent:
            return
        try:
            self.release_all()
        except SynlockError:
            if kind is None:
                raise


__all__ = ["Session"]
