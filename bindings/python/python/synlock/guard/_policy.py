"""Policies, and what they are applied to, in no framework's terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .. import _synlock

#: What is left as it is in a path; the same request has one path, however its client has spelled it.
_UNQUOTED = "/-._~!$&'()*+,;=:@"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """How requests are guarded. Times are seconds.

    A `mode` is one of

    - `block`: acquires; refused if somebody holds the lock
    - `check`: refused if somebody does; acquires nothing
    - `queue`: waits for it
    - `force`: takes it from whoever holds it
    """

    mode: str = "block"
    #: A template: `{id}` becomes the route's parameter of that name, which must be there. None or empty:
    #: made from route and path.
    name: str | bytes | None = None
    #: Which store, by its short or full name; None: the default one.
    service: str | None = None
    #: Lease; None: until the release point or the owner's death.
    ttl: float | None = None
    #: How long `queue` waits and `force` tries at most; None: 30, or as the service says.
    max_wait: float | None = None
    #: Each user has a lock of their own.
    user_isolation: bool = False
    #: With `user_isolation`, when nobody is logged in: `refuse` (an error), `share` one lock, one for each
    #: `session`, or `ip`.
    anonymous: str = "refuse"
    #: HTTP status of a refusal.
    status: int = 423
    #: Words of a refusal.
    message: str = "Resource is not available at this moment."
    #: Domain for the translation of the message, for an application that answers refusals itself: nothing
    #: here translates.
    domain: str | None = None
    #: Release at the release point; otherwise the lease, or the process' end, ends the hold.
    auto_release: bool = True
    #: `response`: with the last byte of the body, or when the client is gone; `terminate`: when the
    #: application is done, after the response. None: as the middleware says, `response` unless it does.
    release: str | None = None
    #: Refuse a TTL on a store without leases.
    strict: bool = False
    #: Words for whoever inspects the lock; None: route and path.
    label: str | None = None

    def __post_init__(self) -> None:
        _synlock.check_policy(self._rules(None))

    def _rules(self, max_wait: float | None) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "name": None if self.name is None else _bytes(self.name),
            "service": self.service,
            "ttl": self.ttl,
            "max_wait": max_wait if self.max_wait is None else self.max_wait,
            "user_isolation": self.user_isolation,
            "anonymous": self.anonymous,
            "status": self.status,
            "auto_release": self.auto_release,
            "release": self.release,
            "strict": self.strict,
            "label": self.label,
        }


@dataclasses.dataclass(frozen=True)
class User:
    """Who asks, for user isolation."""

    #: The user's identifier; None: nobody is logged in.
    id: str | bytes | None
    #: The user provider, if there are several.
    provider: str | bytes = ""


@dataclasses.dataclass(frozen=True)
class Request:
    """What a guard needs to know of a request."""

    #: The handler or route.
    route: str | bytes = ""
    #: Path of the URL, without the query.
    path: str | bytes = ""
    #: Parameters of the route, for placeholders; what is no text, number or the like is left out.
    params: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: None: the application has no notion of users.
    user: User | None = None
    session: str | bytes | None = None
    ip: str | None = None
    #: The security token as PHP serialises it, for ixarlie's names.
    token: bytes | None = None

    def _asked(self) -> dict[str, Any]:
        user = self.user
        return {
            "route": _bytes(self.route),
            "path": _bytes(self.path),
            "params": [(_bytes(name), _text(value)) for name, value in self.params.items() if _has_text(value)],
            "user": user and (_bytes(user.provider), None if user.id is None else _bytes(user.id)),
            "session": None if self.session is None else _bytes(self.session),
            "ip": None if self.ip is None else _bytes(self.ip),
            "token": self.token,
        }


def path_of(text: str | bytes) -> str:
    """A path as `Request` has it, from the decoded one that servers give."""
    return quote(text, safe=_UNQUOTED)


def _bytes(text: str | bytes) -> bytes:
    # A path that is no UTF-8 comes with surrogates.
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)


def _has_text(value: object) -> bool:
    """Containers have none, nor has an object that is known by its address alone."""
    if value is None or isinstance(value, Mapping | list | tuple | set | frozenset):
        return False
    return type(value).__str__ is not object.__str__ or type(value).__repr__ is not object.__repr__


def _text(value: object) -> bytes:
    return _bytes(value) if isinstance(value, str | bytes) else _bytes(str(value))


def policies_of(given: Policy | list[Policy] | tuple[Policy, ...]) -> tuple[Policy, ...]:
    """One or several, as several."""
    return (given,) if isinstance(given, Policy) else tuple(given)
