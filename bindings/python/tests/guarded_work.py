"""What the handlers of guarded_app.py do, and the policies that let requests into them."""

import asyncio
import inspect
import os
import pathlib
import time
from urllib.parse import parse_qs

import anyio.from_thread

from synlock import LockLost
from synlock.guard import Policy, User

PLACE = pathlib.Path(os.environ["GUARD_PLACE"])
RULES = {
    "open": [],
    "block": [Policy(name="x_{id}")],
    "leased": [Policy(name="x_{id}", ttl=600)],
    "later": [Policy(name="x_{id}", status=409, message="later")],
    "queue": [Policy(name="x_{id}", mode="queue", max_wait=60)],
    "patient": [Policy(name="x_{id}", mode="queue", max_wait=600)],
    "hasty": [Policy(name="x_{id}", mode="queue", max_wait=0.05)],
    "steady": [Policy(name="x_{id}", mode="queue", max_wait=5)],
    "check": [Policy(name="x_{id}", mode="check")],
    "force": [Policy(name="x_{id}", mode="force", ttl=600, label="the boss")],
    "two": [Policy(name="y_{id}"), Policy(name="x_{id}")],
    "twice": [Policy(name="x_{id}"), Policy(name="x_{id}", mode="queue")],
    "own": [Policy(name="x_{id}", user_isolation=True)],
    "session": [Policy(name="x_{id}", user_isolation=True, anonymous="session")],
    "shared": [Policy(name="x_{id}", user_isolation=True, anonymous="share")],
    "ip": [Policy(name="x_{id}", user_isolation=True, anonymous="ip")],
    "end": [Policy(name="x_{id}", release="terminate")],
    "unnamed": [Policy()],
}


def user_of(name):
    """`?` stands for an application that has no notion of users."""
    return None if name in ("?", b"?") else User(name or None)


class Work:
    """What a handler does, whatever it is written for; its waits are given back to the host."""

    def __init__(self, do, key, held):
        self.do, self.key, self.held = do, key, held

    def file(self, word):
        return PLACE / f"{word}-{self.key}"

    def tell(self, word="inside"):
        self.file(word).with_suffix(".new").write_text(str(os.getpid()))
        self.file(word).with_suffix(".new").rename(self.file(word))

    def steps(self):
        """Yields what it waits for; returns status and body."""
        self.tell()
        if self.do in ("wait", "slow"):
            yield self.file("go").exists
            for admission in self.held:
                if admission.lock is not None:
                    yield admission.lock.ensure_held
        elif self.do == "alone":
            (PLACE / "alone").mkdir()
            # Whoever is let in beside it finds it there.
            until = time.monotonic() + 0.02
            yield lambda: time.monotonic() > until
            (PLACE / "alone").rmdir()
            with (PLACE / "order").open("a") as order:
                order.write(self.key + "\n")
        elif self.do == "throw":
            raise ZeroDivisionError("asked to")

    def now(self):
        try:
            for step in self.steps():
                while True:
                    done = step()
                    if inspect.iscoroutine(done):
                        # An endpoint in a thread of Starlette's, whose locks are those of its loop.
                        done = anyio.from_thread.run(awaited, done)
                    if done is not False:
                        break
                    time.sleep(0.005)
        except LockLost as lost:
            return 409, str(lost)
        return self.answer()

    async def later(self):
        try:
            for step in self.steps():
                while True:
                    done = step()
                    if inspect.iscoroutine(done):
                        done = await done
                    if done is not False:
                        break
                    await asyncio.sleep(0.005)
        except LockLost as lost:
            return 409, str(lost)
        return self.answer()

    def answer(self):
        status = {"empty": 204, "unchanged": 304}.get(self.do, 200)
        return status, ",".join(str(admission.name) for admission in self.held) if status == 200 else ""

    @property
    def streams(self):
        return self.do in ("stream", "drip", "deaf", "sized", "broken")

    def pieces(self):
        """The bodies that come in pieces: None is a wait."""
        yield b"first"
        if self.do in ("drip", "deaf"):
            while True:
                yield None
                yield b"x" * 65536
        while not self.file("go").exists():
            yield None
        if self.do == "broken":
            raise ZeroDivisionError("asked to")
        yield b"last!"
        # The client has it all, and this goes on.
        while self.do == "sized" and not self.file("done").exists():
            yield None

    def stream(self):
        for piece in self.pieces():
            if piece is None:
                time.sleep(0.005)
            else:
                yield piece

    async def astream(self):
        for piece in self.pieces():
            if piece is None:
                await asyncio.sleep(0.005)
            else:
                yield piece

    @property
    def headers(self):
        return {"Content-Length": "10"} if self.do == "sized" else {}

    def linger(self):
        """What is still done when the response is out."""
        if self.do == "linger":
            while not self.file("go").exists():
                time.sleep(0.005)
            self.tell("ended")

    async def alinger(self):
        if self.do == "linger":
            while not self.file("go").exists():
                await asyncio.sleep(0.005)
            self.tell("ended")


async def awaited(coroutine):
    return await coroutine


def query_of(text):
    found = parse_qs(text)
    return found.get("do", ["answer"])[0], found.get("key", [""])[0]
