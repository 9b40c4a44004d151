"""Request guards over HTTP: the same application in every framework, behind gunicorn or uvicorn."""

import contextlib
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from ports import free_port

import synlock

TESTS = pathlib.Path(__file__).parent
#: Each with its server.
APPS = {
    "wsgi": "gunicorn",
    "flask": "gunicorn",
    "django": "gunicorn",
    "asgi": "uvicorn",
    "starlette": "uvicorn",
    "fastapi": "uvicorn",
    "adjango": "uvicorn",
    "green_wsgi": "gunicorn",
    "odd_flask": "gunicorn",
    "odd_django": "gunicorn",
    "odd_starlette": "uvicorn",
    "odd_fastapi": "uvicorn",
    "odd_adjango": "uvicorn",
}
#: Others that give a client's connection away.
OTHERS = {"waitress_wsgi": "waitress", "werkzeug_wsgi": "werkzeug", "uwsgi_wsgi": "uwsgi"}
#: And those of test_guard_users.py.
SERVERS = {**APPS, **OTHERS, "own_django": "gunicorn", "own_adjango": "uvicorn", "own_starlette": "uvicorn"}
WERKZEUG = """
import sys, guarded_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), guarded_app.app, threaded=True)
"""
PATIENCE = 60


def until(true, what):
    for _ in range(PATIENCE * 200):
        if true():
            return
        time.sleep(0.005)
    pytest.fail(f"never: {what}")


class Asked:
    """A request under way."""

    def __init__(self, port, path, headers, method="GET"):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.connection.request(method, path, headers=headers)
        self.response = None

    def answer(self):
        """Status and body."""
        response = self.response = self.connection.getresponse()
        return response.status, response.read().decode()

    def header(self, name):
        return self.response.getheader(name)


class Server:
    def __init__(self, app, place, *more):
        self.app, self.place = app, place
        self.kind = app.removeprefix("odd_")
        self.is_asgi = SERVERS[app] == "uvicorn"
        self.url = f"shm:{place / 'segment'}"
        self.store = synlock.Store(self.url)
        self.port = free_port()
        worker = ["-k", "gevent"] if app.startswith("green_") else ["-k", "gthread", "--threads", "24"]
        python = [sys.executable, "-m"]
        command = {
            "gunicorn": [
                *python, "gunicorn", "guarded_app:app", "-b", f"127.0.0.1:{self.port}", "-w", "1", *worker,
                "--timeout", "600", "--no-control-socket", *more,
            ],
            "uvicorn": [
                *python, "uvicorn", "guarded_app:app", "--port", str(self.port), "--lifespan", "off",
                "--log-level", "warning", "--timeout-graceful-shutdown", "1",
            ],
            "waitress": [
                *python, "waitress", "--host=127.0.0.1", f"--port={self.port}", "--threads=24",
                "--channel-request-lookahead=1", "guarded_app:app",
            ],
            "werkzeug": [sys.executable, "-c", WERKZEUG, str(self.port)],
            "uwsgi": [
                pathlib.Path(sys.executable).with_name("uwsgi"), "--http-socket", f"127.0.0.1:{self.port}",
                "--module", "guarded_app:app", "--need-app", "--threads", "24", "--virtualenv", sys.prefix,
            ],
        }[SERVERS[app]]  # fmt: skip
        environment = {
            **os.environ,
            "GUARD_APP": app,
            "GUARD_SERVER": SERVERS[app],
            "GUARD_PLACE": str(place),
            "GUARD_URL": self.url,
        }
        self.log = place / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=TESTS, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(self.is_up, f"{app} is up:\n{self.log.read_text()}")

    def is_up(self):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, policy, id, do="answer", key="", user=None, session=None, method="GET", cookie=None):
        headers = {"Connection": "close"}
        if user:
            headers["X-User"] = user
        if session:
            headers["X-Session"] = session
        if cookie:
            headers["Cookie"] = f"sessionid={cookie}"
        return Asked(self.port, f"/{policy}/{id}?{urlencode({'do': do, 'key': key})}", headers, method)

    def status(self, *words, **more):
        return self.ask(*words, **more).answer()[0]

    def hold(self, policy, id, do="wait", **more):
        """A request that is inside, until it is let go."""
        key = str(uuid.uuid4())
        asked = self.ask(policy, id, do, key, **more)
        asked.key = key
        self.until(lambda: self.is_inside(key), f"{policy} {id} is inside")
        return asked

    def is_inside(self, key):
        return (self.place / f"inside-{key}").exists()

    def hang_up(self, asked):
        """And the server has had time to see it: it has answered another request meanwhile."""
        asked.connection.close()
        assert self.status("open", "o") == 200

    def waiters(self, name, number):
        self.until(lambda: self.store.inspect(name)["waiters"] == number, f"{number} wait for {name}")

    def until(self, true, what):
        until(true, f"{what}:\n{self.log.read_text()}")

    def go(self, *asked):
        for one in asked:
            (self.place / f"go-{one.key}").touch()

    def free(self, name):
        self.until(lambda: not self.store.is_locked(name), f"{name} is free")


