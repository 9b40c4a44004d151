"""Request guards: what a web request must have before its handler runs.

>>> from synlock.guard import Guards, Policy, Refused, Request
>>> guards = Guards("memory:")
>>> policy = Policy(name="order_{id}")
>>> first = guards.enter(policy, Request(params={"id": 17}))
>>> try:
...     guards.enter(policy, Request(params={"id": 17}))
... except Refused as refused:
...     refused.http_status
423
>>> first.release()

For web frameworks: `synlock.guard.wsgi`, `asgi`, `flask`, `django`, `fastapi` and `starlette`.
"""

from ._client import ClientGone
from ._guards import Admission, Guards, Refused
from ._held import Held
from ._policy import Policy, Request, User

__all__ = ["Admission", "ClientGone", "Guards", "Held", "Policy", "Refused", "Request", "User"]
