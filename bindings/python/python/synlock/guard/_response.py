"""When a response is over: what every middleware asks before it hands a piece of it on.

A client may ask again as soon as it has the last byte, so the lock goes before that byte does.
"""

from __future__ import annotations

from ._guards import Refused

#: These have no body, whatever their headers say.
_WITHOUT_BODY = (204, 304)


class Response:
    """How much of one response is still to come."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._left: int | None = None

    def start(self, status: int, length: str | bytes | None) -> None:
        """`length` is the header `Content-Length`, if there is one."""
        self._left = None
        if self._method == "HEAD" or status in _WITHOUT_BODY or 100 <= status < 200:
            self._left = 0
        elif length is not None and length.strip().isdigit():
            self._left = int(length)

    def ends_with(self, size: int = 0) -> bool:
        """Whether so many bytes more are the last ones. A body of unknown length ends otherwise."""
        if self._left is None:
            return False
        self._left -= size
        return self._left <= 0


def answer(refused: Refused) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of a refusal."""
    body = refused.message.encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *refused.headers.items(),
    ]
    return refused.http_status, headers, body
