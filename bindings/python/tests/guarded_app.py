"""The application of test_guard_http.py, in every framework: `GUARD_APP` says which, `app` is it.

Handlers are what is usual under their server: functions under WSGI, coroutine functions under ASGI; in the
applications called `odd_…` they are the other kind. Those called `own_…` know users by the framework's own means, those
called `green_…` are served by greenlets, and the rest is called by its server.

`/POLICY/ID?do=…&key=…`; files in `GUARD_PLACE` tell who is inside, and let them go.
"""

import asyncio
import dataclasses
import os

from guarded_work import PLACE, RULES, Work, query_of, user_of

from synlock.guard import Guards, Request

KIND = os.environ["GUARD_APP"]
IS_ODD = KIND.startswith("odd_")
#: Users and sessions are the framework's own, by cookies and by its authentication; elsewhere headers say who asks.
KNOWS_USERS = KIND.startswith("own_")
guards = Guards(os.environ["GUARD_URL"])


# ---- by the middleware alone


def words_of(path):
    _, policy, id = path.split("/")
    return policy, id


class Lingering:
    def __init__(self, body, work):
        self.body, self.work = body, work

    def __iter__(self):
        return iter(self.body)

    def close(self):
        if hasattr(self.body, "close"):
            self.body.close()
        self.work.linger()


def wsgi():
    from synlock.guard.wsgi import GuardMiddleware

    def app(environ, start_response):
        work = Work(*query_of(environ["QUERY_STRING"]), environ["synlock.held"])
        status, text = (200, "") if work.streams else work.now()
        body = work.stream() if work.streams else [text.encode()]
        # A length of its own, or none: then the server marks the end.
        headers = list(work.headers.items())
        if not work.streams:
            headers = [] if status in (204, 304) else [("Content-Length", str(len(text.encode())))]
        if work.streams:
            work.tell()
        start_response(f"{status} X", headers)
        return Lingering(body, work)

    def describe(environ):
        policy, id = words_of(environ["PATH_INFO"])
        user = user_of(environ.get("HTTP_X_USER"))
        session, ip = environ.get("HTTP_X_SESSION"), environ.get("REMOTE_ADDR")
        return Request("app", environ["PATH_INFO"], {"id": id}, user, session, ip)

    def policies(environ):
        return RULES[words_of(environ["PATH_INFO"])[0]]

    return GuardMiddleware(app, guards, policies, describe=describe)


def asgi():
    from synlock.guard.asgi import GuardMiddleware

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        work = Work(*query_of(scope["query_string"].decode()), scope["synlock.held"])
        status, text = (200, "") if work.streams else await work.later()
        headers = [(name.lower().encode(), value.encode()) for name, value in work.headers.items()]
        if work.streams:
            work.tell()
            await send({"type": "http.response.start", "status": status, "headers": headers})

            async def gone():
                while (await receive())["type"] != "http.disconnect":
                    pass

            # Whoever is deaf goes on until it is stopped.
            watch = asyncio.ensure_future(asyncio.Event().wait() if work.do == "deaf" else gone())
            async for piece in work.astream():
                if watch.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            watch.cancel()
            await send({"type": "http.response.body"})
        else:
            if status not in (204, 304):
                headers = [(b"content-length", str(len(text.encode())).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text.encode()})
        await work.alinger()

    async def describe(scope):
        headers = dict(scope["headers"])
        user = user_of(headers.get(b"x-user"))
        params, ip = {"id": words_of(scope["path"])[1]}, scope["client"][0]
        return Request("app", scope["path"], params, user, headers.get(b"x-session"), ip)

    def policies(scope):
        return RULES[words_of(scope["path"])[0]]

    return GuardMiddleware(app, guards, policies, describe=describe)


# ---- by decorators


