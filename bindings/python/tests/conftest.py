import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

import pytest

PACKAGE = str(pathlib.Path(__file__).parents[1] / "python")
os.environ["PYTHONPATH"] = PACKAGE
sys.path.append(str(pathlib.Path(__file__).parents[3] / "tests/support"))
from bystander import Bystander  # noqa: E402
from ports import free_port  # noqa: E402

import synlock  # noqa: E402

# Ignored where the tests were begun in the background; those that they start would ignore it as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


def patient(url):
    """With time for a server that the machine lets wait."""
    return f"{url}?connect_timeout=20000&io_timeout=20000"


def briefly(call):
    """What a call comes to whose time, in seconds, runs out; more of it where a server has not answered in less."""
    for seconds in 0.02, 0.1, 0.5, 2.5:
        with contextlib.suppress(synlock.Unavailable, synlock.Uncertain):
            return call(seconds)
    return call(12.5)


async def abriefly(call):
    for seconds in 0.02, 0.1, 0.5, 2.5:
        with contextlib.suppress(synlock.Unavailable, synlock.Uncertain):
            return await call(seconds)
    return await call(12.5)


@contextlib.contextmanager
def server():
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is missing: apt-get install -y redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="synlock-python-") as folder:
        process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        try:
            yield f"redis://127.0.0.1:{port}", process.pid
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def redis():
    with server() as (url, _):
        yield patient(url)


@pytest.fixture
def own_redis():
    """One that a test may stop: its URL and its process."""
    with server() as found:
        yield found


@pytest.fixture(params=["memory", "shm", "flock", "redis"])
def url(request, tmp_path):
    if request.param == "memory":
        return f"memory:{uuid.uuid4()}"
    if request.param == "shm":
        return f"shm:{tmp_path / 'segment'}"
    if request.param == "flock":
        folder = tmp_path / "locks"
        folder.mkdir(mode=0o700)
        return f"flock:{folder}"
    return request.getfixturevalue("redis")


@pytest.fixture
def name():
    return f"python-{uuid.uuid4()}"


@pytest.fixture
def machine():
    """What the machine itself lets a process wait."""
    with Bystander() as watching:
        yield watching
