"""The command of Python; README.md says what it understands."""

import gc
import sys

import synlock
from synlock import _synlock

OF_STORE = "locked break inspect who where list ping wait_free fingerprint capabilities".split()
stores: dict = {}
holds: dict = {}
sessions: dict = {}


def seconds(text: str) -> float | None:
    return None if int(text) < 0 else int(text) / 1000


def late(ms: str) -> int:
    return 1 if int(ms) == 0 else 2


def take(name: str, store: str, lock: str, ms: str, *options: str):
    more: dict = {}
    for option in options:
        key, value = option.split("=")
        if key == "permits":
            more["permits"] = tuple(map(int, value.split("/")))
        elif key == "label":
            more["label"] = bytes.fromhex(value).decode()
        elif key == "reentry":
            more["reentry"] = value
        else:
            more[key] = int(value) / 1000 if key == "ttl" else value == "1"
    made = stores[store].lock(bytes.fromhex(lock), **more)
    got = made.acquire(False) if int(ms) == 0 else made.acquire(timeout=-1 if int(ms) < 0 else int(ms) / 1000)
    if not got:
        return late(ms)
    holds[name] = made
    return None


def answer(verb: str, *words: str):
    """What follows the status, or a status alone."""
    if verb == "open":
        stores[words[0]] = synlock.Store(words[1])
    elif verb == "take":
        return take(*words)
    elif verb in ("wait", "plain"):
        made = stores[words[1]].lock(bytes.fromhex(words[2]))
        # `with` says nothing of time; `acquire()` is threading's, and waits for ever.
        if verb == "wait":
            made.__enter__()
        else:
            made.acquire()
        holds[words[0]] = made
    elif verb == "drop":
        del holds[words[0]]
        gc.collect()
    elif verb == "adopt":
        holds[words[0]] = stores[words[1]].adopt(words[2])
    elif verb == "session":
        sessions[words[0]] = synlock.Session(stores[words[1]], *words[2:])
    elif verb.startswith("s_"):
        return ask_session(sessions[words[0]], verb, *words[1:])
    elif verb == "codes":
        return " ".join(f"{number}={name}" for number, name in sorted(row[:2] for row in _synlock.codes()))
    elif verb in OF_STORE:
        return ask_store(stores[words[0]], verb, *words[1:])
    else:
        return ask_hold(holds[words[0]], verb, *words[1:])
    return None


def ask_session(session: synlock.Session, verb: str, *words: str):
    if verb == "s_id":
        return session.id
    if verb == "s_release_all":
        return str(session.release_all(*words))
    name, more = bytes.fromhex(words[0]), [int(ms) / 1000 for ms in words[1:]]
    verbs = {"s_acquire": session.acquire, "s_renew": session.renew, "s_free": session.may_be_available}
    verbs |= {"s_wait": session.wait, "s_release": session.release}
    return str(int(verbs[verb](name, *more)))


def ask_store(store: synlock.Store, verb: str, *words: str):
    if verb == "ping":
        return store.ping()
    if verb == "fingerprint":
        return store.fingerprint
    if verb == "capabilities":
        can = store.capabilities
        keys = "shared promote permits ttl frees_on_death wakes fair export list break_lock".split()
        return " ".join(str(int(can[key])) for key in keys) + f" {can['fence']}"
    name = bytes.fromhex(words[0])
    if verb == "wait_free":
        return None if store.wait_free(name, seconds(words[1])) else 2
    if verb == "list":
        return listed(store, name, int(words[1]))
    if verb == "who":
        first = store.inspect(name)["holders"][0]
        return f"{first['mode']} {first['permits']} {first['pid']} {(first['label'] or '').encode().hex() or '-'}"
    if verb == "where":
        first = store.inspect(name)["holders"][0]
        held = -1 if first["held"] is None else int(first["held"] * 1000)
        return f"{(first['host'] or '').encode().hex() or '-'} {held}"
    if verb == "inspect":
        found = store.inspect(name)
        waiters = found["waiters"]
        return f"{len(found['holders'])} {-1 if waiters is None else waiters}"
    return str(int(store.is_locked(name) if verb == "locked" else store.break_lock(name)))


def listed(store: synlock.Store, prefix: bytes, limit: int) -> str:
    pages, names, cursor = 0, [], None
    while pages == 0 or cursor is not None:
        rows, cursor = store.list(prefix, cursor, limit)
        names += [row["name"].hex() for row in rows]
        pages += 1
    return " ".join([str(pages), *sorted(names)])


def ask_hold(lock: synlock.Lock, verb: str, *words: str):
    if verb == "promote":
        return None if lock.promote(seconds(words[0])) else late(words[0])
    if verb == "refresh":
        return lock.refresh(int(words[0]) / 1000 or None)
    if verb == "remaining":
        return "-1" if lock.remaining is None else str(int(lock.remaining * 1000))
    if verb == "held":
        return str(int(lock.is_acquired()))
    if verb == "fence":
        return str(lock.fencing_token or 0)
    if verb == "state":
        return lock.state
    if verb == "again":
        return None if lock.acquire(False) else 1
    if verb == "how":
        return str(int(lock.last_acquired.contended))
    return {"release": lock.release, "demote": lock.demote, "check": lock.ensure_held, "export": lock.export}[verb]()


for line in sys.stdin:
    try:
        said = answer(*line.split())
        print(said if isinstance(said, int) else f"0 {said or ''}".strip(), flush=True)
    except synlock.SynlockError as error:
        print(error.status, flush=True)
