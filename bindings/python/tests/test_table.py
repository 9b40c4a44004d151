"""Stores that keep their locks in a table."""

import asyncio
import json
import pathlib
import re
import sqlite3

import pytest

import synlock
import synlock.aio

VECTORS = pathlib.Path(__file__).parents[3] / "tests/vectors"


def tables(path):
    with sqlite3.connect(path) as database:
        return {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_table_is_made_beforehand(tmp_path):
    path = tmp_path / "locks.db"
    store = synlock.Store(f"sqlite:{path}?table=of_mine")
    store.create_table()
    store.create_table(timeout=5)
    assert "of_mine" in tables(path)
    with store.lock("x", timeout=5) as lock:
        assert lock.fencing_token >= 1


def test_its_statements_make_the_same(tmp_path):
    path = tmp_path / "locks.db"
    store = synlock.Store(f"sqlite:{path}?table=of_mine")
    with sqlite3.connect(path) as database:
        database.executescript(store.ddl())
    assert "of_mine" in tables(path)
    with store.lock("x", timeout=5):
        pass
    for engine in ("sqlite", "postgres", "mysql"):
        assert "CREATE TABLE" in store.ddl(engine)
    with pytest.raises(synlock.InvalidArgument):
        store.ddl("oracle")


def test_elsewhere_there_is_none():
    store = synlock.Store("memory:")
    with pytest.raises(synlock.Unsupported):
        store.create_table()
    with pytest.raises(synlock.Unsupported):
        store.ddl()


def test_aio(tmp_path):
    async def run():
        store = synlock.aio.Store(f"sqlite:{tmp_path / 'locks.db'}")
        await store.create_table(timeout=5)
        assert "CREATE TABLE" in store.ddl()

    asyncio.run(run())
    assert tables(tmp_path / "locks.db")


def test_names_and_ids_on_a_table_of_drupals_are_as_its_vectors_say(tmp_path):
    path = tmp_path / "site.db"
    store = synlock.Store(f"sqlite:{path}?dialect=drupal")
    store.create_table()
    session = synlock.Session(store)
    ids = json.loads((VECTORS / "drupal_lock_id.json").read_text())
    assert re.fullmatch(ids["strict_regex"].strip("^$"), session.id)
    rows = json.loads((VECTORS / "drupal_lock.json").read_text())["rows"]
    assert len(rows) >= 64
    database = sqlite3.connect(path)
    for row in rows:
        name = row["name"] if isinstance(row["name"], str) else bytes.fromhex(row["name"]["hex"])
        if not name:
            with pytest.raises(synlock.InvalidArgument):
                session.acquire(name)
            continue
        assert session.acquire(name), row
        kept = database.execute("SELECT name, value FROM semaphore").fetchall()
        assert kept == [(row["expect"]["semaphore_name"], session.id)], row
        assert session.release(name)
    database.close()
