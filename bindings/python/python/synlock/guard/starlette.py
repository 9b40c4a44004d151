"""Request guards for Starlette; put `GuardMiddleware` of `synlock.guard.asgi` around the application.

@guarded(name="order_{id}", mode="queue")
async def pay(request): ...
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HTTPRequest

from .._loop import _wait_out
from ._policy import Policy, Request, User, path_of
from .asgi import GuardMiddleware, _settled

_F = TypeVar("_F", bound=Callable[..., Any])


async def enter(request: HTTPRequest, policy: Policy) -> None:
    """Lets the request in by one more policy; raises `Refused`, which the middleware answers."""
    guard = request.scope.get("synlock.guard")
    if not isinstance(guard, GuardMiddleware):
        raise RuntimeError("synlock.guard.asgi.GuardMiddleware is not around this application")
    await guard.enter(request.scope, policy, await describe(request, guard))


async def describe(request: HTTPRequest, guard: GuardMiddleware) -> Request:
    """What is known of the request: its endpoint, path and parameters, the user of `AuthenticationMiddleware`."""
    scope = request.scope
    if guard._describe != guard.describe:
        described: Request = await _settled(guard._describe(scope))
        return described
    endpoint = scope.get("endpoint")
    return Request(
        f"{endpoint.__module__}.{endpoint.__qualname__}" if inspect.isfunction(endpoint) else scope["method"],
        path_of(scope["path"]),
        scope.get("path_params") or {},
        user=await _settled(guard._user(scope)) if guard._user else _user_of(scope.get("user")),
        ip=(scope.get("client") or (None,))[0],
    )


def _user_of(user: Any) -> User | None:
    if user is None:
        return None
    if not user.is_authenticated:
        return User(None)
    try:
        return User(user.identity)
    except NotImplementedError:
        return User(user.display_name)


async def in_thread(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """As Starlette does, but whoever cancels the task waits for the thread: what it holds goes after its work."""
    work = asyncio.ensure_future(run_in_threadpool(function, *arguments, **named))
    if (cancelled := await _wait_out(work)) is not None:
        work.exception()  # nobody asks for it any more
        raise cancelled
    return work.result()


def guarded(policy: Policy | None = None, /, **options: Any) -> Callable[[_F], _F]:
    """A decorator of endpoints that take the request. Several apply from the top."""
    rules = policy or Policy(**options)

    def decorate(endpoint: _F) -> _F:
        @functools.wraps(endpoint)
        async def guarding(request: HTTPRequest) -> Any:
            await enter(request, rules)
            if inspect.iscoroutinefunction(endpoint):
                return await endpoint(request)
            return await in_thread(endpoint, request)

        return guarding  # type: ignore[return-value]

    return decorate


__all__ = ["GuardMiddleware", "enter", "guarded"]
