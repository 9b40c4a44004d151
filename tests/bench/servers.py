"""The Redis that is measured: our own, on a free port and a unix socket, stopped by its process."""

import contextlib
import os
import pathlib
import random
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator


def free_port() -> int:
    """Of those that the kernel gives to no connection, which could be faster than the server."""
    first, last = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    every = range(10_000, 65_536)
    ports = [port for port in every if not first <= port <= last] or every
    for port in random.sample(ports, len(ports)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no port for redis-server")


class Server:
    """A running one."""

    def __init__(self, pid: int, port: int, path: str) -> None:
        self.pid, self.port, self.path = pid, port, path

    def ask(self, command: str) -> str:
        """The answer to a command without blanks in its words; empty if there is none."""
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(self.path)
                client.sendall(f"{command}\r\nQUIT\r\n".encode())
                return b"".join(iter(lambda: client.recv(65536), b"")).decode()
            except OSError:
                return ""

    def calls(self, commands: Iterable[str]) -> int:
        """How often these commands were called so far."""
        found = 0
        for line in self.ask("INFO commandstats").splitlines():
            name, _, figures = line.removeprefix("cmdstat_").partition(":calls=")
            if name in commands:
                found += int(figures.partition(",")[0])
        return found

    def use(self, cpus: Iterable[int]) -> None:
        for task in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setaffinity(int(task), cpus)


@contextlib.contextmanager
def redis(folder: str, cpu: int) -> Iterator[Server]:
    """On the CPU of the clients, at first: what another core does must not decide."""
    port, path = free_port(), f"{folder}/redis.sock"
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path,
         "--save", "", "--appendonly", "no", "--dir", folder],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        # Ctrl-C comes to this program alone, which then stops the server.
        start_new_session=True,
    )
    server = Server(process.pid, port, path)
    try:
        for _ in range(200):
            if server.ask("PING").startswith("+PONG") or process.poll() is not None:
                break
            time.sleep(0.05)
        if process.poll() is not None:
            raise SystemExit("redis-server does not answer")
        server.use({cpu})
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
