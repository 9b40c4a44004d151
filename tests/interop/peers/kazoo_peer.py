"""Python's kazoo on a lock of ZooKeeper: kazoo_peer.py HOSTS PATH lock|write|curator."""

import sys
import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.recipe.lock import Lock, WriteLock
from turns import serve


class AsCurator(Lock):
    """Names its nodes as Curator does, and waits for those so named."""

    _NODE_NAME = "-lock-"
    _EXCLUDE_NAMES = [_NODE_NAME]

    def __init__(self, client: KazooClient, path: str):
        super().__init__(client, path)
        self.prefix = f"_c_{uuid.uuid4()}{self._NODE_NAME}"
        self.create_path = f"{self.path}/{self.prefix}"

    def _inner_acquire(self, *arguments, **options):
        while True:
            try:
                return super()._inner_acquire(*arguments, **options)
            except NoNodeError:
                # The server has cleared the empty container away; Curator makes it anew.
                self.assured_path = False


hosts, path, recipe = sys.argv[1:]
client = KazooClient(hosts=hosts, timeout=5.0)
client.start()
lock = {"lock": Lock, "write": WriteLock, "curator": AsCurator}[recipe](client, path)


def take() -> bool:
    return lock.acquire()


def try_take() -> bool:
    return lock.acquire(blocking=False)


def release() -> bool:
    return lock.release()


serve(take, try_take, release)
