"""Request guards for Django: a middleware, the first one, and a decorator of views.

MIDDLEWARE = ["synlock.guard.django.GuardMiddleware", ...]
SYNLOCK_GUARD = {"stores": {"default": "redis://localhost"}}

@guarded(name="order_{id}", mode="queue")
def pay(request, id): ...
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings  # type: ignore[import-untyped,unused-ignore]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped,unused-ignore]
from django.core.handlers.asgi import ASGIRequest  # type: ignore[import-untyped,unused-ignore]
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped,unused-ignore]
from django.utils.module_loading import import_string  # type: ignore[import-untyped,unused-ignore]

from .._lock import Lock
from ._client import STATUS, WORDS, ClientGone, check_of
from ._guards import Guards, Refused
from ._held import Held
from ._policy import Policy, Request, User, path_of
from ._response import Response, answer

_F = TypeVar("_F", bound=Callable[..., Any])
#: What `SYNLOCK_GUARD` may have.
_KEYS = {"stores", "dialect", "default", "release", "describe", "user", "log"}


class GuardMiddleware:
    """Releases what the views of a request were let in with, and answers refusals.

    Put it first: what other middleware does on the way out, such as saving the session, is then done under
    the lock. The view finds the `Held` in `request.synlock_held`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        options = _options()
        self._release: str = options.get("release", "response")
        self._log = _function(options.get("log"))
        Held(self._release)
        guards()
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        check = None if isinstance(request, ASGIRequest) else check_of(request.META)
        held = request.synlock_held = Held(self._release, self._log, check)
        if iscoroutinefunction(self):
            return self._later(request, held)
        try:
            response = self.get_response(request)
        except BaseException:
            held.release()
            raise
        if _watch(request, response, held):
            held.release("response")
        return response

    async def _later(self, request: HttpRequest, held: Held) -> Any:
        try:
            response = await self.get_response(request)
        except asyncio.CancelledError:
            # The client is gone. A view in the request's thread works on all the same, and this comes after it.
            await asyncio.shield(asyncio.ensure_future(sync_to_async(held.release)()))
            raise
        except BaseException:
            await held.arelease()
            raise
        if _watch(request, response, held):
            await held.arelease("response")
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, ClientGone):
            return HttpResponse(status=STATUS, reason=WORDS)
        return _refuse(exception) if isinstance(exception, Refused) else None


def _watch(request: HttpRequest, response: Any, held: Held) -> bool:
    """Releases when the response is over; True if it is ready, which leaves nothing to wait for."""
    close = response.close

    def closed() -> None:
        try:
            close()
        finally:
            held.release()

    response.close = closed
    rest = Response(request.method or "")
    rest.start(response.status_code, response.headers.get("Content-Length"))
    if not response.streaming or rest.ends_with():
        return True
    if response.is_async:
        response.streaming_content = _alast(response.streaming_content, rest, held)
    else:
        response.streaming_content = _last(response.streaming_content, rest, held)
    return False


def _last(body: Iterator[bytes], rest: Response, held: Held) -> Iterator[bytes]:
    try:
        for chunk in body:
            if rest.ends_with(len(chunk)):
                held.release("response")
            yield chunk
    except BaseException:
        # Django closes no response that breaks.
        held.release()
        raise
    held.release("response")


async def _alast(body: AsyncIterator[bytes], rest: Response, held: Held) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            if rest.ends_with(len(chunk)):
                await held.arelease("response")
            yield chunk
    except BaseException:
        await held.arelease()
        raise
    await held.arelease("response")


def _options() -> dict[str, Any]:
    options: dict[str, Any] = getattr(settings, "SYNLOCK_GUARD", {})
    if unknown := set(options) - _KEYS:
        raise ImproperlyConfigured(f"SYNLOCK_GUARD has {', '.join(sorted(_KEYS))}, not {', '.join(sorted(unknown))}")
    return options


def _function(given: Any) -> Any:
    return import_string(given) if isinstance(given, str) else given


@functools.cache
def guards() -> Guards:
    """Those of the settings."""
    options = _options()
    return Guards(options.get("stores"), dialect=options.get("dialect", "native"), default=options.get("default"))


def describe(request: HttpRequest, with_user: bool = True, with_session: bool = False) -> Request:
    """What is known of a request: its view, path and arguments, the user of `django.contrib.auth`.

    To find user and session may take a query each: not done for policies that do not need them. `with_session`
    begins a session for an anonymous visitor who has none.
    """
    options = _options()
    if given := _function(options.get("describe")):
        described: Request = given(request)
        return described
    match = request.resolver_match
    find_user = _function(options.get("user")) or _user
    user = find_user(request) if with_user else None
    session = getattr(request, "session", None) if with_user else None
    if with_session and session is not None and session.session_key is None and user is not None and user.id is None:
        session.create()
    return Request(
        (match.view_name or match._func_path) if match else request.method or "",
        path_of(request.path),
        match.kwargs if match else {},
        user=user,
        session=session.session_key if session is not None else None,
        ip=request.META.get("REMOTE_ADDR"),
    )


def _user(request: HttpRequest) -> User | None:
    user = getattr(request, "user", None)
    if user is None:
        return None
    return User(str(user.pk) if user.is_authenticated else None)


def guarded(policy: Policy | None = None, /, **options: Any) -> Callable[[_F], _F]:
    """A decorator of views, whether functions or coroutine functions. Several apply from the top."""
    rules = policy or Policy(**options)

    #: What is to be found out of a request.
    wanted = (rules.user_isolation, rules.user_isolation and rules.anonymous == "session")

    def held_by(request: HttpRequest) -> Held:
        held: Held | None = getattr(request, "synlock_held", None)
        if held is None:
            raise ImproperlyConfigured("synlock.guard.django.GuardMiddleware is not in MIDDLEWARE")
        return held

    def enter(held: Held, request: HttpRequest, described: Request) -> None:
        is_long = rules.mode in ("queue", "force") and not guards().store(rules.service)._is_custom
        if is_long and isinstance(request, ASGIRequest):
            # The loop can give up, when the client does, what a thread cannot.
            async_to_sync(held.aenter)(guards(), rules, described, kind=Lock)
        else:
            held.enter(guards(), rules, described)

    def decorate(view: _F) -> _F:
        if iscoroutinefunction(view):

            @functools.wraps(view)
            async def later(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                # That may be a query.
                described = await sync_to_async(describe)(request, *wanted)
                await held_by(request).aenter(guards(), rules, described)
                return await view(request, *args, **kwargs)

            return later  # type: ignore[return-value]

        @functools.wraps(view)
        def now(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            enter(held_by(request), request, describe(request, *wanted))
            return view(request, *args, **kwargs)

        return now  # type: ignore[return-value]

    return decorate


def _refuse(refused: Refused) -> HttpResponse:
    status, headers, body = answer(refused)
    return HttpResponse(body, status=status, headers=dict(headers))


__all__ = ["GuardMiddleware", "describe", "guarded", "guards"]
