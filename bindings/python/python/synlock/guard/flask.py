"""Request guards for Flask.

guard = Guard(app, Guards("redis://localhost"))

@app.post("/orders/<int:id>/pay")
@guard(name="order_{id}", mode="queue")
def pay(id): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import flask

from ._client import STATUS, WORDS, ClientGone
from ._guards import Guards, Refused
from ._held import Held, _Log
from ._policy import Policy, Request, User, path_of
from ._response import answer
from .wsgi import HELD, GuardMiddleware

_F = TypeVar("_F", bound=Callable[..., Any])


class Guard:
    """An extension: puts a middleware around the application, which releases, and makes decorators.

    A refusal is answered with its status and message, unless the application has an error handler for
    `synlock.guard.Refused`.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        guards: Guards | None = None,
        *,
        user: Callable[[], User | None] | None = None,
        describe: Callable[[], Request] | None = None,
        release: str = "response",
        log: _Log | None = None,
    ) -> None:
        """`user` finds who asks, within the request; `describe` all that is known of it."""
        self.guards = guards or Guards()
        self._user = user
        self._describe = describe or self.describe
        self._release = release
        self._log = log
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        app.wsgi_app = GuardMiddleware(  # type: ignore[method-assign]
            app.wsgi_app, self.guards, release=self._release, log=self._log
        )
        app.register_error_handler(Refused, _refuse)
        app.register_error_handler(ClientGone, lambda _: flask.Response(status=f"{STATUS} {WORDS}"))
        app.extensions["synlock"] = self

    def describe(self) -> Request:
        """What is known of the request: its endpoint, path and view arguments."""
        request = flask.request
        return Request(
            request.endpoint or request.method,
            path_of(request.root_path + request.path),
            request.view_args or {},
            user=self._user() if self._user else None,
            ip=request.remote_addr,
        )

    def __call__(self, policy: Policy | None = None, /, **options: Any) -> Callable[[_F], _F]:
        """A decorator of views: `@guard(name="order_{id}")`; below `@app.route`. Several apply from the top."""
        rules = policy or Policy(**options)

        def decorate(view: _F) -> _F:
            @functools.wraps(view)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                held: Held | None = flask.request.environ.get(HELD)
                if held is None:
                    raise RuntimeError("synlock's Guard is not installed in this application: call init_app(app)")
                held.enter(self.guards, rules, self._describe())
                return flask.current_app.ensure_sync(view)(*args, **kwargs)

            return guarded  # type: ignore[return-value]

        return decorate


def _refuse(refused: Refused) -> flask.Response:
    status, headers, body = answer(refused)
    return flask.Response(body, status, headers)


__all__ = ["Guard"]
