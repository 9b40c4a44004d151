"""Eight processes take turns: who is handed the lock, how fast, and how justly."""

import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import build

PROCESSES = 8
HOLD_US = 1000
#: Until all interpreters have started and connected; more of it if one came late.
LEADS = (2, 4, 8)
#: What else a run may take: those that starve hold on until their turn comes.
PATIENCE = 30
#: Store, its raw limit, and the peers that do its work.
STORES = {
    "shm": ("ticket", ()),
    "flock": ("ticket", ("FlockStore", "filelock")),
    "redis": ("redis-fifo", ("RedisStore", "redis-py")),
    # The same server, behind a store of the host: one waiter there instead of eight.
    "tiered": ("redis-fifo", ()),
}
#: Requests that a client sends; what scripts call inside is not counted.
REQUESTS = {"redis-fifo": ("evalsha", "blpop"), "RedisStore": ("eval", "evalsha"), "redis-py": ("set", "evalsha")}
OURS = ("eval", "evalsha", "subscribe")


def at(values: list, share: float) -> float:
    return values[int((len(values) - 1) * share)] if values else 0.0


def read_logs(paths: list[pathlib.Path]) -> list[list[tuple]]:
    """(request, acquired, release) of each process."""
    return [[tuple(map(int, line.split())) for line in path.read_text().splitlines()] for path in paths]


def in_time(logs: list[list[tuple]], start: int) -> bool:
    """Whether all were there when it began."""
    return all(log and log[0][0] - start < 50_000_000 for log in logs)


def judge(logs: list[list[tuple]], seconds: float) -> dict:
    """Checks that nobody held the lock at the same time, and counts."""
    turns = sorted((acquired, release, who) for who, log in enumerate(logs) for _, acquired, release in log)
    changes = []
    for (_, release, who), (acquired, _, next_one) in zip(turns, turns[1:], strict=False):
        if acquired < release:
            raise SystemExit(f"two held the lock at once: acquired {release - acquired} ns before its release")
        if next_one != who:
            changes.append(acquired - release)
    changes.sort()
    # The first of each began at the gate, before all were there.
    waits = sorted(acquired - request for log in logs for request, acquired, _ in log[1:])
    counts = [len(log) for log in logs]
    return {
        "turns": sum(counts),
        "changes_per_s": round(len(changes) / seconds, 1),
        "hand_p50_us": round(at(changes, 0.5) / 1e3, 1),
        "hand_p99_us": round(at(changes, 0.99) / 1e3, 1),
        "wait_p99_ms": round(at(waits, 0.99) / 1e6, 2),
        "wait_max_ms": round(at(waits, 1) / 1e6, 2),
        "fewest_to_most": round(min(counts) / max(1, max(counts)), 3),
    }


def run(words: list, folder: str, seconds: float) -> dict:
    paths = [pathlib.Path(folder) / f"turns-{number}" for number in range(PROCESSES)]
    for lead in LEADS:
        start = time.monotonic_ns() + lead * 10**9
        end = start + int(seconds * 1e9)
        together([[*words, "hand", path, start, end, HOLD_US] for path in paths], lead + seconds + PATIENCE)
        logs = read_logs(paths)
        if in_time(logs, start):
            return judge(logs, seconds)
    raise SystemExit(f"{words}: the processes start too slowly")


def together(commands: list[list], limit: float) -> None:
    """Runs programs side by side; all must end well."""
    running = [subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL) for command in commands]
    try:
        codes = [process.wait(limit) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    if any(codes):
        raise SystemExit(f"{commands[0]}: ended with {codes}")


def measure(store: str, place: dict, workers: dict, folder: str, plan: dict, calls: Callable | None) -> dict:
    """Raw, faces, peers, raw: as often as the plan says."""
    raw, peers = STORES[store]
    jobs = {"raw": [build.BUILT / "raw", raw, place["raw"]]}
    jobs |= {face: [*workers[face], place["url"], "turns"] for face in build.WAITING}
    jobs |= {peer: [*workers[peer], place["peers"], "turns"] for peer in peers}
    found: dict = {job: [] for job in jobs}
    for _ in range(plan["turn_rounds"]):
        for job in [*jobs, "raw"]:
            names = REQUESTS.get(raw if job == "raw" else job, OURS)
            before = calls(names) if calls else 0
            result = run(jobs[job], folder, plan["turn_seconds"])
            if calls:
                result["requests"] = round((calls(names) - before) / max(1, result["turns"]), 2)
            found[job].append(result)
            print(f"turns on {store}, {job}: {result}", file=sys.stderr)
    return found
