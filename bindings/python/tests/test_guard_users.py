"""Request guards over HTTP, where the framework itself knows users and sessions."""

import re

import pytest
from test_guard_http import Server


def serve(app, tmp_path_factory):
    server = Server(app, tmp_path_factory.mktemp("users"))
    # It listens before it has its users.
    assert server.status("open", "o") == 200, server.log.read_text()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["own_django", "own_adjango"])
def django(request, tmp_path_factory):
    yield from serve(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def starlette(tmp_path_factory):
    yield from serve("own_starlette", tmp_path_factory)


def test_users_of_djangos(django):
    bob, again, eve = ((django.place / f"session-{name}").read_text() for name in ("bob", "bob2", "eve"))
    one = django.hold("own", "u", cookie=bob)
    assert django.status("own", "u", cookie=again) == 423, "one user, in two sessions"
    assert django.status("own", "u", cookie=eve) == 200
    assert django.status("own", "u") == 500, "anonymous"
    django.go(one)
    assert one.answer()[0] == 200


def test_sessions_of_djangos(django):
    def visit():
        """A new visitor, who has no session yet: one is begun."""
        asked = django.ask("session", "s")
        assert asked.answer()[0] == 200, django.log.read_text()
        return re.match(r"sessionid=(\w+);", asked.header("Set-Cookie"))[1]

    known = visit()
    one = django.hold("session", "s", cookie=known)
    assert django.status("session", "s", cookie=known) == 423
    assert visit() != known
    assert django.status("session", "s", cookie=(django.place / "session-bob").read_text()) == 200
    django.go(one)
    assert one.answer()[0] == 200
    # Nobody else's visit begins one.
    shared = django.ask("shared", "s")
    assert shared.answer()[0] == 200
    assert shared.header("Set-Cookie") is None


def test_users_of_starlettes(starlette):
    for bob, eve in ("bob", "eve"), ("id:bob", "id:eve"):
        one = starlette.hold("own", "u", user=bob)
        assert starlette.status("own", "u", user=bob) == 423
        assert starlette.status("own", "u", user=eve) == 200
        starlette.go(one)
        status, name = one.answer()
        assert (status, name) == (200, "x_u@/bob")
    assert starlette.status("own", "u") == 500, "anonymous"
    assert starlette.status("shared", "u") == 200
