"""Acquire + release of one lock that nobody else wants."""

import sys

import build
import machine

HOST_PEERS = ("FlockStore", "SemaphoreStore", "apcu", "filelock", "portalocker", "fasteners", "proper-lockfile")
REDIS_PEERS = ("RedisStore", "redis-py", "python-redis-lock", "redlock", "redis-semaphore")
#: Store, the peers that do its work, and the kind of its raw limit.
STORES = {
    "memory": ((), "mutex"),
    "shm": ((), "robust-mutex"),
    "flock": (HOST_PEERS, "flock"),
    "redis (unix socket)": (REDIS_PEERS, "redis"),
    "redis (TCP)": ((), "redis"),
    "redis (unix socket, release=async)": ((), "redis"),
    "redis (unix socket, two CPUs)": (("RedisStore", "redis-py"), "redis"),
}
#: Those whose client and server may run beside each other; elsewhere they share a CPU.
APART = {"redis (unix socket, two CPUs)"}
#: What else the machine takes, for whoever reads the figures of shm.
FACTS = {"clock_gettime": "clock", "a futex wake-up of nobody": "futex-wake"}
LOCK_NAME = "bench"


def measure(store: str, place: dict, workers: dict, server: int | None, cpus: machine.Cpus, plan: dict) -> dict:
    """Rounds of raw, face, raw, face, … raw: each is judged by the raw samples around it."""
    peers, kind = STORES[store]
    raw = [build.BUILT / "raw", kind, place["raw"], "pair", plan["seconds"]]
    where = {face: place["url"] for face in build.FACES} | dict.fromkeys(peers, place.get("peers"))
    rounds: dict = {face: [] for face in where}
    for turn in range(plan["rounds"]):
        before = machine.sample(cpus, raw, server)
        # Started at another place each time, so that no face always follows the same one.
        order = list(where)
        order = order[turn % len(order):] + order[: turn % len(order)]
        for face in order:
            ours = machine.sample(cpus, [*workers[face], where[face], LOCK_NAME, "pair", plan["seconds"]], server)
            after = machine.sample(cpus, raw, server)
            rounds[face].append({
                "p50": ours["p50_ns"],
                "p99": ours["p99_ns"],
                "raw": (before["p50_ns"] + after["p50_ns"]) / 2,
                "foreign": max(before["foreign"], ours["foreign"], after["foreign"]),
            })
            before = after
        print(f"{store}: round {turn + 1} of {plan['rounds']}", file=sys.stderr)
    return rounds


def facts(cpus: machine.Cpus, seconds: float) -> dict[str, float]:
    words = {name: [build.BUILT / "raw", kind, "-", "pair", seconds] for name, kind in FACTS.items()}
    return {name: machine.sample(cpus, command, None)["p50_ns"] for name, command in words.items()}
