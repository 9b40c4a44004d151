#!/usr/bin/env python3
"""Rows 7 and 49 for Python: python_hosts.py [build] [-- forks|pools|trace URL]

`forks` is os.fork and what may become of the child, `pools` is multiprocessing with fork, spawn and
forkserver, its workers killed now and then. `build` alone only builds the extension. It is loaded from a
copy of the package, so that a build broken on purpose (CARGO_TARGET_DIR) never meets the one in the tree.
"""

import contextlib
import itertools
import mmap
import multiprocessing
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Not on a disk: what is written there by others at the same time may hold up a number in a page for a minute.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
sys.path.insert(0, str(ROOT / "tests/support"))
from bystander import Bystander  # noqa: E402

FULL = os.environ.get("SYNLOCK_LOAD") == "full"
#: What a call that is bounded comes back within, on any machine.
SOON = 20.0
#: What a killed parent's lease is waited out for. A machine that lets the watchdog wait this long is not a loss.
LEASE = 0.5 if FULL else 8.0
#: What everybody else's lasts: no test waits for its end.
LONG_LEASE = LEASE if FULL else 3 * SOON
ORPHANED = "outlives its parent"
FATES = ["exits", "destroys", "releases", "executes", "is killed", "outlives the release", ORPHANED]


def say(good: bool, what: str) -> bool:
    print(f"{'ok' if good else 'FAILED'}: {what}", flush=True)
    return good


