'use strict';

const assert = require('node:assert');
const { fork } = require('node:child_process');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { Worker } = require('node:worker_threads');
const { Store } = require('..');
const { startRedis, script, name } = require('./support.js');

describe('the process', () => {
  let server;
  let store;
  before(async () => {
    server = await startRedis();
    store = await Store.open(server.url);
  });
  after(() => server.stop());

  const open = 'const { Store } = require(process.env.SYNLOCK); const [url, key] = process.argv.slice(1);';

  it('ends though a lock is held and renewed, and the lock is released', async () => {
    const key = name();
    const done = await script(`${open} Store.open(url).then((s) => s.acquire(key)).then((l) => { l.signal; console.log(l.state); })`, server.url, key);
    assert.deepEqual([done.code, done.out.trim()], [0, 'held'], done.err);
    assert.equal(await store.isLocked(key), false);
  });

  it('stays while an acquire is pending', async () => {
    const key = name();
    const lock = await store.acquire(key);
    const waiting = script(`${open} Store.open(url).then((s) => s.acquire(key)).then(() => console.log('got it'))`, server.url, key);
    await new Promise((resolve) => setTimeout(resolve, 700));
    await lock.release();
    const done = await waiting;
    assert.deepEqual([done.code, done.out.trim()], [0, 'got it'], done.err);
  });

  it('has no unhandled rejection from a lost lock', async () => {
    const key = name();
    const source = `${open}
      process.on('unhandledRejection', () => { console.log('unhandled'); process.exit(3); });
      Store.open(url).then(async (store) => {
        const lock = await store.acquire(key, { ttl: 100 });
        lock.signal.addEventListener('abort', () => console.log('lost'));
        await new Promise((resolve) => setTimeout(resolve, 500));
        console.log(lock.lost);
      });`;
    const done = await script(source, server.url, key);
    assert.deepEqual([done.code, done.out.split('\n').filter(Boolean)], [0, ['lost', 'true']], done.err);
  });

  it('releases on process.exit()', async () => {
    const key = name();
    const done = await script(`${open} new Store(url).acquireSync(key); process.exit(5)`, server.url, key);
    assert.equal(done.code, 5);
    assert.equal(await store.isLocked(key), false);
  });

  it('has workers of its own', async () => {
    const key = name();
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      const { Store } = require(workerData.synlock);
      const store = new Store(workerData.url);
      store.acquire(workerData.key, { timeout: 20_000 }).then(async (lock) => {
        parentPort.postMessage(lock.state);
        if (workerData.stay) setInterval(() => {}, 1000); else await lock.release();
      });`;
    const start = (stay) =>
      new Worker(source, { eval: true, workerData: { synlock: require.resolve('..'), url: server.url, key, stay } });
    const lock = await store.acquire(key);
    const worker = start(false);
    const message = new Promise((resolve) => worker.once('message', resolve));
    await new Promise((resolve) => setTimeout(resolve, 200));
    await lock.release();
    assert.equal(await message, 'held');
    await new Promise((resolve) => worker.once('exit', resolve));
    const stays = start(true);
    await new Promise((resolve) => stays.once('message', resolve));
    assert.equal(await store.isLocked(key), true);
    await stays.terminate();
    assert.equal(await store.waitFree(key, { timeout: 10_000 }), true);
  });

  it('excludes its forked processes', async () => {
    const key = name();
    const lock = await store.acquire(key);
    const child = fork(path.join(__dirname, 'child.js'), [server.url, key]);
    assert.equal(await new Promise((resolve) => child.once('message', resolve)), 'busy');
    await lock.release();
    assert.equal(await new Promise((resolve) => child.once('message', resolve)), 'held');
    await new Promise((resolve) => child.once('exit', resolve));
    assert.equal(await store.isLocked(key), false);
  });
});
