"""Thousands of waiters in one process: few connections, no threads, nothing asked but now and then."""

import asyncio
import os
import socket
import time
from urllib.parse import urlsplit

import pytest
from conftest import abriefly, patient

import synlock

WAITERS = 10_000 if os.environ.get("SYNLOCK_LOAD") == "full" else 2_000


class Server:
    """Looks at the server past the library."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._replies = self._socket.makefile("rb")

    def ask(self, *words):
        sent = [f"*{len(words)}\r\n".encode()]
        sent += [b"$%d\r\n%b\r\n" % (len(word), word) for word in (str(word).encode() for word in words)]
        self._socket.sendall(b"".join(sent))
        return self._reply()

    def _reply(self):
        line = self._replies.readline().rstrip()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self._replies.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        assert kind != b"-", rest
        return int(rest) if kind == b":" else rest.decode()

    def clients(self):
        return sum(f"name=synlock-{os.getpid()} " in line for line in self.ask("CLIENT", "LIST").splitlines())

    def calls(self):
        """Scripts that were run."""
        stats = self.ask("INFO", "commandstats").splitlines()
        found = [line.split("calls=")[1].split(",")[0] for line in stats if line.startswith("cmdstat_eval")]
        return sum(map(int, found))

    def queued(self):
        count = "for _, k in ipairs(redis.call('KEYS', '*}q:*')) do n = n + redis.call('ZCARD', k) end"
        return self.ask("EVAL", f"local n = 0; {count}; return n", 0)


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.02)


def threads():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("names", [1, WAITERS])
def test_many_wait_at_the_cost_of_few(own_redis, name, names):
    url, _ = own_redis
    server = Server(url)

    async def main():
        store = synlock.aio.Store(patient(url))
        holders = [store.lock(f"{name}/{number}") for number in range(names)]
        await asyncio.gather(*(holder.acquire() for holder in holders))
        # The first that waits subscribes.
        first = store.lock(f"{name}/0")
        assert not await abriefly(lambda seconds: first.acquire(timeout=seconds))
        before = threads()
        got = []
        inside = set()

        async def wait(number):
            which = number % names
            async with store.lock(f"{name}/{which}"):
                assert which not in inside
                inside.add(which)
                got.append(number)
                await asyncio.sleep(0)
                inside.discard(which)

        tasks = [asyncio.create_task(wait(number)) for number in range(WAITERS)]
        await until(lambda: server.queued() == WAITERS)
        assert server.clients() <= 3
        assert threads() <= before
        # Each asks at most once in five seconds.
        calls, start = server.calls(), time.monotonic()
        await asyncio.sleep(2)
        most = WAITERS * (1 + (time.monotonic() - start) / 5)
        assert server.calls() - calls < most + 100
        # Those that are cancelled hold nothing and wait no more; the others come in turn.
        for number in range(0, WAITERS, 2):
            tasks[number].cancel()
        ended = await asyncio.gather(*tasks[::2], return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        assert server.queued() == WAITERS // 2
        # The last cancels race with grants.
        await asyncio.gather(*(holder.release() for holder in holders))
        late = tasks[WAITERS // 2 + 1 :: 4]
        for task in late:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        entered = set(got)
        assert len(got) == len(entered)
        for number, end in enumerate(ended):
            if end is None:
                assert number in entered
            else:
                assert isinstance(end, asyncio.CancelledError), end
        assert set(range(1, WAITERS // 2, 2)) <= entered
        if names == 1:
            assert got == sorted(got)
        assert server.clients() <= 3
        assert threads() <= before
        assert server.queued() == 0
        # Nothing is left behind.
        assert await first.acquire(timeout=5)
        await first.release()
        assert (await store.list(name))[0] == []

    asyncio.run(asyncio.wait_for(main(), 300))
