"""The charts of the report: bars, as small SVG files."""

import math
from xml.sax.saxutils import escape

import build
import report

WIDTH, LABEL, BAR, STEP, TOP = 760, 210, 14, 20, 54
COLOURS = {"raw": "#888888", "ours": "#1b7f5c", "peer": "#c7773b"}


def bars(heading: str, note: str, rows: list[tuple[str, float, str]], log: bool) -> str:
    """Labelled bars, each with its value; on a logarithmic scale if they differ by much."""
    most = max(value for _, value, _ in rows)
    least = min(value for _, value, _ in rows) / 2
    room = WIDTH - LABEL - 80

    def length(value: float) -> float:
        share = math.log(value / least) / math.log(most / least) if log else value / most
        return round(max(1.0, share * room), 1)

    height = TOP + STEP * len(rows) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-size="15" font-weight="bold">{escape(heading)}</text>',
        f'<text x="10" y="38" fill="#555555">{escape(note)}</text>',
    ]
    for place, (label, value, kind) in enumerate(rows):
        y = TOP + STEP * place
        long = length(value)
        text = f"{value:.0f}" if value >= 100 else report.shown(value)
        out += [
            f'<text x="{LABEL - 6}" y="{y + 11}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{long}" height="{BAR}" fill="{COLOURS[kind]}"/>',
            f'<text x="{LABEL + long + 5:.1f}" y="{y + 11}">{text}</text>',
        ]
    return "\n".join([*out, "</svg>", ""])


def pair_rows(store: str, faces: dict) -> list[tuple[str, float, str]]:
    raw = report.median_us(next(iter(faces.values())), "raw")
    name = store.partition(" ")[0]
    return [(f"raw {name}, C", raw, "raw")] + [
        (f"{name}: {face}", report.median_us(rounds, "p50"), "ours")
        if face in build.FACES else (report.title(face), report.median_us(rounds, "p50"), "peer")
        for face, rounds in faces.items()
    ]


def turn_rows(store: str, jobs: dict) -> list[tuple[str, float, str]]:
    def row(job: str, runs: list[dict]) -> tuple[str, float, str]:
        rate = report.middle(runs, "changes_per_s")
        if job == "raw":
            return f"raw {store}, C", rate, "raw"
        return (f"{store}: {job}", rate, "ours") if job in build.FACES else (report.title(job), rate, "peer")

    return [row(job, runs) for job, runs in jobs.items()]


def draw(results: dict) -> dict[str, str]:
    """The charts by file name."""
    pairs, turns = results["pairs"], results["turns"]
    return {
        "pairs-host.svg": bars(
            "Acquire and release of one uncontended lock of a host", "µs, median; logarithmic; shorter is better",
            pair_rows("shm", pairs["shm"]) + pair_rows("flock", pairs["flock"]), True),
        "pairs-redis.svg": bars(
            "Acquire and release of one uncontended lock on Redis",
            "µs, median; unix socket, one CPU; shorter is better",
            pair_rows("redis", pairs["redis (unix socket)"]), False),
        "turns.svg": bars(
            "Eight processes take turns of 1 ms", "hand-overs a second; longer is better",
            [row for store, jobs in turns.items() for row in turn_rows(store, jobs)], False),
    }