@pytest.fixture(scope="module", params=APPS)
def server(request, tmp_path_factory):
    server = Server(request.param, tmp_path_factory.mktemp("guarded"))
    yield server
    server.stop()


def test_block_lets_exactly_one_in(server):
    one = server.hold("leased", "b")
    others = [server.ask("leased", "b") for _ in range(7)]
    for other in others:
        assert other.answer() == (423, "Resource is not available at this moment.")
        assert other.header("Cache-Control") == "no-store"
        assert 0 < int(other.header("Retry-After")) <= 600
    assert server.status("leased", "other") == 200
    later = server.ask("later", "b")
    assert later.answer() == (409, "later")
    server.go(one)
    assert one.answer() == (200, "x_b")
    assert server.status("leased", "b") == 200


def test_a_holder_without_a_lease_has_no_end_that_is_known(server):
    one = server.hold("block", "l")
    other = server.ask("block", "l")
    assert other.answer()[0] == 423
    assert other.header("Retry-After") is None
    server.go(one)
    assert one.answer()[0] == 200


def test_requests_at_once_never_meet_inside(server):
    for policy in "block", "queue":
        asked = [server.ask(policy, "alone", "alone", str(uuid.uuid4())) for _ in range(10)]
        seen = [one.answer()[0] for one in asked]
        assert 200 in seen
        assert set(seen) <= ({200} if policy == "queue" else {200, 423}), server.log.read_text()


def test_of_many_at_once_block_lets_exactly_one_in(server):
    asked = [server.ask("block", "once", "wait", "once") for _ in range(12)]
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = [threads.submit(one.answer) for one in asked]
        server.until(lambda: sum(answer.done() for answer in answers) == 11, "all but one are answered")
        inside = [answer for answer in answers if not answer.done()]
        (server.place / "go-once").touch()
        assert [answer.result()[0] for answer in inside] == [200]
        assert sorted(answer.result()[0] for answer in answers) == [200] + [423] * 11


def test_queue_serves_all_in_their_order(server):
    asked = [server.hold("queue", "q")]
    (server.place / "order").unlink(missing_ok=True)
    for number in range(3):
        asked.append(server.ask("queue", "q", "alone", f"q{number}"))
        server.waiters("x_q", number + 1)
    server.go(asked[0])
    assert [one.answer()[0] for one in asked] == [200] * 4
    assert (server.place / "order").read_text().split() == ["q0", "q1", "q2"]


def test_queue_is_bounded(server):
    one = server.hold("block", "w")
    assert server.status("hasty", "w") == 423
    server.go(one)
    assert one.answer()[0] == 200


def test_check_lets_in_without_acquiring(server):
    check = server.hold("check", "c")
    assert not server.store.is_locked("x_c")
    assert server.status("check", "c") == 200
    one = server.hold("block", "c")
    assert server.status("check", "c") == 423
    server.go(check, one)
    assert check.answer()[0] == one.answer()[0] == 200


