"""Measures one uncontended lock, and eight processes that take turns, on each store, in each language; and the
many tasks of an event loop on Redis.

Every language is run beside the raw limit and the libraries that do the same, alternated in one run: the
ratios are the facts. Writes results.json (every round as measured), and what is made from it: REPORT.md,
the charts, and the ratios in the README.
"""

import datetime
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import urllib.parse

import build
import charts
import machine
import many
import pairs
import report
import servers
import turns

BENCH = pathlib.Path(__file__).resolve().parent
RESULTS = BENCH / "results.json"
REPORT = BENCH / "REPORT.md"
README = build.ROOT / "README.md"
#: What the README quotes stands between these lines.
QUOTE = ("<!-- bench -->\n", "<!-- end of bench -->\n")
QUICK = {
    "rounds": 5, "seconds": 0.2, "turn_rounds": 1, "turn_seconds": 1.5, "many_rounds": 2, "many_seconds": 0.5,
}
FULL = {
    "rounds": 21, "seconds": 0.5, "turn_rounds": 3, "turn_seconds": 5, "many_rounds": 5, "many_seconds": 1.5,
}


def places(folder: str, port: int, path: str) -> dict[str, dict]:
    """Where each store's locks lie, its raw limit, and its peers."""
    shm = f"shm:{folder}/shm"
    flock = f"flock:{folder}/locks"
    return {
        "memory": {"raw": "-", "url": "memory:"},
        "shm": {"raw": f"{folder}/raw.shm", "url": shm},
        "flock": {"raw": f"{folder}/raw.lock", "url": flock, "peers": folder},
        "redis (unix socket)": {"raw": path, "url": f"redis:{path}", "peers": path},
        "redis (TCP)": {"raw": str(port), "url": f"redis://127.0.0.1:{port}"},
        "redis (unix socket, release=async)": {"raw": path, "url": f"redis:{path}?release=async"},
        "redis (unix socket, two CPUs)": {"raw": path, "url": f"redis:{path}", "peers": path},
    }


def tiers(where: dict[str, dict], folder: str) -> dict:
    """The host's own store in front of Redis."""
    server = where["redis (unix socket)"]
    parts = {"local": where["shm"]["url"], "remote": server["url"], "state": f"{folder}/tiers"}
    return server | {"url": f"tiered:?{urllib.parse.urlencode(parts)}"}


def measure(plan: dict, kind: str) -> dict:
    workers = build.workers()
    begin, load = time.monotonic(), os.getloadavg()[0]
    cpu = machine.quiet_cpu()
    one, all_of_them = frozenset({cpu}), frozenset(os.sched_getaffinity(0))

    def pair(store: str, place: dict, cpus: machine.Cpus) -> dict:
        return pairs.measure(store, place, workers, server.pid if "redis" in store else None, cpus, plan)

    # Shared memory lies where a host has it; the lock files as well, so that no disk decides.
    with tempfile.TemporaryDirectory(prefix="synlock-bench-", dir="/dev/shm") as folder:
        os.mkdir(f"{folder}/locks", 0o700)
        with servers.redis(folder, cpu) as server:
            where = places(folder, server.port, server.path)
            facts = pairs.facts(one, plan["seconds"])
            stores = {store: pair(store, place, one) for store, place in where.items() if store not in pairs.APART}
            # The server may use both, as everybody's does.
            server.use(all_of_them)
            stores |= {store: pair(store, where[store], all_of_them) for store in pairs.APART}
            ticket = {"raw": f"{folder}/ticket"}
            tasks = many.measure(where["redis (unix socket)"], workers, plan)
            hands = {
                "shm": turns.measure("shm", where["shm"] | ticket, workers, folder, plan, None),
                "flock": turns.measure("flock", where["flock"] | ticket, workers, folder, plan, None),
                "redis": turns.measure("redis", where["redis (unix socket)"], workers, folder, plan, server.calls),
                "tiered": turns.measure("tiered", tiers(where, folder), workers, folder, plan, server.calls),
            }
        files = machine.file_system(folder)
    return {
        "format": report.FORMAT,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kind": kind,
        "plan": plan,
        "took": round(time.monotonic() - begin),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "machine": machine.describe() | {"files": files},
        "versions": machine.versions(),
        "peers": machine.peers(build.BUILT / "peers" / "installed.txt"),
        "facts": facts,
        "many": tasks,
        "pairs": stores,
        "turns": hands,
    }


def text_of(results: dict) -> str:
    """JSON with a line for each face."""
    parts = {}
    for part in ("pairs", "turns"):
        stores = [
            f"  {json.dumps(store)}: {{\n"
            + ",\n".join(f"   {json.dumps(face)}: {json.dumps(rounds)}" for face, rounds in faces.items())
            + "\n  }"
            for store, faces in results[part].items()
        ]
        parts[part] = "{\n" + ",\n".join(stores) + "\n }"
    plain = [f" {json.dumps(key)}: {parts.get(key) or json.dumps(value)}" for key, value in results.items()]
    return "{\n" + ",\n".join(plain) + "\n}\n"


def files_of(results: dict) -> dict[pathlib.Path, str]:
    """All that is made from the results."""
    before, rest = README.read_text().split(QUOTE[0])
    after = rest.split(QUOTE[1])[1]
    quoted = "\n".join(report.main_ratios(results)).strip() + "\n"
    readme = "".join([before, QUOTE[0], quoted, QUOTE[1], after])
    drawn = {BENCH / name: chart for name, chart in charts.draw(results).items()}
    return {README: readme, REPORT: report.write(results)} | drawn


def check() -> int:
    """Whether the committed report is what this tool makes of the committed results."""
    results = json.loads(RESULTS.read_text())
    wrong = report.problems(results)
    if not wrong:
        wrong = [
            f"{path.name} is not what the tool makes of results.json: run `make bench`, do not edit"
            for path, text in files_of(results).items()
            if not path.exists() or path.read_text() != text
        ]
    for words in wrong:
        print(f"tests/bench: {words}", file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return check()
    if sys.argv[1:]:
        print("usage: tests/bench/run [--check]", file=sys.stderr)
        return 2
    quick = os.environ.get("QUICK") == "1"
    results = measure(QUICK if quick else FULL, "quick" if quick else "full")
    RESULTS.write_text(text_of(results))
    for path, text in files_of(results).items():
        path.write_text(text)
    print(REPORT.read_text())
    return 0


if __name__ == "__main__":
    # So that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
