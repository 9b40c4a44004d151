"""Measures acquire + release of one uncontended lock, on each store, in each language.

Every language is run beside the raw system call or round trip, alternated in one run: the ratios are
the facts. Writes results.json (every round as measured) and REPORT.md (made from it).
"""

import datetime
import json
import os
import pathlib
import signal
import sys
import tempfile
import time

import build
import machine
import report
import servers

BENCH = pathlib.Path(__file__).resolve().parent
RESULTS = BENCH / "results.json"
REPORT = BENCH / "REPORT.md"
LOCK_NAME = "bench"


def pairs(store: str, raw: list, url: str, faces: dict, server: int | None, cpu: int, plan: dict) -> dict:
    """Rounds of raw, face, raw, face, … raw: each face is judged by the raw samples around it."""
    rounds: dict = {face: [] for face in faces}
    seconds = str(plan["seconds"])
    for turn in range(plan["rounds"]):
        before = machine.sample(cpu, [*raw, seconds], server)
        # Started at another place each time, so that no face always follows the same one.
        order = list(faces)
        order = order[turn % len(order):] + order[: turn % len(order)]
        for face in order:
            ours = machine.sample(cpu, [*faces[face], url, LOCK_NAME, seconds], server)
            after = machine.sample(cpu, [*raw, seconds], server)
            rounds[face].append({
                "p50": ours["p50_ns"],
                "p99": ours["p99_ns"],
                "raw": (before["p50_ns"] + after["p50_ns"]) / 2,
                "foreign": max(before["foreign"], ours["foreign"], after["foreign"]),
            })
            before = after
        print(f"{store}: round {turn + 1} of {plan['rounds']}", file=sys.stderr)
    return rounds


def measure(quick: bool) -> dict:
    plan = {"rounds": 7, "seconds": 0.2} if quick else {"rounds": 21, "seconds": 0.5}
    faces = build.faces()
    raw = build.BUILT / "raw"
    begin, load = time.monotonic(), os.getloadavg()[0]
    cpu = machine.quiet_cpu()
    stores = {}
    with tempfile.TemporaryDirectory(prefix="synlock-bench-") as folder:
        os.mkdir(f"{folder}/locks", 0o700)
        with servers.redis(folder, cpu) as (server, port, path):
            for store, limit, url, pid in (
                ("memory", [raw, "mutex", "-"], "memory:", None),
                ("flock", [raw, "flock", f"{folder}/raw.lock"], f"flock:{folder}/locks", None),
                ("redis (unix socket)", [raw, "redis-unix", path], f"redis:{path}", server),
                ("redis (TCP)", [raw, "redis-tcp", port], f"redis://127.0.0.1:{port}", server),
            ):
                stores[store] = pairs(store, limit, url, faces, pid, cpu, plan)
        where = machine.file_system(folder)
    return {
        "format": report.FORMAT,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kind": "quick" if quick else "full",
        "plan": plan,
        "took": round(time.monotonic() - begin),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "machine": machine.describe() | {"files": where},
        "versions": machine.versions(),
        "stores": stores,
    }


def check() -> int:
    """Whether the committed report is what this tool makes of the committed results."""
    wrong = report.problems(json.loads(RESULTS.read_text()), list(build.FACES), REPORT.read_text())
    for words in wrong:
        print(f"tests/bench: {words}", file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return check()
    if sys.argv[1:]:
        print("usage: tests/bench/run [--check]", file=sys.stderr)
        return 2
    results = measure(os.environ.get("QUICK") == "1")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    text = report.write(results)
    REPORT.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    # So that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
