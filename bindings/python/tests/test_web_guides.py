"""The guides to web frameworks beside README.md: their code, behind the servers that they speak of."""

import contextlib
import http.client
import os
import pathlib
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from ports import free_port

import synlock

FOLDER = pathlib.Path(__file__).parents[1]
PATIENCE = 60

DJANGO = """
DEBUG = False
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "x"
ROOT_URLCONF = "urls"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "PLACE/db", "OPTIONS": {"timeout": 60}}}
"""
URLS = """
from django.urls import path
import views
urlpatterns = [path("pay/<int:id>", views.pay), path("report/<int:id>", views.report)]
"""
ORDERS = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
import logging
logging.getLogger("django.db.backends.base").addHandler(logging.StreamHandler())
from django.db import transaction
import orders
from orders import store

orders.pay(1)
assert not store.is_locked("order_1")
try:
    orders.ship(1)
except RuntimeError:
    pass
else:
    sys.exit("it holds for no commit")
with transaction.atomic():
    orders.ship(1)
    assert store.is_locked("order_1")
assert not store.is_locked("order_1")
try:
    with transaction.atomic():
        orders.ship(1)
        raise ZeroDivisionError
except ZeroDivisionError:
    pass
assert not store.is_locked("order_1"), "after the rollback"
with transaction.atomic():
    orders.ship(1)
    store.break_lock("order_1")
# Logged, and committed all the same.
"""


def blocks(guide):
    """By the file name in the first line."""
    found = re.findall(r"^```python\n# ([\w.]+)\n(.+?)^```$", (FOLDER / f"{guide}.md").read_text(), re.M | re.S)
    return dict(found)


def put(place, files):
    for name, code in files.items():
        (place / name).write_text(code.replace("shm:app", f"shm:{place}/segment").replace("PLACE", str(place)))


@contextlib.contextmanager
def served(place, *command):
    port = free_port()
    log = place / "log"
    command = [word.replace("PORT", str(port)) for word in command]
    with log.open("w") as file:
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings"}
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=place, env=environment, stdout=file, stderr=file
        )
    try:
        for _ in range(PATIENCE * 100):
            assert process.poll() is None, log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        yield lambda *words, **more: ask(port, *words, **more)
    finally:
        process.terminate()
        process.wait()


def ask(port, method, path, **headers):
    """Status, `Retry-After` and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.getheader("Retry-After"), body


def test_every_guide_is_linked():
    readme = (FOLDER / "README.md").read_text()
    assert "(django.md)" in readme
    assert "(fastapi.md)" in readme


@pytest.fixture
def project(tmp_path):
    files = blocks("django")
    assert set(files) == {"settings.py", "views.py", "orders.py"}
    files["settings.py"] += DJANGO
    put(tmp_path, {**files, "urls.py": URLS})
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, paid INTEGER, shipped INTEGER)")
        database.execute("INSERT INTO orders VALUES (1, 0, 0)")
    database.close()
    return tmp_path


def row(project):
    with contextlib.closing(sqlite3.connect(project / "db")) as database:
        return database.execute("SELECT paid, shipped FROM orders").fetchone()


def test_django(project):
    store = synlock.Store(f"shm:{project}/segment")
    gunicorn = ["gunicorn", "django.core.wsgi:get_wsgi_application()", "-b", "127.0.0.1:PORT", "-w", "2"]
    with served(project, *gunicorn, "--threads", "4", "--no-control-socket") as get:
        for _ in range(3):
            assert get("GET", "/pay/1") == (200, None, "paid")
        with store.lock("order_1", ttl=60):
            status, retry_after, body = get("GET", "/pay/1")
            assert (status, body) == (423, "Resource is not available at this moment.")
            assert 0 < int(retry_after) <= 60
            assert get("GET", "/report/1")[0] == 423
            assert not store.is_locked("report")
        assert get("GET", "/report/1") == (200, None, "reported")
    assert row(project) == (3, 0)


def test_django_transactions(project):
    done = subprocess.run([sys.executable, "-c", ORDERS], cwd=project, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "LockLost" in done.stderr
    assert row(project) == (1, 2)


def test_fastapi(tmp_path):
    put(tmp_path, blocks("fastapi"))
    store = synlock.Store(f"shm:{tmp_path}/segment")
    uvicorn = "uvicorn", "app:app", "--port", "PORT", "--lifespan", "off", "--log-level", "warning"
    with served(tmp_path, *uvicorn) as post:
        seen = []
        threads = [threading.Thread(target=lambda: seen.append(post("POST", "/orders/7/pay"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (200, None, '{"paid":7}') in seen
        assert {status for status, _, _ in seen} <= {200, 423}
        with store.lock("order_7", ttl=60):
            status, retry_after, body = post("POST", "/orders/7/pay")
            assert (status, body) == (423, '{"detail":"Resource is not available at this moment."}')
            assert 0 < int(retry_after) <= 60
            waiting = threading.Thread(target=lambda: seen.append(post("POST", "/orders/7/ship")))
            waiting.start()
            while store.inspect("order_7")["waiters"] != 1:
                time.sleep(0.005)
        waiting.join()
        assert seen[-1] == (200, None, '{"shipped":7,"under":["order_7"]}')
        assert post("POST", "/cart", X_User="bob")[0] == 200
        assert post("POST", "/cart")[0] == 500, "nobody"
        status, _, body = post("POST", "/import")
        assert status == 200
        assert re.fullmatch(r'\{"token":\d+\}', body)
