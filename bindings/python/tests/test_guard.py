"""Request guards: policies, names, services, modes, and what a request holds. Over HTTP: test_guard_http.py."""

import asyncio
import concurrent.futures
import json
import os
import pathlib
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest
from test_custom import Drawer

import synlock
from synlock.guard import Guards, Held, Policy, Refused, Request, User
from synlock.guard.wsgi import GuardMiddleware

VECTORS = pathlib.Path(__file__).parents[3] / "tests/vectors"
ASKED = Request("pay", "/orders/17", {"id": 17})
ORDER = Policy(name="order_{id}")


def fresh():
    return f"memory:{uuid.uuid4()}"


def test_a_stream_to_nobody_ends_and_no_message_is_lost():
    from synlock.guard.asgi import GuardMiddleware

    body = [{"type": "http.request", "body": text, "more_body": text != b"c"} for text in (b"a", b"b", b"c")]
    got = []

    async def main(reads):
        messages, pieces = asyncio.Queue(), []
        for message in body:
            messages.put_nowait(message)

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                if len(pieces) in reads:
                    got.append((await receive()).get("body"))
                if len(pieces) == 5:
                    messages.put_nowait({"type": "http.disconnect"})
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0)

        async def send(message):
            pieces.append(message)

        guards = Guards(fresh())
        scope = {"type": "http", "method": "POST", "path": "/x", "client": None}
        work = asyncio.create_task(GuardMiddleware(app, guards, Policy(name="x"))(scope, messages.get, send))
        if len(reads) < 2:
            # What it has not read stands before the end of the client, and is not swallowed.
            await asyncio.sleep(0.05)
            assert not work.done()
            assert guards.store().is_locked("x")
            assert messages.qsize() == 2 - len(reads) + 1
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
        else:
            await asyncio.wait_for(work, 60)
        assert not guards.store().is_locked("x")

    asyncio.run(main([]))
    asyncio.run(main([2]))
    assert got == [b"a"]
    for reads in [2, 3], [1, 2, 3], [2, 4, 7]:
        got.clear()
        asyncio.run(main(reads))
        assert got == [b"a", b"b", b"c"][: len(got)] and len(got) >= 2


def test_a_policy_that_means_nothing_is_refused():
    for wrong in [
        {"mode": "wait"},
        {"anonymous": "x"},
        {"release": "never"},
        {"status": 200},
        {"status": 70000},
        {"ttl": 0},
        {"ttl": -1.0},
        {"max_wait": 0},
        {"max_wait": -1},
    ]:
        with pytest.raises(synlock.InvalidArgument):
            Policy(**wrong)
    with pytest.raises(synlock.InvalidArgument):
        Held("never")
    with pytest.raises(synlock.InvalidArgument):
        Guards(fresh()).add("x", fresh(), max_wait=0)


def test_names():
    guards = Guards(fresh())
    assert guards.name(Policy(), ASKED) == "pay /orders/17"
    assert guards.name(ORDER, ASKED) == "order_17"
    assert guards.name(Policy(name="{b}"), Request(params={"b": b"\xff\0"})) == b"\xff\0"
    with pytest.raises(synlock.InvalidArgument, match="{no}"):
        guards.name(Policy(name="order_{no}"), ASKED)
    with pytest.raises(synlock.InvalidArgument):
        guards.name(Policy(name="{x}"), Request(params={"x": [1]}))
    assert guards.name(Policy(name="{a}{b}"), Request(params={"a": uuid.UUID(int=0), "b": True})).endswith("0True")

    def of(user):
        return Request("pay", "/", {}, user, "sess", "10.0.0.1")

    own = {"name": "o", "user_isolation": True}
    assert guards.name(Policy(**own), of(User("bob", "main"))) == "o@main/bob"
    for nobody in (None, User(None)):
        with pytest.raises(synlock.InvalidArgument):
            guards.name(Policy(**own), of(nobody))
    assert guards.name(Policy(**own, anonymous="share"), of(User(None))) == "o@:anonymous"
    assert guards.name(Policy(**own, anonymous="ip"), of(User(None))) == "o@:ip/10.0.0.1"
    assert guards.name(Policy(**own, anonymous="session"), of(User(None))).startswith("o@:session/")