def test_force_takes_over_and_the_victim_is_told_by_whom(server):
    victim = server.hold("leased", "f")
    boss = server.hold("force", "f")
    server.go(victim)
    status, words = victim.answer()
    assert status == 409
    assert re.search(rf"broken by the boss, pid \d+, host {re.escape(socket.gethostname())}\b", words), words
    assert server.status("block", "f") == 423, "the victim has released nothing of the boss's"
    server.go(boss)
    assert boss.answer()[0] == 200


def test_isolated_users(server):
    bob = server.hold("own", "u", user="bob", session="one")
    assert server.status("own", "u", user="bob", session="two") == 423
    assert server.status("own", "u", user="eve", session="one") == 200
    server.go(bob)
    assert bob.answer()[0] == 200
    assert server.status("own", "u") == 500, "anonymous"


@pytest.mark.parametrize("policy", ["shared", "ip"])
def test_all_anonymous_requests_of_one_machine_have_one_lock(server, policy):
    nobody = server.hold(policy, "a")
    assert server.status(policy, "a") == 423
    assert server.status(policy, "a", user="bob") == 200
    server.go(nobody)
    assert nobody.answer()[0] == 200


def test_an_application_that_has_no_notion_of_users_is_refused_isolation(server):
    for policy in "own", "shared", "session", "ip":
        assert server.status(policy, "n", user="?", session="one") == 500, policy
    assert server.status("block", "n", user="?") == 200


def test_a_lock_for_each_session(server):
    if server.kind in ("starlette", "fastapi"):
        # These have no sessions of their own: it is said, not shared in silence.
        assert server.status("session", "s", session="one") == 500
        return
    one = server.hold("session", "s", session="one")
    assert server.status("session", "s", session="one") == 423
    assert server.status("session", "s", session="two") == 200
    assert server.status("session", "s") == 500, "it has no session"
    server.go(one)
    assert one.answer()[0] == 200


@pytest.mark.parametrize("do", ["linger", "empty", "unchanged", "throw"])
def test_free_with_the_last_byte(server, do):
    # Whoever lingers is still at work when the response is out: a release after that would come too late.
    key = str(uuid.uuid4())
    asked = server.ask("block", f"r-{do}", do, key)
    expected = {"linger": (200, f"x_r-{do}"), "empty": (204, ""), "unchanged": (304, ""), "throw": (500, None)}[do]
    status, body = asked.answer()
    assert (status, body if expected[1] is not None else None) == expected
    assert server.status("block", f"r-{do}") == 200
    (server.place / f"go-{key}").touch()
    if do == "linger":
        until(lambda: (server.place / f"ended-{key}").exists(), "it ends")


def test_terminate_comes_after_the_response_and_its_background_tasks(server):
    key = str(uuid.uuid4())
    asked = server.ask("end", "t", "linger", key)
    connection = asked.connection
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"x_t")
    assert server.status("block", "t") == 423
    (server.place / f"go-{key}").touch()
    server.free("x_t")
    assert server.status("block", "t") == 200


@pytest.mark.parametrize("do", ["stream", "sized"])
def test_a_streamed_body_is_guarded_to_its_end(server, do):
    one = server.hold("block", f"s-{do}", do)
    response = one.connection.getresponse()
    assert response.read(5) == b"first"
    assert server.status("block", f"s-{do}") == 423
    server.go(one)
    assert response.read(5) == b"last!"
    if do == "sized":
        # Known to be the last one, so it is free already.
        assert server.status("block", f"s-{do}") == 200
        (server.place / f"done-{one.key}").touch()
    assert response.read() == b""
    assert server.status("block", f"s-{do}") == 200


def test_a_stream_that_is_not_sent_is_over_with_its_headers(server):
    one = server.hold("block", "head", "stream", method="HEAD")
    server.free("x_head")
    assert server.status("block", "head") == 200
    server.go(one)
    assert one.answer() == (200, "")


def test_a_streamed_body_that_breaks(server):
    one = server.hold("block", "broken", "broken")
    response = one.connection.getresponse()
    assert response.read(5) == b"first"
    assert server.status("block", "broken") == 423
    server.go(one)
    with contextlib.suppress(http.client.HTTPException, ConnectionError):
        assert response.read() == b""
    server.free("x_broken")
    assert server.status("block", "broken") == 200