class Page:
    """Numbers that processes share, in a file."""

    WORDS = ["held", "done", "contended", "ending", "ended", "wrong", "premature", "over"]

    def __init__(self, file: str) -> None:
        with open(file, "r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 8 * len(self.WORDS))

    def __getitem__(self, word: str) -> float:
        return struct.unpack_from("d", self._map, 8 * self.WORDS.index(word))[0]

    def __setitem__(self, word: str, value: float) -> None:
        struct.pack_into("d", self._map, 8 * self.WORDS.index(word), value)

    def until(self, word: str) -> bool:
        end = time.monotonic() + 3 * SOON
        while not self[word] and time.monotonic() < end:
            time.sleep(0.001)
        return bool(self[word])

    def must(self, good: bool) -> None:
        if not good and not self["wrong"]:
            self["wrong"] = sys._getframe(1).f_lineno


def options(store, fate: str) -> dict:
    # On lease stores kept alive by the watchdog, which must stay behind in the parent.
    ttl = LEASE if fate == ORPHANED else LONG_LEASE
    return {} if store.capabilities["frees_on_death"] else {"ttl": ttl, "renew": True}


def is_forked(call, *words) -> bool:
    import synlock

    try:
        call(*words)
    except synlock.ForkedHandle:
        return True
    return False


def child(page: Page, fate: str, store, held, idle) -> None:
    # The end of one in which a call does not come back.
    signal.alarm(int(2 * SOON))
    page.must(held.state == "forked")
    for call in (held.ensure_held, held.refresh):
        page.must(is_forked(call))
    page.must(idle.acquire(False) and idle.release() is None)
    own = store.lock("of the child", **options(store, fate))
    page.must(own.acquire(False) and own.release() is None)
    if fate == "destroys":
        del held, idle, own, store
    elif fate == "releases":
        page.must(is_forked(held.release))
    signal.alarm(0)
    page["done"] = 1
    if fate == "executes":
        os.execlp("sleep", "sleep", "0.02")
    elif fate == "is killed":
        time.sleep(30)
    elif fate.startswith("outlives"):
        page.until("over")
    elif fate == "exits":
        sys.exit(0)  # with what Python does at its end


def parent(page: Page, fate: str, url: str) -> None:
    import synlock

    signal.alarm(int(6 * SOON))
    store = synlock.Store(url)
    held, idle, other = (store.lock(name, **options(store, fate)) for name in ("x", "idle", "x"))
    page.must(held.acquire(timeout=SOON))
    page["held"] = 1
    pid = os.fork()
    if pid == 0:
        # Taken out of this frame, so that the child can destroy them.
        things = [store, held, idle]
        del store, held, idle, other
        child(page, fate, *(things.pop(0) for _ in range(3)))
        os._exit(0)
    page.must(page.until("done"))
    if fate == "is killed":
        os.kill(pid, signal.SIGKILL)
    if not fate.startswith("outlives"):
        page.must(os.waitpid(pid, 0)[1] == (signal.SIGKILL if fate == "is killed" else 0))
    if url.startswith("memory"):
        page.must(not other.acquire(False))
    else:
        page.must(page.until("contended"))
    held.ensure_held()
    page["ending"] = 1
    if fate == ORPHANED:
        page["ended"] = time.monotonic()
        os.kill(os.getpid(), signal.SIGKILL)
    held.release()
    page["ended"] = time.monotonic()
    if url.startswith("memory"):
        page.must(other.acquire(False) and other.release() is None)


def contend(page: Page, fate: str, url: str) -> float:
    """Seconds from the parent's end until the lock was free."""
    import synlock

    store = synlock.Store(url)
    lock = store.lock("x", **options(store, fate))
    end, tries = time.monotonic() + 2 * SOON, 0
    while time.monotonic() < end:
        if lock.acquire(False):
            early, ended = not page["ending"], page["ended"]
            waited = time.monotonic() - ended if ended else 0.0
            lock.release()
            if early:
                page["premature"] = 1
                break
            return waited
        tries += 1
        if tries > 15 and page["done"]:
            page["contended"] = 1
        time.sleep(0.001)
    return 99.0


def fork_round(fate: str, url: str) -> tuple[int, int, int, int, float]:
    with tempfile.NamedTemporaryFile(dir=MEMORY) as file:
        file.write(bytes(8 * len(Page.WORDS)))
        file.flush()
        page = Page(file.name)
        # A program of its own, which ends as programs do.
        process = subprocess.Popen([sys.executable, __file__, "--", "parent", fate, url, file.name])
        waited = 0.0
        if not url.startswith("memory") and page.until("held"):
            waited = contend(page, fate, url)
        status = process.wait()
        page["over"] = 1
    leased = url.startswith("redis") and fate == ORPHANED
    bar = LEASE + 0.05 if leased else 0.1
    late = waited > (bar if FULL else SOON)
    crashed = status != (-signal.SIGKILL if fate == ORPHANED else 0)
    if page["wrong"]:
        print(f"FAILED: line {page['wrong']:.0f}", flush=True)
    return int(page["premature"]), int(late), int(bool(page["wrong"])), int(crashed), waited


def forks(urls: list[str], rounds: int) -> list[bool]:
    results = []
    for url in urls:
        for fate in FATES:
            if url.startswith("memory") and fate == ORPHANED:
                continue  # nothing is left to be free
            # A lease is waited out once where that takes seconds.
            waits = url.startswith("redis") and fate == ORPHANED and not FULL
            found = [fork_round(fate, url) for _ in range(1 if waits else rounds)]
            premature, late, wrong, crashed = (sum(one[at] for one in found) for at in range(4))
            slowest = max(one[4] for one in found) * 1000
            told = f"{premature} premature, {late} late (slowest {slowest:.1f} ms), {wrong} wrong, {crashed} crashed"
            good = not (premature or late or wrong or crashed)
            results.append(say(good, f"{url.split(':')[0]}, child {fate}: {told} of {len(found)}"))
    return results


def lease(url: str) -> dict:
    # What a killed process held on a lease store is free when its lease is over.
    return {"ttl": 2.0, "renew": True} if url.startswith("redis") else {}


def count(work: tuple[str, str, int]) -> int:
    """One step of a pool's worker: adds one to a number in a file, in separate steps."""
    import synlock

    url, file, _ = work
    with synlock.Lock(url, "count", timeout=20, **lease(url)):
        with open(file, "r+") as number, open(f"{file}.log", "a") as log:
            now = int(number.read()) + 1
            log.write(f"{now}\n")
            log.flush()
            # Not truncated first: a worker that is killed leaves a whole number.
            number.seek(0)
            number.write(f"{now:010}")
    return os.getpid()


def keep_counting(url: str, file: str) -> None:
    while not os.path.exists(f"{file}.stop"):
        count((url, file, 0))


def judge(file: pathlib.Path, kills: int, least: int, words: str) -> list[bool]:
    numbers = [int(line) for line in pathlib.Path(f"{file}.log").read_text().split()]
    steps = [after - before for before, after in itertools.pairwise([0, *numbers])]
    jumps, repeats = sum(step not in (0, 1) for step in steps), sum(step == 0 for step in steps)
    return [
        say(len(numbers) >= least, f"{words}: {len(numbers)} counts, {kills} kills"),
        # One that is killed between its two writes leaves a number that comes twice.
        say(jumps == 0 and repeats <= kills, f"{words}: {jumps} jumps, {repeats} repeats"),
    ]


def pool(method: str, url: str, folder: pathlib.Path) -> list[bool]:
    """A pool of 32, then 32 processes of which one is killed now and then."""
    words = f"{url.split(':')[0]}, {method}"
    file = folder / f"number-{words}"
    file.write_text("0" * 10)
    pathlib.Path(f"{file}.log").touch()
    context = multiprocessing.get_context(method)
    rounds = 20_000 if FULL else 400
    with context.Pool(32) as workers:
        pids = workers.map(count, [(url, str(file), at) for at in range(rounds)], chunksize=4)
        results = judge(file, 0, rounds, f"{words}, pool of 32")
        results.append(say(len(set(pids)) > 1, f"{words}: {len(set(pids))} workers counted"))
        # Waiters of a pool end with it, though one holds for ever.
        import synlock

        held = synlock.Lock(url, "count")
        held.acquire()
        workers.map_async(count, [(url, str(file), at) for at in range(64)], chunksize=1)
        time.sleep(0.3)
        with Bystander() as machine:
            start = time.monotonic()
            workers.terminate()
            workers.join()
            took, extra = time.monotonic() - start, machine.extra()
        told = f"{words}: SIGTERM ended 32 waiters in {took:.2f} s (the machine's part {extra:.2f} s)"
        results.append(say(took <= (1.0 if FULL else SOON) + extra, told))
        held.release()
    return results + killed(context, url, file, words)


def killed(context, url: str, file: pathlib.Path, words: str) -> list[bool]:
    """Processes that count, one of which is killed whenever others have gone on after the last kill."""
    log = pathlib.Path(f"{file}.log")
    before = len(log.read_bytes().split())

    def start():
        process = context.Process(target=keep_counting, args=(url, str(file)))
        process.start()
        return process

    processes = [start() for _ in range(32 if FULL else 8)]
    kills, wanted, grown = 0, 300 if FULL else 6, log.stat().st_size
    end = time.monotonic() + (600 if FULL else 60)
    while kills < wanted and time.monotonic() < end:
        time.sleep(0.02)
        if log.stat().st_size < grown + 50:
            continue
        at = kills % len(processes)
        processes[at].kill()
        processes[at].join()
        kills, grown = kills + 1, log.stat().st_size
        processes[at] = start()
    pathlib.Path(f"{file}.stop").touch()
    deadline = time.monotonic() + 25
    for process in processes:
        process.join(max(0.1, deadline - time.monotonic()))
    wrong = sum(process.exitcode != 0 for process in processes)
    for process in processes:
        process.kill()
    return [
        say(kills == wanted, f"{words}: {kills} kills, and others went on after each"),
        say(wrong == 0, f"{words}: {wrong} of {len(processes)} stuck or ended badly"),
        *judge(file, kills, before + kills, f"{words}, processes"),
    ]


def pools(urls: list[str], folder: pathlib.Path) -> list[bool]:
    methods = ["fork", "spawn", "forkserver"]
    # Starting interpreters is slow: at the quick load each of those ways is tried on one store.
    quick = [("fork", "spawn"), ("fork", "forkserver"), ("fork",)]
    chosen = [(url, method) for at, url in enumerate(urls) for method in (methods if FULL else quick[at])]
    return [good for url, method in chosen for good in pool(method, url, folder)]


def trace(url: str, folder: pathlib.Path) -> list[bool]:
    """0 writes to inherited sockets, by strace."""
    calls = "trace=clone,clone3,fork,vfork,write,writev,sendto,sendmsg,shutdown"
    command = ["strace", "-f", "-yy", "-qq", "-o", str(folder / "trace"), "-e", calls]
    traced = subprocess.run([*command, sys.executable, __file__, "--", "once", url], check=False).returncode
    looked = subprocess.run([ROOT / "tests/chaos/inherited.py", folder / "trace", "14"], check=False).returncode
    return [
        say(traced == 0, "the traced forks are as they should be"),
        say(looked == 0, "no write to an inherited socket"),
    ]


@contextlib.contextmanager
def redis(folder: pathlib.Path):
    socket = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            if process.poll() is not None:
                raise RuntimeError("redis-server does not start")
            time.sleep(0.02)
        # A server that the machine lets wait has not failed.
        yield f"redis+unix://{socket}?io_timeout={SOON * 1000:.0f}"
    finally:
        process.kill()
        process.wait()


def build() -> pathlib.Path:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    settings = dict(os.environ, PYO3_PYTHON=str(ROOT / "target/venv/bin/python"), PYO3_BUILD_EXTENSION_MODULE="1")
    subprocess.run(["cargo", "build", "-q", "-p", "synlock-python"], cwd=ROOT, env=settings, check=True)
    return target / "debug/lib_synlock.so"


def main(words: list[str]) -> int:
    part = words[words.index("--") + 1 :] if "--" in words else []
    if part[:1] == ["parent"]:
        parent(Page(part[3]), *part[1:3])
        return 0
    if part[:1] == ["once"]:
        return 0 if all(forks([part[1]], 1)) else 1
    extension = build()
    if not part:
        return 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="synlock-row-", dir=MEMORY))
    try:
        package = folder / "python"
        shutil.copytree(ROOT / "bindings/python/python", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        shutil.copy(extension, package / "synlock/_synlock.abi3.so")
        # For those that spawn, and for this one.
        os.environ["PYTHONPATH"] = str(package)
        sys.path.insert(0, str(package))
        (folder / "locks").mkdir(mode=0o700)
        (folder / "shm").mkdir(mode=0o700)
        urls = [f"shm:{folder}/shm/segment", f"flock:{folder}/locks"]
        with redis(folder) as server:
            if part[0] == "forks":
                results = forks(["memory:forks", *urls, server], 100 if FULL else 2) + trace(server, folder)
            else:
                results = pools([*urls, server], folder)
    except Exception as error:
        traceback.print_exc()
        results = [say(False, repr(error))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{sum(results)} passed, {results.count(False)} failed")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
