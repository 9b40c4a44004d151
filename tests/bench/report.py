"""Makes REPORT.md of the results, and tells whether results are what this tool measures."""

import statistics

import build
import many
import pairs
import turns

#: Raised when results of an earlier tool cannot be read any more.
FORMAT = 2
RAW = {
    "memory": "`pthread_mutex_lock`, `pthread_mutex_unlock` on a private mutex",
    "shm": "the same on a robust mutex shared between processes",
    "flock": "`flock(LOCK_EX|LOCK_NB)`, `flock(LOCK_UN)` on a descriptor that stays open",
    "redis (unix socket)": "two `EVALSHA`: `SET NX PX` with a fencing counter, and an owner-checked `DEL`",
    "redis (TCP)": "the same two `EVALSHA`, over 127.0.0.1",
    "redis (unix socket, release=async)": "the same two `EVALSHA`, each of which waits for its reply; event loops "
    "(Node, await) wait for both of ours, too",
    "redis (unix socket, two CPUs)": "the same two `EVALSHA`, each of which blocks for its reply",
}
TURNS_RAW = {
    "shm": "a ticket lock on a futex, first come, first served, in C",
    "flock": "the same ticket lock",
    "redis": "in C, a FIFO list and `BLPOP` on the waiter's own list, no fencing",
    "tiered": "the same as for Redis, which each process asks by itself",
}
#: What is aimed at: a share of the raw limit, or µs.
REMOTE = {"Rust": 1.10, "C": 1.10, "PHP": 1.15, "Python": 1.2, "Node, await": 1.5}
SHARES = {
    "flock": {"Rust": 1.5, "C": 1.5, "PHP": 1.8, "Python": 1.8},
    "redis (unix socket)": REMOTE,
    "redis (TCP)": REMOTE,
    "redis (unix socket, release=async)": dict.fromkeys(("Rust", "C", "PHP", "Python", "Node, sync"), 0.6),
    "redis (unix socket, two CPUs)": REMOTE,
}
MICROSECONDS = {
    "memory": {"Rust": 0.06},
    "shm": {"Rust": 0.10, "C": 0.12, "PHP": 0.5, "Python": 0.35, "Node, sync": 0.5},
}
LEAST_RATE = 0.95
#: A round in which others took more of the CPU is set aside, as long as a third of the rounds is left.
MOST_FOREIGN = 0.15
LANGUAGES = dict.fromkeys(build.PHP_PEERS, "PHP") | dict.fromkeys(build.PYTHON_PEERS, "Python")
LANGUAGES |= dict.fromkeys(build.NODE_PEERS, "Node") | {"redis-py, asyncio": "Python"}


