"""What django.md says of `ATOMIC_REQUESTS` and of other middleware, with its own settings and views."""

import subprocess
import sys

import pytest
from test_web_guides import DJANGO, PATIENCE, blocks, project, put  # noqa: F401

#: A database of which a transaction sees one state from its first query on, as MySQL's by default.
SETTINGS = """
DATABASES["default"]["ATOMIC_REQUESTS"] = True
MIDDLEWARE += ["others.Between", "others.Answers", "others.AnswersFirst"]
SYNLOCK_GUARD |= {"user": "others.user"}
"""
URLS = """
from django.urls import path
import others
views = ["pay", "plain", "isolated", "outside", "inside"]
urlpatterns = [path(f"{view}/<int:id>", getattr(others, view)) for view in views]
"""
OTHERS = """
import sqlite3
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpResponse
from synlock.guard import Refused, User
from synlock.guard.django import guarded
from views import store

seen = []

def paid():
    with connection.cursor() as cursor:
        cursor.execute("SELECT paid FROM orders")
        return cursor.fetchone()[0]

def committed(change="SELECT 1"):
    # As others see it.
    other = sqlite3.connect(settings.DATABASES["default"]["NAME"], timeout=60)
    with other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute(change)
        found = other.execute("SELECT paid FROM orders").fetchone()[0]
    other.close()
    return found

def user(request):
    # Whoever is looked for in a table is looked for in the decorator.
    seen.append(("user", connection.in_atomic_block))
    paid()
    return User("bob")

class Between:
    def __init__(self, get_response):
        self.get_response = get_response
    def __call__(self, request):
        response = self.get_response(request)
        seen.append(("way out", connection.in_atomic_block, committed(), store.is_locked("order_1")))
        return response

class Answers:
    def __init__(self, get_response):
        self.get_response = get_response
    def __call__(self, request):
        return self.get_response(request)
    def process_exception(self, request, error):
        return HttpResponse(status=409) if isinstance(error, Refused) else None

class AnswersFirst(Answers):
    def process_exception(self, request, error):
        return HttpResponse(status=503) if isinstance(error, Refused) and "both" in request.GET else None

def pay(request, id):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE orders SET paid = paid + 1 WHERE id = %s", [id])
    if "fail" in request.GET:
        raise ZeroDivisionError
    return HttpResponse("paid")

def look(request, id):
    with transaction.atomic():
        return HttpResponse(f"{next(iter(request.synlock_held)).name} {paid()}")

queued = {"name": "order_{id}", "mode": "queue", "max_wait": 60}
pay = guarded(name="order_{id}")(pay)
plain = guarded(**queued)(look)
isolated = guarded(**queued, user_isolation=True)(look)
outside = transaction.non_atomic_requests(guarded(**queued, user_isolation=True)(look))
unwrapped = transaction.non_atomic_requests(lambda request, id: look(request, id))
inside = guarded(**queued, user_isolation=True)(unwrapped)
"""
BEGIN = """
import os, sys, threading, time
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.test import Client
import others
from others import committed, seen, store
client = Client()
"""
COMMITS = """
client.raise_request_exception = False
assert client.get("/pay/1").status_code == 200
assert seen == [("way out", False, 1, True)], seen
assert not store.is_locked("order_1")
seen.clear()
assert client.get("/pay/1?fail=1").status_code == 500
assert seen == [("way out", False, 1, True)], seen
assert not store.is_locked("order_1")
"""
STATES = """
def read_after_a_wait(path):
    # How much of what others wrote while its guard waited.
    name, before = client.get(path).content.decode().rsplit(" ", 1)
    holder = store.lock(name)
    holder.acquire()
    def write():
        for _ in range(3000):
            if store.inspect(name)["waiters"] == 1:
                break
            time.sleep(0.01)
        committed("UPDATE orders SET paid = paid + 1")
        holder.release()
    thread = threading.Thread(target=write)
    thread.start()
    after = client.get(path).content.decode().rsplit(" ", 1)[1]
    thread.join()
    return int(after) - int(before)

committed()
assert read_after_a_wait("/plain/1") == 1, "nothing was read before the guard"
assert ("user", True) not in seen
assert read_after_a_wait("/isolated/1") == 0, "the user was"
assert ("user", True) in seen, "the transaction has begun"
seen.clear()
assert read_after_a_wait("/outside/1") == 1
assert read_after_a_wait("/inside/1") == 1
assert ("user", False) in seen and ("user", True) not in seen
"""
ANSWERS = """
with store.lock("order_1"):
    assert client.get("/pay/1").status_code == 409
    assert client.get("/pay/1?both=1").status_code == 503
assert client.get("/pay/1").status_code == 200
"""


@pytest.mark.parametrize("script", [COMMITS, STATES, ANSWERS], ids=["commits", "states", "answers"])
def test_requests(script, project):  # noqa: F811
    put(
        project,
        {"settings.py": blocks("django")["settings.py"] + DJANGO + SETTINGS, "urls.py": URLS, "others.py": OTHERS},
    )
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script], cwd=project, capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert done.returncode == 0, done.stderr
