"""Acquire + release by many tasks of one event loop, each with a lock of its own, over one connection."""

import json
import subprocess
import sys

COUNTS = (1, 16, 256)
FACES = ("Rust", "Node, await", "Python, asyncio")
PEERS = ("redlock", "redis-semaphore", "redis-py, asyncio")
#: What each face is compared with.
BESIDE = {"Node, await": PEERS[:2], "Python, asyncio": PEERS[2:]}
#: Pairs a second at the most tasks; and how many times the best peer's.
AIMS = {"Rust": 75_000, "Node, await": 50_000, "Python, asyncio": 30_000}
TIMES_BEST = 5
LIMIT = 60


def sample(words: list) -> int:
    done = subprocess.run(
        [str(word) for word in words],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=LIMIT,
    )
    return json.loads(done.stdout)["pairs_per_s"]


def measure(place: dict, workers: dict, plan: dict) -> dict:
    """Pairs a second by face and number of tasks, all of them in turn, as often as the plan says."""
    where = dict.fromkeys(FACES, place["url"]) | dict.fromkeys(PEERS, place["peers"])
    found: dict = {who: {str(count): [] for count in COUNTS} for who in where}
    for turn in range(plan["many_rounds"]):
        for count in COUNTS:
            for who in where:
                rate = sample([*workers[who], where[who], "many", "many", count, plan["many_seconds"]])
                found[who][str(count)].append(rate)
        print(f"many tasks: round {turn + 1} of {plan['many_rounds']}", file=sys.stderr)
    return found


def wrong(found: dict, plan: dict) -> bool:
    """Whether this is not what `measure` finds."""
    counts = [str(count) for count in COUNTS]
    return list(found) != [*FACES, *PEERS] or not all(
        list(rates) == counts and all(len(one) == plan["many_rounds"] and all(one) for one in rates.values())
        for rates in found.values()
    )