@pytest.mark.parametrize("do", ["drip", "deaf"])
def test_a_client_that_hangs_up_on_a_stream(server, do):
    one = server.hold("block", "h", do)
    response = one.connection.getresponse()
    assert response.read(5) == b"first"
    assert server.store.is_locked("x_h")
    # Its socket is the response's now.
    response.close()
    one.connection.close()
    server.free("x_h")


def test_a_client_that_hangs_up_on_a_handler_at_work(server):
    one = server.hold("block", "g")
    server.hang_up(one)
    if server.app != "adjango":
        # Django ends the coroutine of such a view; every other handler is at work still.
        assert server.status("block", "g") == 423
        assert server.store.is_locked("x_g")
        server.go(one)
    server.free("x_g")
    assert server.status("block", "g") == 200


def test_a_handler_whose_time_is_over(server):
    one = server.hold("block", "z", "slow")
    if server.app in ("asgi", "starlette", "fastapi"):
        assert one.answer()[0] == 504
    else:
        # Nobody ends a thread, and Django goes on in a task of its own: these are at work still.
        time.sleep(0.6)
        assert server.status("block", "z") == 423
        server.go(one)
        assert one.answer()[0] in (200, 504)
    server.free("x_z")
    assert server.status("block", "z") == 200


@pytest.mark.parametrize("app", ["wsgi", "flask", "django"])
def test_a_worker_whose_time_is_over(app, tmp_path):
    server = Server(app, tmp_path, "-k", "sync", "--threads", "1", "--preload", "--timeout", "3")
    try:
        one = server.hold("block", "z")
        # gunicorn may find time to say that.
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            assert one.answer()[0] == 500
        server.free("x_z")
        assert server.status("block", "z") == 200
    finally:
        server.stop()


@pytest.mark.parametrize("app", OTHERS)
def test_other_servers_give_the_connection_away(app, tmp_path):
    server = Server(app, tmp_path)
    try:
        test_a_client_that_hangs_up_in_the_queue(server)
    finally:
        server.stop()


def test_a_client_that_hangs_up_in_the_queue(server):
    one = server.hold("block", "m")
    gone = server.ask("patient", "m", key="gone")
    server.waiters("x_m", 1)
    server.hang_up(gone)
    server.waiters("x_m", 0)
    server.go(one)
    assert one.answer()[0] == 200
    server.free("x_m")
    assert not server.is_inside("gone")
    assert server.status("block", "m") == 200


def test_the_policies_before_one_that_refuses_are_let_go_of(server):
    one = server.hold("block", "p")
    assert server.status("two", "p") == 423
    assert not server.store.is_locked("y_p")
    server.go(one)
    assert one.answer()[0] == 200
    assert server.ask("two", "p").answer() == (200, "y_p,x_p")


def test_a_lock_that_the_request_has_is_not_waited_for(server):
    assert server.ask("twice", "again").answer() == (200, "x_again")


def test_without_a_policy_nothing_is_asked(server):
    assert server.ask("open", "o").answer() == (200, "")


def test_without_a_template_the_name_is_route_and_path(server):
    one = server.ask("unnamed", "%41b")
    status, name = one.answer()
    assert status == 200
    assert name.endswith(" /unnamed/Ab"), name


def test_nothing_went_wrong_but_what_was_asked_for(server):
    log = server.log.read_text()
    errors = [
        error for error in re.findall(r"^(?:[\w.]*\.)?(\w+(?:Error|Exception|Argument|Unsupported))\b", log, re.M)
    ]
    assert set(errors) <= {"ZeroDivisionError", "InvalidArgument"}, log
    told = re.findall(r"the lock .* of a request: .*", log)
    assert all("x_f" in line for line in told), log


def test_a_killed_worker(server):
    one = server.hold("block", "k")
    assert server.store.is_locked("x_k")
    os.kill(int((server.place / f"inside-{one.key}").read_text()), signal.SIGKILL)
    server.free("x_k")