def quiet(rounds: list[dict]) -> list[dict]:
    """The rounds that others left alone, or the third of them that was disturbed the least."""
    least = -(-len(rounds) // 3)
    ordered = sorted(rounds, key=lambda one: one["foreign"])
    return [one for place, one in enumerate(ordered) if one["foreign"] <= MOST_FOREIGN or place < least]


def median_us(rounds: list[dict], key: str) -> float:
    return statistics.median(one[key] for one in quiet(rounds)) / 1000


def shown(us: float) -> str:
    return f"{us:.3f}" if us < 1 else f"{us:.2f}" if us < 10 else f"{us:.1f}"


def title(face: str) -> str:
    return f"{face} ({LANGUAGES[face]})" if face in LANGUAGES else face


def ratio(rounds: list[dict]) -> float:
    return statistics.median(one["p50"] / one["raw"] for one in quiet(rounds))


def aim(store: str, face: str, rounds: list[dict]) -> tuple[str, str]:
    """The target, and how far it is."""
    if share := SHARES.get(store, {}).get(face):
        words, times = f"≤ {share:.2f} × raw", ratio(rounds) / share
    elif most := MICROSECONDS.get(store, {}).get(face):
        words, times = f"≤ {most:.2f} µs", median_us(rounds, "p50") / most
    else:
        return "", ""
    return words, "reached" if times <= 1 else f"{times:.2f} × target"


def pair_table(store: str, faces: dict) -> list[str]:
    lines = [
        f"### {store}",
        "",
        f"Raw: {RAW[store]}.",
        "",
        "| | p50 µs | p99 µs | raw µs | ratio to raw | spread | quiet rounds | target | state |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for face, rounds in faces.items():
        ratios = [one["p50"] / one["raw"] for one in quiet(rounds)]
        cells = (
            title(face) if face in LANGUAGES else f"**synlock**, {face}",
            shown(median_us(rounds, "p50")),
            shown(median_us(rounds, "p99")),
            shown(median_us(rounds, "raw")),
            f"**{ratio(rounds):.2f}**",
            f"{min(ratios):.2f}–{max(ratios):.2f}",
            f"{sum(one['foreign'] <= MOST_FOREIGN for one in rounds)} of {len(rounds)}",
            *aim(store, face, rounds),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def middle(runs: list[dict], key: str) -> float:
    return statistics.median(one[key] for one in runs)


def turn_table(store: str, jobs: dict) -> list[str]:
    lines = [
        f"### {store}",
        "",
        f"Raw: {TURNS_RAW[store]}.",
        "",
        "| | hand-overs/s | of raw | hand-over p50 µs | p99 µs | wait p99 ms | max ms | fewest/most | requests each "
        "| target |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    limit = middle(jobs["raw"], "changes_per_s")
    for job, runs in jobs.items():
        share = middle(runs, "changes_per_s") / limit
        is_ours = job in build.FACES
        reached = "reached" if share >= LEAST_RATE else "missed"
        cells = (
            f"**synlock**, {job}" if is_ours else title(job),
            f"{middle(runs, 'changes_per_s'):.0f}",
            f"**{share:.2f}**",
            f"{middle(runs, 'hand_p50_us'):.0f}",
            f"{middle(runs, 'hand_p99_us'):.0f}",
            f"{middle(runs, 'wait_p99_ms'):.1f}",
            f"{max(one['wait_max_ms'] for one in runs):.1f}",
            f"{middle(runs, 'fewest_to_most'):.2f}",
            f"{middle(runs, 'requests'):.1f}" if "requests" in runs[0] else "–",
            f"≥ {LEAST_RATE:.2f} of raw: {reached}" if is_ours else "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def many_table(found: dict) -> list[str]:
    head = "".join(f" {count} |" for count in many.COUNTS)
    last = str(many.COUNTS[-1])
    rates = {who: {count: statistics.median(one) for count, one in by.items()} for who, by in found.items()}
    lines = [
        "## Many tasks of one event loop on Redis",
        "",
        "Pairs a second, each task with a lock of its own that nobody else wants, by the number of tasks; unix "
        "socket, the server may use both CPUs.",
        "",
        f"| |{head} at {last}, times the best peer | target |",
        "|---|" + "--:|" * (len(many.COUNTS) + 1) + "---|",
    ]
    for who, by in rates.items():
        beside = [rates[peer][last] for peer in many.BESIDE.get(who, ())]
        times = by[last] / max(beside) if beside else None
        is_ours = who in many.FACES
        aim = ""
        if is_ours:
            is_reached = by[last] >= many.AIMS[who] and (times is None or times >= many.TIMES_BEST)
            words = f", ≥ {many.TIMES_BEST} × the best peer" if beside else ""
            aim = f"≥ {many.AIMS[who]}{words}: {'reached' if is_reached else 'missed'}"
        cells = (
            f"**synlock**, {who}" if is_ours else title(who),
            *(f"{rate:.0f}" for rate in by.values()),
            f"**{times:.1f}**" if times else "",
            aim,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def main_ratios(results: dict) -> list[str]:
    """In words; the README has them too."""
    host, shm, remote = (results["pairs"][store] for store in ("flock", "shm", "redis (unix socket)"))

    def faster(faces: dict, face: str, peers: dict, *names: str) -> str:
        ours = median_us(faces[face], "p50")
        times = [(title(peer), median_us(peers[peer], "p50") / ours) for peer in names]
        listed = ", ".join(f"{one:.{1 if one < 10 else 0}f} × {peer}" for peer, one in times)
        return f"{face.partition(',')[0]} {listed}"

    def rate(store: str, *jobs: str) -> str:
        rates = ((title(job), middle(results["turns"][store][job], "changes_per_s")) for job in jobs)
        return f"`{store}:` " + ", ".join(f"{job} {one:.0f}" for job, one in rates)

    # What whoever composed the results by hand must say of them.
    note = [f"*{results['note']}*", ""] if "note" in results else []
    return [
        *note,
        "An uncontended pair, times as fast as:",
        "",
        f"- `shm:` from {faster(shm, 'PHP', host, 'SemaphoreStore', 'FlockStore')}; "
        f"{faster(shm, 'Python', host, 'fasteners', 'portalocker', 'filelock')}; "
        f"{faster(shm, 'Node, sync', host, 'proper-lockfile')}.",
        f"- `flock:` from {faster(host, 'PHP', host, 'SemaphoreStore', 'FlockStore')}; "
        f"{faster(host, 'Python', host, 'fasteners', 'portalocker', 'filelock')}; "
        f"{faster(host, 'Node, sync', host, 'proper-lockfile')}.",
        f"- `redis:` from {faster(remote, 'PHP', remote, 'RedisStore')}; "
        f"{faster(remote, 'Python', remote, 'redis-py', 'python-redis-lock')}; "
        f"{faster(remote, 'Node, await', remote, 'redlock', 'redis-semaphore')}. Rust takes "
        f"{ratio(remote['Rust']):.2f} × the time of the two raw scripts sent by C, C {ratio(remote['C']):.2f} ×.",
        "",
        f"{turns.PROCESSES} processes in turn, 1 ms each, hand-overs a second:",
        "",
        f"- {rate('shm', 'raw', 'Rust', 'C', 'PHP', 'Python', 'Node, await')}.",
        f"- {rate('flock', 'raw', 'Rust', 'PHP', 'FlockStore', 'Python', 'filelock', 'Node, await')}.",
        f"- {rate('redis', 'raw', 'Rust', 'PHP', 'RedisStore', 'Python', 'redis-py', 'Node, await')}.",
        f"- {rate('tiered', 'raw', 'Rust', 'PHP', 'Python', 'Node, await')} (`shm:` in front of that Redis).",
        "",
    ]


def write(results: dict) -> str:
    machine, versions, plan = results["machine"], results["versions"], results["plan"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    facts = ", ".join(f"{name} {shown(ns / 1000)} µs" for name, ns in results["facts"].items())
    lines = [
        "# How fast synlock is, beside the raw limits and its peers",
        "",
        "Written by `make bench`" + (" (`QUICK=1`)" if results["kind"] == "quick" else "")
        + f" on {results['date']}; do not edit. It took {results['took']} s without building.",
        "",
        "## At a glance",
        "",
        *main_ratios(results),
        "![Pairs on one host](pairs-host.svg)",
        "",
        "![Pairs on Redis](pairs-redis.svg)",
        "",
        "![Eight processes in turn](turns.svg)",
        "",
        "## How it was measured",
        "",
        f"- Machine: {machine['cpus']} CPUs ({machine['cpu']}), {machine['memory']}, Linux {machine['kernel']}, "
        f"lock files on {machine['files']}; {facts}.",
        f"- Versions: {listed}; release profile. Peers: {results['peers']}; "
        "with the waiting and polling that they have by default.",
        f"- Load of the machine when it began and ended: {results['load'][0]:.2f}, {results['load'][1]:.2f}.",
        f"- Pairs: {plan['rounds']} rounds of {plan['seconds']} s a sample, each language in a process of its own, "
        "between two samples of the raw limit (`raw.c`): raw, face, raw, face, … . Client and server share one "
        "CPU, but for the table of two. A round's ratio is the face's median over the mean of the two raw medians; the "
        "table shows the "
        "median of the rounds, and their least and greatest ratio. Rounds in which other programs took over "
        f"{MOST_FOREIGN:.0%} of the CPU are set aside (never more than two thirds of them).",
        f"- Turns: {turns.PROCESSES} processes want the lock all the time and hold it for {turns.HOLD_US} µs, "
        f"{plan['turn_rounds']} × {plan['turn_seconds']} s each. Every process logs when it asked, acquired and "
        "released, by one clock; that nobody held the lock together with another is checked. A hand-over is a change "
        "of owner, from before the release to after the acquire.",
        "- **The ratios are the facts**: times differ from machine to machine and from hour to hour.",
        "",
        "## Acquire and release of one uncontended lock",
        "",
    ]
    for store, faces in results["pairs"].items():
        lines += pair_table(store, faces)
    lines += ["## Eight processes in turn", ""]
    for store, jobs in results["turns"].items():
        lines += turn_table(store, jobs)
    # Results of before this was measured have none.
    if "many" in results:
        lines += many_table(results["many"])
    return "\n".join(lines)


def problems(results: dict) -> list[str]:
    """What of committed results is not what this tool measures. No time is judged."""
    if results.get("format") != FORMAT:
        return [f"results.json has format {results.get('format')}, the tool writes {FORMAT}: run `make bench`"]
    wrong = []
    plan = results["plan"]
    wanted = {store: [*build.FACES, *peers] for store, (peers, _) in pairs.STORES.items()}
    if {store: list(faces) for store, faces in results["pairs"].items()} != wanted:
        wrong.append(f"results.json lacks pairs; the tool measures {wanted}")
    for store, faces in results["pairs"].items():
        for face, rounds in faces.items():
            if len(rounds) != plan["rounds"] or not all(one["p50"] > 0 < one["raw"] for one in rounds):
                wrong.append(f"results.json lacks rounds of {face} on {store}")
    if "many" in results and many.wrong(results["many"], plan):
        wrong.append(f"results.json lacks many tasks; the tool measures {[*many.FACES, *many.PEERS]}")
    wanted = {store: ["raw", *build.WAITING, *peers] for store, (_, peers) in turns.STORES.items()}
    if {store: list(jobs) for store, jobs in results["turns"].items()} != wanted:
        wrong.append(f"results.json lacks turns; the tool measures {wanted}")
    for store, jobs in results["turns"].items():
        for job, runs in jobs.items():
            count = plan["turn_rounds"] * (2 if job == "raw" else 1)
            if len(runs) != count or not all(one["turns"] > 0 for one in runs):
                wrong.append(f"results.json lacks runs of {job} on {store}")
    return wrong