@pytest.mark.parametrize(
    ("file", "dialect", "rows"), [("ixarlie_pre20", "ixarlie", 21), ("ixarlie_21", "ixarlie2", 12)]
)
def test_names_of_ixarlies_own_code(file, dialect, rows):
    guards = Guards(fresh(), dialect=dialect)
    found = json.loads((VECTORS / f"{file}.json").read_text())["rows"]
    assert len(found) == rows
    for row in found:
        given, expected = row["name"], row["expect"]
        token = given.get("token")
        if given.get("token_serialized_hex") is not None:
            token = bytes.fromhex(given["token_serialized_hex"])
        request = Request(
            given["controller"],
            expected.get("path_info") or given["path"],
            given.get("routeParams") or {},
            User(None) if given["tokenStorage"] else None,
            token=token.encode() if isinstance(token, str) else token,
        )
        policy = Policy(name=given.get("template"), user_isolation=given["userIsolation"])
        if "lock_name" in expected:
            assert guards.name(policy, request) == expected["lock_name"], row
        else:
            with pytest.raises(synlock.InvalidArgument):
                guards.name(policy, request)


def test_services_by_short_and_full_names():
    guards = Guards({"default": fresh()})
    guards.add("redis.queued", fresh())
    assert guards.names() == ["default", "redis.queued"]
    assert guards.find() == guards.find("default") == "default"
    for name in "redis.queued", "synlock.redis.queued", "ixarlie_mutex.redis_factory.queued":
        assert guards.find(name) == "redis.queued"
    with pytest.raises(synlock.InvalidArgument, match="redis.queued"):
        guards.find("redis")
    with pytest.raises(synlock.InvalidArgument):
        guards.add("default", fresh())
    guards.set_default("redis.queued")
    admission = guards.enter(ORDER, ASKED)
    assert admission.service == "redis.queued"
    assert guards.store().is_locked("order_17")


def test_block_and_what_a_refusal_tells(url):
    guards = Guards(url)
    policy = Policy(name=f"o_{uuid.uuid4()}", ttl=600, label="one", domain="app")
    with pytest.raises(Refused) as refused:
        first = guards.enter(policy, ASKED)
        guards.enter(policy, ASKED)
    error = refused.value
    assert isinstance(error, synlock.LockBusy)
    assert (error.http_status, error.code, error.service, error.name) == (423, "BUSY", "default", policy.name)
    assert str(error) == error.message == "Resource is not available at this moment."
    if guards.store().capabilities["ttl"]:
        assert 0 < error.retry_after <= 600
        assert error.headers == {"Retry-After": str(error.retry_after)}
        assert error.holders[0]["label"] == "one"
    else:
        assert error.headers == {}
    assert pickle.loads(pickle.dumps(error)).retry_after == error.retry_after
    assert first.lock.locked()
    assert not first.lock.last_acquired.contended
    first.release()
    first.release()
    assert not first.lock.locked()
    guards.enter(policy, ASKED).release()


def test_a_lease_on_a_store_without_leases(tmp_path):
    guards = Guards(f"flock:{tmp_path}")
    guards.enter(Policy(name="x", ttl=5), ASKED).release()
    with pytest.raises(synlock.Unsupported):
        guards.enter(Policy(name="x", ttl=5, strict=True), ASKED)


def test_check_acquires_nothing():
    guards = Guards(fresh())
    check = Policy(name="order_{id}", mode="check")
    assert guards.enter(check, ASKED).lock is None
    first = guards.enter(ORDER, ASKED)
    with pytest.raises(Refused):
        guards.enter(check, ASKED)
    first.release()
    assert guards.enter(check, ASKED).held == 0.0


def test_queue_waits_for_its_turn_and_no_longer():
    guards = Guards(fresh())
    guards.add("hasty", fresh(), max_wait=0.01)
    queue = Policy(name="order_{id}", mode="queue", max_wait=60)
    first = guards.enter(ORDER, ASKED)
    entered = []
    thread = threading.Thread(target=lambda: entered.append(guards.enter(queue, ASKED)))
    thread.start()
    while guards.store().inspect("order_17")["waiters"] != 1:
        time.sleep(0.001)
    first.release()
    thread.join()
    assert entered[0].waited > 0
    with pytest.raises(Refused) as refused:
        guards.enter(Policy(name="order_{id}", mode="queue", max_wait=0.01), ASKED)
    assert refused.value.waited >= 0.01
    # Another thread may release what one acquired.
    entered[0].release()
    assert not guards.store().is_locked("order_17")
    hasty = Policy(name="order_{id}", mode="queue", service="hasty")
    guards.enter(hasty, ASKED)


