"""The Redis that is measured: our own, on a free port and a unix socket, stopped by its process."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def redis(folder: str, cpu: int) -> Iterator[tuple[int, int, str]]:
    """Its PID, port and socket. On the CPU of the clients: what another core does must not decide."""
    port, path = free_port(), f"{folder}/redis.sock"
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path,
         "--save", "", "--appendonly", "no", "--dir", folder],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        # Ctrl-C comes to this program alone, which then stops the server.
        start_new_session=True,
    )
    try:
        for _ in range(200):
            if answers(path) or server.poll() is not None:
                break
            time.sleep(0.05)
        if not answers(path):
            raise SystemExit("redis-server does not answer")
        for task in os.listdir(f"/proc/{server.pid}/task"):
            os.sched_setaffinity(int(task), {cpu})
        yield server.pid, port, path
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
