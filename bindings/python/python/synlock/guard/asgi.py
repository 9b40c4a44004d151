"""Request guards for any ASGI application that runs on asyncio. No thread waits.

app = GuardMiddleware(app, Guards("redis://localhost"), Policy(name="import", mode="queue"))
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any

from .._loop import _wait_out
from ._guards import Guards, Refused
from ._held import Held, _Log
from ._policy import Policy, Request, User, path_of, policies_of
from ._response import Response, answer

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, Any, Any], Awaitable[None]]

#: Where the application finds what is held.
HELD = "synlock.held"


class GuardMiddleware:
    """Lets requests in by policies; the application finds the `Held` in `scope["synlock.held"]`.

    WebSockets and the lifespan pass. A client that hangs up leaves the queue. When it hangs up later the lock
    goes with the application's end. One that does not listen for `http.disconnect` works on and holds it,
    until it sends the next piece of a stream, which is an `OSError`.
    """

    def __init__(
        self,
        app: _App,
        guards: Guards,
        policies: Policy | list[Policy] | tuple[Policy, ...] | Callable[[_Scope], Iterable[Policy]] = (),
        *,
        user: Callable[[_Scope], User | None | Awaitable[User | None]] | None = None,
        describe: Callable[[_Scope], Request | Awaitable[Request]] | None = None,
        refuse: _App | None = None,
        release: str = "response",
        log: _Log | None = None,
    ) -> None:
        """`policies` are applied in their order; a function finds them for each request.

        `user` finds who asks, `describe` all that is known of a request; either may be a coroutine function.
        `refuse` answers a refused request: an application, which finds the exception in
        `scope["synlock.refused"]`. `release` is the release point of policies that name none; `log` is told
        of a release that failed.
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

    async def describe(self, scope: _Scope) -> Request:
        """What is known of a request by itself: the route is its method."""
        return Request(
            scope["method"],
            path_of(scope["path"]),
            user=await _settled(self._user(scope)) if self._user else None,
            ip=(scope.get("client") or (None,))[0],
        )

    async def enter(self, scope: _Scope, policy: Policy, request: Request) -> None:
        """Lets the request in by one more policy; a client that hangs up while it waits leaves the queue."""
        entering = scope[HELD].aenter(self.guards, policy, request)
        if policy.mode in ("queue", "force"):
            await scope["synlock.client"].while_here(entering)
        else:
            await entering

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held = scope[HELD] = Held(self._release, self._log)
        # What decorators and dependencies enter by.
        scope["synlock.guard"] = self
        client = scope["synlock.client"] = _Client(receive)
        response = _Started(scope["method"], client, send, held)
        try:
            try:
                policies = self._policies(scope) if callable(self._policies) else self._policies
                for policy in policies:
                    await self.enter(scope, policy, await _settled(self._describe(scope)))
                await self.app(scope, client.receive, response.send)
            except Refused as refused:
                if response.has_started:
                    raise
                await held.arelease()
                scope["synlock.refused"] = refused
                await self._refuse(scope, client.receive, response.send)
            except _Gone:
                pass  # nobody is there to be told
        finally:
            client.leave()
            # Also after an exception, and when the server ends the task of a client that is gone.
            await held.arelease()


class _Gone(OSError):
    """What is sent is sent to nobody."""


class _Client:
    """The client's messages, read one ahead while the application does not listen: that is how its end is seen."""

    def __init__(self, receive: _Receive) -> None:
        self._receive = receive
        self._ahead: asyncio.Future[_Message] | None = None
        self._last: _Message | None = None
        self._is_listening = False

    async def receive(self) -> _Message:
        if self._last is not None:
            message, self._last = self._last, None
            return message
        if self._ahead is not None:
            # An application may give up waiting; the message is for its next call then.
            message = await asyncio.shield(self._ahead)
            if message["type"] != "http.disconnect":
                self._ahead = None
            return message
        self._is_listening = True
        try:
            return await self._receive()
        finally:
            self._is_listening = False

    def is_gone(self) -> bool:
        while not self._is_listening:
            if self._ahead is None:
                self._ahead = asyncio.ensure_future(self._receive())
            # What receive() raises is for the application to get.
            if not self._ahead.done() or self._ahead.cancelled() or self._ahead.exception() is not None:
                return False
            message = self._ahead.result()
            if message["type"] == "http.disconnect":
                return True
            if self._last is not None or message.get("more_body", False):
                return False
            # Of a request that is there as a whole, only the end is missing.
            self._ahead, self._last = None, message
        return False

    async def while_here(self, work: Coroutine[Any, Any, object]) -> None:
        """Waits for the work, which is cancelled when the client is gone: `_Gone`, or the task is."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                if self.is_gone():
                    raise _Gone("the client has hung up")
                waited: list[asyncio.Future[Any]] = [task]
                if self._ahead is not None and not self._ahead.done() and not self._is_listening:
                    waited.append(self._ahead)
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            task.cancel()
            await _wait_out(task)
            raise
        task.result()

    def leave(self) -> None:
        if self._ahead is not None and not self._ahead.cancel() and not self._ahead.cancelled():
            self._ahead.exception()  # nobody asks for it any more


class _Started:
    """Releases before the last byte is handed on; stops what is sent to nobody."""

    def __init__(self, method: str, client: _Client, send: _Send, held: Held) -> None:
        self._response = Response(method)
        self._client = client
        self._send = send
        self._held = held
        self._has_trailers = False
        self.has_started = False

    async def send(self, message: _Message) -> None:
        if self._is_last(message):
            await self._held.arelease("response")
        elif message["type"] == "http.response.body" and self._client.is_gone():
            raise _Gone("the client has hung up")
        await self._send(message)

    def _is_last(self, message: _Message) -> bool:
        kind: str = message["type"]
        if kind == "http.response.start":
            self.has_started = True
            self._has_trailers = message.get("trailers", False)
            headers = message.get("headers", ())
            length = next((value for name, value in headers if name.lower() == b"content-length"), None)
            self._response.start(message["status"], length)
            return self._response.ends_with()
        if kind == "http.response.body":
            is_whole = self._response.ends_with(len(message.get("body", b"")))
            return is_whole or not (message.get("more_body", False) or self._has_trailers)
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        # A file that the server sends by itself.
        return kind == "http.response.pathsend"


async def _refuse(scope: _Scope, receive: _Receive, send: _Send) -> None:
    status, headers, body = answer(scope["synlock.refused"])
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


__all__ = ["HELD", "GuardMiddleware"]