def test_force_and_its_victim(redis):
    guards = Guards(redis)
    name = str(uuid.uuid4())
    victim = guards.enter(Policy(name=name), ASKED)
    boss = guards.enter(Policy(name=name, mode="force", label="the boss"), ASKED)
    assert boss.broken[0]["pid"] == os.getpid()
    with pytest.raises(synlock.LockLost, match=rf"broken by the boss, pid {os.getpid()}, host {socket.gethostname()}"):
        victim.lock.ensure_held()
    told = []

    def log(admission, error):
        told.append((admission, error))
        raise OSError("full")

    held = Held(log=log)
    held._of.append((guards, 0, b""))
    held._admissions.append(victim)
    held.release()
    assert told[0][0] is victim
    assert isinstance(told[0][1], synlock.LockLost)
    assert boss.lock.is_acquired()


def test_held_releases_at_release_points_the_latest_first():
    guards = Guards(fresh())
    order = []
    guards.store().observe(lambda event: event["kind"] == "released" and order.append(event["resource"]))
    held = Held()
    for policy in (
        Policy(name="a"),
        Policy(name="b", release="terminate"),
        Policy(name="c"),
        Policy(name="k", auto_release=False),
    ):
        assert held.enter(guards, policy, ASKED) is not None
    assert held.enter(guards, Policy(name="a", mode="queue"), ASKED) is None, "it has that"
    assert (len(held), held.holds_until("terminate")) == (4, True)
    held.release("response")
    assert order == [b"c", b"a"]
    # Released is not held: it is asked for again.
    assert held.enter(guards, Policy(name="a"), ASKED) is not None
    held.release()
    assert order == [b"c", b"a", b"a", b"b"]
    assert guards.store().is_locked("k")


def test_what_the_handler_did_itself_is_not_released_twice():
    guards = Guards(fresh())
    given = guards.enter(ORDER, ASKED)
    given.lock.release()
    other = guards.enter(ORDER, ASKED)
    given.release()
    assert other.lock.is_acquired()


def test_without_auto_release_a_hold_outlives_its_objects(redis):
    guards = Guards(redis)
    kept, dropped = str(uuid.uuid4()), str(uuid.uuid4())
    for name, auto_release in ((kept, False), (dropped, True)):
        admission = guards.enter(Policy(name=name, ttl=60, auto_release=auto_release), ASKED)
        del admission
    assert guards.store().is_locked(kept)
    assert not guards.store().is_locked(dropped)


def test_handing_over(redis):
    guards = Guards(redis)
    name = str(uuid.uuid4())
    admission = guards.enter(Policy(name=name, ttl=60), ASKED)
    adopted = guards.store().adopt(admission.lock.export())
    admission.release()
    assert adopted.is_acquired()
    adopted.release()


def test_tasks(url):
    guards = Guards(url)
    name = str(uuid.uuid4())
    queue = Policy(name=name, mode="queue", max_wait=60)

    async def main():
        first = await guards.aenter(Policy(name=name), ASKED)
        with pytest.raises(Refused):
            await guards.aenter(Policy(name=name), ASKED)
        if guards.store().capabilities["list"]:
            with pytest.raises(Refused):
                await guards.aenter(Policy(name=name, mode="check"), ASKED)
        waiting = [asyncio.create_task(guards.aenter(queue, ASKED)) for _ in range(50)]
        gone = asyncio.create_task(guards.aenter(queue, ASKED))
        await asyncio.sleep(0.05)
        # No thread waits.
        assert threading.active_count() < 40
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert first.lock.locked()
        await first.arelease()
        for task in asyncio.as_completed(waiting):
            admission = await task
            assert isinstance(admission.lock, synlock.aio.Lock)
            await admission.arelease()
            await admission.arelease()
        victim = await guards.aenter(Policy(name=name), ASKED)
        if guards.store().capabilities["break_lock"]:
            boss = await guards.aenter(Policy(name=name, mode="force"), ASKED)
            with pytest.raises(synlock.LockLost):
                await victim.lock.ensure_held()
            victim = boss
        # In a thread, as Django does at the end of a response.
        await asyncio.to_thread(victim.release)
        assert not await synlock.aio.Store._of(guards.store()).is_locked(name)

    asyncio.run(main())


def test_a_custom_store_is_asked_by_threads_alone():
    guards = Guards({"own": synlock.Store.custom(Drawer())})
    guards.add("lazy", synlock.Store.custom(Drawer()), can_wait=False)
    first = guards.enter(Policy(name="x"), ASKED)
    with pytest.raises(Refused):
        guards.enter(Policy(name="x"), ASKED)
    with pytest.raises(synlock.Unsupported):
        asyncio.run(guards.aenter(Policy(name="x"), ASKED))
    with pytest.raises(synlock.Unsupported, match="lazy"):
        guards.enter(Policy(name="x", mode="queue", service="lazy"), ASKED)
    first.release()
    guards.enter(Policy(name="x"), ASKED).release()


