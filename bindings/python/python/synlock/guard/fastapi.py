"""Request guards for FastAPI.

app.add_middleware(GuardMiddleware, guards=Guards("redis://localhost"))

@app.post("/orders/{id}/pay", dependencies=[guarded(name="order_{id}", mode="queue")])
async def pay(id: int): ...
"""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request

from ._held import Held
from ._policy import Policy
from .asgi import HELD, GuardMiddleware
from .starlette import enter


def guarded(policy: Policy | None = None, /, **options: Any) -> Any:
    """A dependency that lets the request in; its value, should the endpoint want it, is the request's `Held`."""
    rules = policy or Policy(**options)

    async def guarding(request: Request) -> Held:
        await enter(request, rules)
        held: Held = request.scope[HELD]
        return held

    # Its parameter's type must be found, whatever the module's annotations are.
    guarding.__annotations__["request"] = Request
    # Two of them are two, even for one policy.
    return Depends(guarding, use_cache=False)


__all__ = ["GuardMiddleware", "guarded"]
