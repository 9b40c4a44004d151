'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { it } = require('node:test');
const { Store, InvalidArgument, Unsupported } = require('..');

it('a table is made beforehand, or its statements are told', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-table-'));
  try {
    const file = path.join(folder, 'locks.db');
    const store = await Store.open(`sqlite:${file}?table=of_mine`);
    await store.createTable();
    await store.createTable({ timeout: 5_000 });
    // The schema is text in the file or in its log.
    const text = fs.readdirSync(folder).map((name) => fs.readFileSync(path.join(folder, name), 'latin1'));
    assert.match(text.join(''), /CREATE TABLE "?of_mine/);
    (await store.acquire('x', { timeout: 5_000 })).releaseSync();
    for (const engine of ['sqlite', 'postgres', 'mysql']) assert.match(await store.ddl(engine), /CREATE TABLE/);
    assert.equal(await store.ddl(), await store.ddl('sqlite'));
    await assert.rejects(store.ddl('oracle'), InvalidArgument);
    const memory = await Store.open('memory:');
    await assert.rejects(memory.createTable(), Unsupported);
    await assert.rejects(memory.ddl(), Unsupported);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

it('names and ids on a table of Drupal\'s are as its vectors say', async () => {
  const vectors = (file) => JSON.parse(fs.readFileSync(path.join(__dirname, '../../../tests/vectors', file), 'utf8'));
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-table-'));
  try {
    const store = await Store.open(`sqlite:${folder}/site.db?dialect=drupal`);
    await store.createTable();
    const session = store.session();
    assert.match(session.id, new RegExp(vectors('drupal_lock_id.json').strict_regex));
    const { rows } = vectors('drupal_lock.json');
    assert.ok(rows.length >= 64);
    for (const row of rows) {
      const key = typeof row.name === 'string' ? row.name : Buffer.from(row.name.hex, 'hex');
      if (key === '') {
        await assert.rejects(session.acquire(key), InvalidArgument);
        continue;
      }
      assert.equal(await session.acquire(key), true, JSON.stringify(row));
      const { locks } = await store.list();
      assert.deepEqual(locks.map(({ name }) => name.toString()), [row.expect.semaphore_name]);
      assert.equal(await session.release(key), true);
    }
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});
