"""Request guards for any WSGI application.

application = GuardMiddleware(application, Guards("redis://localhost"), Policy(name="import"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from ._client import STATUS, WORDS, ClientGone, check_of
from ._guards import Guards, Refused
from ._held import Held, _Log
from ._policy import Policy, Request, User, path_of, policies_of
from ._response import Response, answer

_Environ = dict[str, Any]
_StartResponse = Callable[..., Callable[[bytes], object]]
_App = Callable[[_Environ, _StartResponse], Iterable[bytes]]

#: Where the application finds what is held.
HELD = "synlock.held"


class GuardMiddleware:
    """Lets requests in by policies; the application finds the `Held` in `environ["synlock.held"]`."""

    def __init__(
        self,
        app: _App,
        guards: Guards,
        policies: Policy | list[Policy] | tuple[Policy, ...] | Callable[[_Environ], Iterable[Policy]] = (),
        *,
        user: Callable[[_Environ], User | None] | None = None,
        describe: Callable[[_Environ], Request] | None = None,
        refuse: _App | None = None,
        release: str = "response",
        log: _Log | None = None,
    ) -> None:
        """`policies` are applied in their order; a function finds them for each request.

        `user` finds who asks, `describe` all that is known of a request. `refuse` answers a refused request:
        an application, which finds the exception in `environ["synlock.refused"]`. `release` is the release
        point of policies that name none; `log` is told of a release that failed.
        """
        self.app = app
        self.guards = guards
        self._policies = policies if callable(policies) else policies_of(policies)
        self._user = user
        self._describe = describe or self.describe
        self._refuse = refuse or _refuse
        self._release = release
        self._log = log
        Held(release)

    def describe(self, environ: _Environ) -> Request:
        """What is known of a request by itself: the route is its method."""
        return Request(
            environ["REQUEST_METHOD"],
            # As WSGI has it: bytes, shown as Latin 1.
            path_of((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1")),
            user=self._user(environ) if self._user else None,
            ip=environ.get("REMOTE_ADDR"),
        )

    def __call__(self, environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        held = environ[HELD] = Held(self._release, self._log, check_of(environ))
        response = _Started(environ["REQUEST_METHOD"], start_response, held)
        try:
            try:
                policies = self._policies(environ) if callable(self._policies) else self._policies
                for policy in policies:
                    held.enter(self.guards, policy, self._describe(environ))
                body = self.app(environ, response.start)
            except Refused as refused:
                if response.has_started:
                    raise
                held.release()
                environ["synlock.refused"] = refused
                body = self._refuse(environ, response.start)
            except ClientGone:
                if response.has_started:
                    raise
                held.release()
                body = []
                response.start(f"{STATUS} {WORDS}", [("Content-Length", "0")])
        except BaseException:
            # Before the server's error handler answers.
            held.release()
            raise
        return _Body(body, response, held)


class _Started:
    """Notes what a response says of its length."""

    def __init__(self, method: str, start_response: _StartResponse, held: Held) -> None:
        self._response = Response(method)
        self._start_response = start_response
        self._held = held
        self.has_started = False

    def start(self, status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
        self.has_started = True
        length = next((value for name, value in headers if name.lower() == "content-length"), None)
        self._response.start(int(status.split(" ", 1)[0]), length)
        write = self._start_response(status, headers, *error)

        def counted(data: bytes) -> object:
            self.pass_on(data)
            return write(data)

        return counted

    def pass_on(self, data: bytes) -> None:
        """Before these bytes are handed on."""
        if self._response.ends_with(len(data)):
            self._held.release("response")


class _Body:
    """Releases before the last byte is handed on; at the latest when the server closes it."""

    def __init__(self, body: Iterable[bytes], response: _Started, held: Held) -> None:
        self._body = body
        self._response = response
        self._held = held
        self._rest: Iterator[bytes] | None = None

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        try:
            if self._rest is None:
                self._rest = iter(self._body)
            chunk = next(self._rest)
        except StopIteration:
            # The server marks the end of a body of unknown length only now.
            self._held.release("response")
            raise
        except BaseException:
            self._held.release()
            raise
        self._response.pass_on(chunk)
        return chunk

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._held.release()


def _refuse(environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
    status, headers, body = answer(environ["synlock.refused"])
    try:
        words = HTTPStatus(status).phrase
    except ValueError:
        words = "Refused"
    start_response(f"{status} {words}", headers)
    return [body]


__all__ = ["HELD", "GuardMiddleware"]
