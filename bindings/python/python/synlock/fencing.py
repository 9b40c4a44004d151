"""Resources that refuse the writes of a holder that is one no more.

A holder that was stopped for longer than its lease cannot know it at the instant of its write. The resource
can, if it keeps the highest `Lock.fencing_token` that it has seen, and refuses lower ones in the same
transaction as the write:

>>> import sqlite3, synlock
>>> database = sqlite3.connect(":memory:", isolation_level=None)
>>> for sql in synlock.fencing.ddl("sqlite"):
...     _ = database.execute(sql)
>>> synlock.fencing.check(database.cursor(), "invoice", 8)
>>> synlock.fencing.check(database.cursor(), "invoice", 7)
Traceback (most recent call last):
    ...
synlock._errors.LockLost: a newer holder of 'invoice' has written: the fencing token 7 is stale
"""

from __future__ import annotations

from typing import Any

from . import _synlock
from ._errors import make

TABLE = "synlock_fence"
#: Stands in the error of every refusal.
STALE = "stale fencing token"


def ddl(engine: str, table: str = TABLE) -> list[str]:
    """Statements that make the table of tokens, and the trigger by which the database refuses to lower one.

    `engine` is sqlite, postgres or mysql. Run again, they change nothing (MySQL before 8.0.29
    says then that it has the trigger).
    """
    return _synlock.fencing_ddl(engine, table)


def trigger(engine: str, table: str, column: str = "token") -> list[str]:
    """The trigger for a table of your own: no update of a row lowers the token in `column`."""
    return _synlock.fencing_trigger(engine, table, column)


def statement(engine: str, table: str = TABLE, paramstyle: str | None = None) -> str:
    """The statement to run first in each transaction that writes, with the lock's name and its token.

    `paramstyle` is that of the driver's module (qmark, format, pyformat, numeric); by default the engine's.
    """
    text = _synlock.fencing_statement(engine, table)
    marks = {"qmark": ("?", "?"), "format": ("%s", "%s"), "pyformat": ("%s", "%s"), "numeric": (":1", ":2")}
    if paramstyle is None:
        return text
    if paramstyle not in marks:
        raise make(101, f"paramstyle is one of {', '.join(marks)}")
    own = "($1, $2)" if "$1" in text else "(?, ?)"
    return text.replace(own, "({}, {})".format(*marks[paramstyle]))


def check(
    cursor: Any, name: str, token: int, engine: str = "sqlite", table: str = TABLE, paramstyle: str = "qmark"
) -> None:
    """Notes the token on a DB-API cursor, in the transaction that is to write; raises `LockLost` if it is stale.

    Roll the transaction back then.
    """
    try:
        cursor.execute(statement(engine, table, paramstyle), (name, token))
    except Exception as error:
        if is_stale(error):
            words = f"a newer holder of {name!r} has written: the fencing token {token} is stale"
            raise make(3, words, None, name, "check") from error
        raise


def redis_script() -> str:
    """A script for EVAL that runs a command unless the token is stale.

    KEYS: the key that keeps the highest token, then every key of the command. ARGV: the token, then the command
    and its arguments. The refusal is an error that begins with STALE.
    """
    return _synlock.fencing_redis()


def is_stale(error: BaseException) -> bool:
    """Whether a driver's error is a refusal."""
    return STALE in str(error)


__all__ = ["STALE", "TABLE", "check", "ddl", "is_stale", "redis_script", "statement", "trigger"]