def flask():
    from flask import Flask, Response, request

    from synlock.guard.flask import Guard

    app = Flask(__name__)

    class Own(Guard):
        def describe(self):
            known = super().describe()
            return dataclasses.replace(known, session=request.headers.get("X-Session"))

    guard = Own(app, guards, user=lambda: user_of(request.headers.get("X-User")))

    def begun():
        return Work(*query_of(request.query_string.decode()), request.environ["synlock.held"])

    def streamed(work):
        work.tell()
        return Response(work.stream(), headers=work.headers)

    def ended(work, status, text):
        response = Response(text, status)
        response.call_on_close(work.linger)
        return response

    def view(id):
        work = begun()
        return streamed(work) if work.streams else ended(work, *work.now())

    async def coroutine(id):
        work = begun()
        return streamed(work) if work.streams else ended(work, *await work.later())

    for name, rules in RULES.items():
        decorated = coroutine if IS_ODD else view
        for rule in reversed(rules):
            decorated = guard(rule)(decorated)
        app.add_url_rule(f"/{name}/<id>", name, decorated)
    return app


def fastapi():
    from fastapi import FastAPI, Response
    from fastapi import Request as HTTPRequest
    from fastapi.responses import StreamingResponse
    from starlette.background import BackgroundTask

    from synlock.guard.fastapi import GuardMiddleware, guarded

    def user(scope):
        return user_of(dict(scope["headers"]).get(b"x-user"))

    app = FastAPI()
    app.add_middleware(GuardMiddleware, guards=guards, user=user)

    begun, streamed, ended = by_starlette(Response, StreamingResponse, BackgroundTask)

    async def coroutine(request: HTTPRequest):
        work = begun(request)
        return streamed(work) if work.streams else ended(work, *await work.later())

    def function(request: HTTPRequest):
        work = begun(request)
        return streamed(work) if work.streams else ended(work, *work.now())

    for name, rules in RULES.items():
        endpoint = function if IS_ODD else coroutine
        dependencies = [guarded(rule) for rule in rules]
        # They are decorators as well.
        if IS_ODD or len(rules) > 1:
            for rule in reversed(dependencies):
                endpoint = rule(endpoint)
            dependencies = []
        app.api_route(f"/{name}/{{id}}", methods=["GET", "HEAD"], dependencies=dependencies)(endpoint)
    return app


def by_starlette(response, streaming, task):
    """What its and FastAPI's endpoints begin and end with."""

    def begun(request):
        return Work(*query_of(request.url.query), request.scope["synlock.held"])

    def streamed(work):
        work.tell()
        return streaming(work.astream(), headers=work.headers)

    def ended(work, status, text):
        return response(text, status, background=task(work.alinger))

    return begun, streamed, ended


def starlette():
    from starlette.applications import Starlette
    from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.middleware.authentication import AuthenticationMiddleware
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    from synlock.guard.starlette import GuardMiddleware, guarded

    begun, streamed, ended = by_starlette(Response, StreamingResponse, BackgroundTask)

    async def coroutine(request):
        work = begun(request)
        return streamed(work) if work.streams else ended(work, *await work.later())

    def function(request):
        work = begun(request)
        return streamed(work) if work.streams else ended(work, *work.now())

    async def user(scope):
        return user_of(dict(scope["headers"]).get(b"x-user"))

    class Identified(SimpleUser):
        """One whose identity is not its name."""

        @property
        def identity(self):
            return self.username.removeprefix("id:")

    class ByHeader(AuthenticationBackend):
        async def authenticate(self, connection):
            name = connection.headers.get("X-User")
            kind = Identified if name and name.startswith("id:") else SimpleUser
            return name and (AuthCredentials(), kind(name))

    routes = []
    for name, rules in RULES.items():
        decorated = function if IS_ODD else coroutine
        for rule in reversed(rules):
            decorated = guarded(rule)(decorated)
        routes.append(Route(f"/{name}/{{id}}", decorated))
    if not KNOWS_USERS:
        return Starlette(routes=routes, middleware=[Middleware(GuardMiddleware, guards=guards, user=user)])
    known = Middleware(AuthenticationMiddleware, backend=ByHeader())
    return Starlette(routes=routes, middleware=[Middleware(GuardMiddleware, guards=guards), known])


# ---- Django, in both ways

urlpatterns = []


class Session:
    """Stands for what Django's own keeps in a database."""

    def __init__(self, session_key):
        self.session_key = session_key

    def create(self):
        """It cannot: as one whose key is made when it is saved."""