def test_a_custom_stores_lock_is_released_whatever_cancels_come():
    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        drawer, free = Drawer(), threading.Event()
        admission = Guards(synlock.Store.custom(drawer)).enter(Policy(name="x", auto_release=False), ASKED)
        busy = asyncio.create_task(asyncio.to_thread(free.wait, 60))
        await asyncio.sleep(0)
        releasing = asyncio.create_task(admission.arelease())
        await asyncio.sleep(0)
        releasing.cancel()
        await asyncio.sleep(0)
        free.set()
        await busy
        with pytest.raises(asyncio.CancelledError):
            await releasing
        assert not drawer.holds

    asyncio.run(main())


def test_a_cancel_keeps_none_of_the_locks_of_a_request():
    async def main():
        guards, held = Guards(fresh()), Held()
        for name in "ab":
            await held.aenter(guards, Policy(name=name), ASKED)
        releasing = asyncio.create_task(held.arelease())
        await asyncio.sleep(0)
        releasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await releasing
        assert [guards.store().is_locked(name) for name in "ab"] == [False, False]

    asyncio.run(main())


def test_a_release_that_is_refused_leaves_the_lock_to_its_request():
    asked, answer = threading.Event(), threading.Event()

    class Slow(Drawer):
        def is_held(self, ask):
            if threading.current_thread() is not threading.main_thread():
                asked.set()
                assert answer.wait(60)
            return super().is_held(ask)

    admission = Guards(synlock.Store.custom(Slow())).enter(Policy(name="x"), ASKED)
    asking = threading.Thread(target=admission.lock.ensure_held)
    asking.start()
    assert asked.wait(60)
    with pytest.raises(synlock.ConcurrentUse):
        admission.release()
    answer.set()
    asking.join(60)
    admission.lock.ensure_held()
    admission.release()
    assert not admission.lock.locked()


def test_ctrl_c_ends_a_wait_and_leaves_nothing_behind(tmp_path):
    url = f"shm:{tmp_path / 'segment'}"
    script = """
import sys
from synlock.guard import Guards, Policy, Request
guards = Guards(sys.argv[1])
print("ready", flush=True)
try:
    guards.enter(Policy(name="x", mode="queue", max_wait=600), Request())
except KeyboardInterrupt:
    print("interrupted", guards.store().inspect("x")["waiters"], flush=True)
    sys.stdin.read()
"""
    guards = Guards(url)
    first = guards.enter(Policy(name="x"), ASKED)
    process = subprocess.Popen(
        [sys.executable, "-c", script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    while guards.store().inspect("x")["waiters"] != 1:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted 0\n"
    first.release()
    assert not guards.store().is_locked("x")
    process.communicate("")


def test_under_gevent_a_wait_does_not_block_the_hub(redis, name):
    script = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from synlock.guard import Guards, Policy, Request
url, name = sys.argv[1:]
guards = Guards(url)
first = guards.enter(Policy(name=name), Request())
waiting = gevent.spawn(lambda: guards.enter(Policy(name=name, mode="queue", max_wait=60), Request()))
while guards.store().inspect(name)["waiters"] != 1:
    gevent.sleep(0.005)
first.release()
second = waiting.get(timeout=60)
second.release()
print(guards.store().is_locked(name))
"""
    done = subprocess.run([sys.executable, "-c", script, redis, name], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_a_wsgi_server_that_tells_of_a_client_that_hangs_up():
    store = synlock.Store(fresh())
    holder = store.lock("n")
    holder.acquire()
    ours, theirs = socket.socketpair()
    looks = []

    def look():
        looks.append(len(looks))
        return len(looks) > 2

    def application(environ, start_response):
        pytest.fail("it is let in")

    guarded = GuardMiddleware(application, Guards(store), Policy(name="n", mode="queue", max_wait=60))
    for server in ({"waitress.client_disconnected": look}, {"werkzeug.socket": ours}):
        answers = []
        if "werkzeug.socket" in server:
            theirs.close()
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **server}
        body = guarded(environ, lambda status, headers, answers=answers: answers.append(status))
        assert (list(body), answers) == ([], ["499 Client Closed Request"])
        body.close()
        assert store.inspect("n")["waiters"] == 0
    assert len(looks) == 3
    ours.close()
    holder.release()
