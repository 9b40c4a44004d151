"""Makes REPORT.md of the results, and tells whether a report is what it makes."""

import statistics

#: Raised when results of an earlier tool cannot be read any more.
FORMAT = 1
STORES = ("memory", "flock", "redis (unix socket)", "redis (TCP)")
RAW = {
    "memory": "`pthread_mutex_lock`, `pthread_mutex_unlock` on a private mutex",
    "flock": "`flock(LOCK_EX|LOCK_NB)`, `flock(LOCK_UN)` on a descriptor that stays open",
    "redis (unix socket)": "two `EVALSHA`: `SET NX PX` with a fencing counter, and an owner-checked `DEL`",
    "redis (TCP)": "the same two `EVALSHA`, over 127.0.0.1",
}
#: What is aimed at, as a share of the raw limit. The first release is to come within twice of it in Rust and C.
REMOTE = {"Rust": 1.10, "C": 1.10, "PHP": 1.15, "Python": 1.2, "Node, await": 1.5}
TARGETS = {"flock": {"Rust": 1.5, "C": 1.5}, "redis (unix socket)": REMOTE, "redis (TCP)": REMOTE}
FIRST_RELEASE = 2
#: A round in which others took more of the CPU is set aside, as long as a third of the rounds is left.
MOST_FOREIGN = 0.15


def quiet(rounds: list[dict]) -> list[dict]:
    """The rounds that others left alone, or the third of them that was disturbed the least."""
    least = -(-len(rounds) // 3)
    ordered = sorted(rounds, key=lambda one: one["foreign"])
    return [one for place, one in enumerate(ordered) if one["foreign"] <= MOST_FOREIGN or place < least]


def microseconds(values: list[float]) -> str:
    middle = statistics.median(values) / 1000
    return f"{middle:.3f}" if middle < 1 else f"{middle:.2f}" if middle < 10 else f"{middle:.1f}"


def aim(store: str, face: str, ratio: float) -> tuple[str, str]:
    """The target, and how far the ratio is from it."""
    target = TARGETS.get(store, {}).get(face)
    if target is None:
        return "", ""
    if ratio <= target:
        return f"≤ {target:.2f}", "reached"
    return f"≤ {target:.2f}", f"{ratio / target:.2f} × target"


def table(store: str, faces: dict) -> list[str]:
    lines = [
        f"## {store}",
        "",
        f"Raw: {RAW[store]}.",
        "",
        "| face | p50 µs | p99 µs | raw µs | ratio to raw | spread | quiet rounds | target | state |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for face, rounds in faces.items():
        kept = quiet(rounds)
        ratios = [one["p50"] / one["raw"] for one in kept]
        ratio = statistics.median(ratios)
        cells = (
            face,
            microseconds([one["p50"] for one in kept]),
            microseconds([one["p99"] for one in kept]),
            microseconds([one["raw"] for one in kept]),
            f"**{ratio:.2f}**",
            f"{min(ratios):.2f}–{max(ratios):.2f}",
            f"{sum(one['foreign'] <= MOST_FOREIGN for one in rounds)} of {len(rounds)}",
            *aim(store, face, ratio),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def write(results: dict) -> str:
    machine, versions, plan = results["machine"], results["versions"], results["plan"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        "# Acquire and release of one uncontended lock",
        "",
        "Written by `make bench`" + (" (`QUICK=1`)" if results["kind"] == "quick" else "")
        + f" on {results['date']}; do not edit. It took {results['took']} s without building.",
        "",
        f"- Machine: {machine['cpus']} CPUs ({machine['cpu']}), {machine['memory']}, Linux {machine['kernel']}, "
        f"lock files on {machine['files']}.",
        f"- Versions: {listed}; release profile.",
        f"- Load of the machine when it began and ended: {results['load'][0]:.2f}, {results['load'][1]:.2f}.",
        f"- Method: {plan['rounds']} rounds of {plan['seconds']} s a sample, each language in a process of its own, "
        "between two samples of the raw limit (`raw.c`): raw, face, raw, face, … . Client and server share one "
        "CPU. A round's ratio is the face's median over the mean of the two raw medians; the table shows the "
        "median of the rounds, and their least and greatest ratio. Rounds in which other programs took over "
        f"{MOST_FOREIGN:.0%} of the CPU are set aside (never more than two thirds of them).",
        "- **The ratios are the facts**: times differ from machine to machine and from hour to hour.",
        f"- Targets are shares of the raw limit. The first release is to come within {FIRST_RELEASE} × of them in "
        "Rust and C on flock and Redis.",
        "",
    ]
    for store, faces in results["stores"].items():
        lines += table(store, faces)
    return "\n".join(lines)


def problems(results: dict, faces: list[str], text: str) -> list[str]:
    """What of a committed report is not in step with this tool. No time is judged."""
    if results.get("format") != FORMAT:
        return [f"results.json has format {results.get('format')}, the tool writes {FORMAT}: run `make bench`"]
    wrong = []
    if tuple(results["stores"]) != STORES:
        wrong.append(f"results.json has the stores {list(results['stores'])}, the tool measures {list(STORES)}")
    for store, found in results["stores"].items():
        if list(found) != faces:
            wrong.append(f"results.json has the faces {list(found)} of {store}, the tool measures {faces}")
        for face, rounds in found.items():
            if len(rounds) != results["plan"]["rounds"] or not all(one["p50"] > 0 < one["raw"] for one in rounds):
                wrong.append(f"results.json lacks rounds of {face} on {store}")
    if not wrong and write(results) != text:
        wrong.append("REPORT.md is not what the tool makes of results.json: run `make bench`, do not edit")
    return wrong
