"""Lanes: what stands in one runs in order, and lanes run beside each other."""

import concurrent.futures
import functools

now = functools.partial(print, flush=True)


def run(things: list, one) -> None:
    """`one(thing, say)` for all that have a `lane`; what it says of a thing stays together."""

    def follow(lane: str) -> None:
        for thing in things:
            if thing.lane == lane:
                lines = []
                one(thing, lines.append)
                now("\n".join(lines))

    lanes = sorted({thing.lane for thing in things if thing.lane})
    with concurrent.futures.ThreadPoolExecutor(max(1, len(lanes))) as pool:
        list(pool.map(follow, lanes))
