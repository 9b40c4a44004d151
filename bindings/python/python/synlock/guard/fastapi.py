"""Request guards for FastAPI.

app.add_middleware(GuardMiddleware, guards=Guards("redis://localhost"))

@app.post("/orders/{id}/pay")
@guarded(name="order_{id}", mode="queue")
async def pay(id: int): ...

As a dependency, for routers and applications too: `dependencies=[guarded(name="order_{id}")]`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.params import Depends

from ._held import Held
from ._policy import Policy
from .asgi import HELD, GuardMiddleware
from .starlette import enter, in_thread

_F = TypeVar("_F", bound=Callable[..., Any])


class _Guarded(Depends):
    """A dependency that is a decorator too."""

    def __call__(self, endpoint: _F) -> _F:
        """Lets requests into this endpoint only by the policy. Several apply from the top."""
        is_later = inspect.iscoroutinefunction(endpoint)
        signature = inspect.signature(endpoint, eval_str=False)
        parameters = list(signature.parameters.values())
        name = f"synlock_held_{sum(one.name.startswith('synlock_held_') for one in parameters)}"

        @functools.wraps(endpoint)
        async def guarding(*args: Any, **kwargs: Any) -> Any:
            del kwargs[name]
            return await (endpoint(*args, **kwargs) if is_later else in_thread(endpoint, *args, **kwargs))

        # FastAPI finds by its signature what an endpoint depends on, in this order.
        own = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=self, annotation=Any)
        keyword_only = [one for one in parameters if one.kind >= one.KEYWORD_ONLY]
        before = parameters[: len(parameters) - len(keyword_only)]
        guarding.__signature__ = signature.replace(parameters=[*before, own, *keyword_only])  # type: ignore[attr-defined]
        return guarding  # type: ignore[return-value]


def guarded(policy: Policy | None = None, /, **options: Any) -> Any:
    """A dependency that lets the request in, and a decorator of endpoints.

    The value of the dependency, should the endpoint want it, is the request's `Held`.
    """
    rules = policy or Policy(**options)

    async def guarding(request: Request) -> Held:
        await enter(request, rules)
        held: Held = request.scope[HELD]
        return held

    # Its parameter's type must be found, whatever the module's annotations are.
    guarding.__annotations__["request"] = Request
    # Two of them are two, even for one policy.
    return _Guarded(guarding, use_cache=False)


__all__ = ["GuardMiddleware", "guarded"]