class Somebody:
    def __init__(self, pk):
        self.pk, self.is_authenticated = pk, pk is not None


def identify(get_response):
    """A middleware that knows users and sessions by headers."""

    def know(request):
        if request.headers.get("X-User") != "?":
            request.user = Somebody(request.headers.get("X-User"))
        request.session = Session(request.headers.get("X-Session"))

    async def later(request):
        know(request)
        return await get_response(request)

    def now(request):
        know(request)
        return get_response(request)

    return later if asyncio.iscoroutinefunction(get_response) else now


identify.sync_capable = identify.async_capable = True


def django_settings():
    import django
    from django.conf import settings

    sessions = "django.contrib.sessions"
    auth = ["django.contrib.contenttypes", "django.contrib.auth"]
    known = [f"{sessions}.middleware.SessionMiddleware", f"{auth[1]}.middleware.AuthenticationMiddleware"]
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="x",
        INSTALLED_APPS=[*auth, sessions] if KNOWS_USERS else [],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": PLACE / "db"}} if KNOWS_USERS else {},
        MIDDLEWARE=["synlock.guard.django.GuardMiddleware", *(known if KNOWS_USERS else [f"{__name__}.identify"])],
        SYNLOCK_GUARD={"stores": {"default": os.environ["GUARD_URL"]}},
        LOGGING_CONFIG=None,
    )
    if KNOWS_USERS:
        django.setup()
        django_users()


def django_users():
    """Two sessions of Bob's and one of Eve's; files tell their keys."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User as Account
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    bob, eve = Account.objects.create_user("bob"), Account.objects.create_user("eve")
    for name, account in ("bob", bob), ("bob2", bob), ("eve", eve):
        session = SessionStore()
        session[SESSION_KEY] = str(account.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = account.get_session_auth_hash()
        session.create()
        (PLACE / f"session-{name}").write_text(session.session_key)


def django_urls(by_loop):
    """By one that sends streams of its own kind alone, whatever the views are."""
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    from synlock.guard.django import guarded

    def begun(request):
        return Work(*query_of(request.META["QUERY_STRING"]), request.synlock_held)

    def streamed(work):
        work.tell()
        return StreamingHttpResponse(work.astream() if by_loop else work.stream(), headers=work.headers)

    def ended(work, status, text):
        response = HttpResponse(text, status=status)
        close = response.close

        def closed():
            close()
            work.linger()

        response.close = closed
        return response

    def function(request, id):
        work = begun(request)
        return streamed(work) if work.streams else ended(work, *work.now())

    async def coroutine(request, id):
        work = begun(request)
        return streamed(work) if work.streams else ended(work, *await work.later())

    for name, rules in RULES.items():
        decorated = coroutine if by_loop != IS_ODD else function
        for rule in reversed(rules):
            decorated = guarded(rule)(decorated)
        urlpatterns.append(path(f"{name}/<id>", decorated, name=name))


def django():
    django_settings()
    from django.core.wsgi import get_wsgi_application

    app = get_wsgi_application()
    django_urls(by_loop=False)
    return app


def adjango():
    django_settings()
    from django.core.asgi import get_asgi_application

    app = get_asgi_application()
    django_urls(by_loop=True)
    return app


def timed(app):
    """Gives slow handlers half a second, as an application may around the guard."""

    async def timing(scope, receive, send):
        if b"do=slow" not in scope["query_string"]:
            return await app(scope, receive, send)
        # By whom the response is begun: Django's own task goes on, and may be the one.
        begun_by = None

        async def sending(message):
            nonlocal begun_by
            begun_by = begun_by or "the application"
            if begun_by == "the application":
                await send(message)

        try:
            await asyncio.wait_for(app(scope, receive, sending), 0.5)
        except asyncio.TimeoutError:
            if begun_by is None:
                begun_by = "its end"
                await send({"type": "http.response.start", "status": 504, "headers": []})
                await send({"type": "http.response.body"})

    return timing


app = globals()[KIND.rpartition("_")[2]]()
if os.environ["GUARD_SERVER"] == "uvicorn":
    app = timed(app)
