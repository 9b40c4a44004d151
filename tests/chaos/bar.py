"""What `run` and `canary` share: the table of rows, and how a row is run."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import lanes  # noqa: E402

TABLE = pathlib.Path(os.environ.get("SYNLOCK_ROWS", ROOT / "tests" / "chaos" / "rows"))
TOTALS = [
    re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed", re.MULTILINE),
    re.compile(r"^(?:\w+: )?(\d+) passed, (\d+) failed", re.MULTILINE),
]

# What the runners of the rows say of a test that has failed.
FAILED = re.compile(r"(FAILED|FAIL)\b|test .* \.\.\. FAILED\b|.* --- FAILED$")


class Row:
    def __init__(self, line: str):
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 4:
            sys.exit(f"tests/chaos/rows: not four fields: {line}")
        number, _, self.lane = fields[0].partition("&")
        self.number, self.what, self.command = int(number), fields[1], fields[2]
        self.canaries = fields[3].split()

    def __str__(self) -> str:
        return f"row {self.number}: {self.what}"


def rows(numbers: list[str]) -> list[Row]:
    lines = TABLE.read_text().splitlines()
    table = [Row(line) for line in lines if line.strip() and not line.startswith("#")]
    if not numbers:
        return table
    chosen = [row for row in table if str(row.number) in numbers]
    missing = set(numbers) - {str(row.number) for row in chosen}
    if missing:
        known = ", ".join(sorted({str(row.number) for row in table}, key=int))
        sys.exit(f"no row {', '.join(sorted(missing))}; there are {known}")
    return chosen


def end(process: subprocess.Popen) -> None:
    """Ends a session, in whatever state it is; it may tidy up."""
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(
    row: Row, full: bool = False, hasty: bool = False, say=lanes.now, **environment: str
) -> tuple[bool, int, int, float]:
    """Runs a row; whether it passed, its totals, and how long it took. A hasty run ends with the first
    test that fails: the others of a build that is broken take as long as they like.
    What the row prints is said line by line."""
    settings = dict(os.environ, CARGO_TERM_COLOR="never", **environment)
    settings.pop("SYNLOCK_LOAD", None)
    if full:
        settings["SYNLOCK_LOAD"] = "full"
    start = time.monotonic()
    process = subprocess.Popen(
        ["bash", "-c", row.command],
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=hasty,
    )
    text = ""
    try:
        for line in process.stdout:
            text += line
            say(f"    {line.rstrip()}")
            if hasty and FAILED.match(line.rstrip()):
                break
        else:
            process.wait()
    finally:
        if hasty and process.poll() is None:
            end(process)
    status = process.wait()
    passed = failed = 0
    for pattern in TOTALS:
        for match in pattern.finditer(text):
            passed += int(match[1])
            failed += int(match[2])
    return status == 0 and failed == 0, passed, failed, time.monotonic() - start
