"""The requests of tests/interop/README.md, for peers in Python."""

import pathlib
import sys
from collections.abc import Callable


def turns(count: int, path: pathlib.Path, take: Callable[[], bool], release: Callable[[], bool]) -> str:
    for _ in range(count):
        if not take():
            return "busy"
        number = int(path.read_text() or "0")
        path.write_text(str(number + 1))
        if not release():
            return "lost"
    return "done"


def serve(take: Callable[[], bool], try_take: Callable[[], bool], release: Callable[[], bool]) -> None:
    """Each says whether it did; `take` waits."""
    for line in sys.stdin:
        verb, *rest = line.rstrip("\n").split(" ", 2)
        if verb == "take":
            answer = "taken" if take() else "busy"
        elif verb == "try":
            answer = "taken" if try_take() else "busy"
        elif verb == "release":
            answer = "released" if release() else "lost"
        elif verb == "turns":
            answer = turns(int(rest[0]), pathlib.Path(rest[1]), take, release)
        else:
            raise ValueError(line)
        print(answer, flush=True)
