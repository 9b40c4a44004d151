"""The lock service of etcd itself, which runs the mutex of its own library: etcd_peer.py HOST:PORT NAME."""

import base64
import http.client
import json
import sys

from turns import serve

host, name = sys.argv[1:]
key = ""


def text(words: str) -> str:
    return base64.b64encode(words.encode()).decode()


server = http.client.HTTPConnection(host, timeout=60)


def ask(path: str, **fields: str) -> dict:
    server.request("POST", f"/v3/{path}", json.dumps(fields))
    answer = server.getresponse()
    body = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(body)
    return body


# Longer than a killed holder of ours is waited for.
lease = ask("lease/grant", TTL="15")["ID"]


def take() -> bool:
    global key
    ask("lease/keepalive", ID=lease)
    key = ask("lock/lock", name=text(name), lease=lease)["key"]
    return True


def try_take() -> bool:
    found = ask("kv/range", key=text(f"{name}/"), range_end=text(f"{name}0"))
    return "kvs" not in found and take()


def release() -> bool:
    found = ask("kv/range", key=key)
    ask("lock/unlock", key=key)
    return "kvs" in found


serve(take, try_take, release)
