'use strict';

const assert = require('node:assert');
const { fork } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const v8 = require('node:v8');
const vm = require('node:vm');
const { Worker } = require('node:worker_threads');
const { Store, SemaphoreManager } = require('..');
const { PATIENCE, startRedis, shmUrl, script, sleep, until, name } = require('./support.js');

v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc');

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

  it('leaves something in shared memory when it is killed, until the next one comes', async () => {
    const file = path.join(os.tmpdir(), name());
    const url = `shm:${file}?slots=16`;
    const shared = await Store.open(url);
    try {
      assert.deepEqual(await shared.check(), []);
      const source = `${open} Store.openSync(url).acquireSync(key); process.kill(process.pid, 'SIGKILL')`;
      await script(source, url, 'x');
      const found = (await shared.check()).map((text) => text.split(':')[0]);
      assert.deepEqual(found.sort(), ['holder', 'slot']);
      await shared.using('x', async () => assert.deepEqual(await shared.check(), []));
    } finally {
      fs.rmSync(file, { force: true });
    }
  });

  it('may load the package twice, and each is told of its own', async () => {
    const done = await script(`
      const place = require.resolve(process.env.SYNLOCK);
      const load = () => delete require.cache[place] && require(place);
      (async () => {
        const stores = [load(), load(), load()].map(({ Store }, number) => new Store('memory:' + number));
        const granted = [];
        for (const take of [(store) => store.acquire('x'), (store) => store.acquireAll(['x', 'y'])]) {
          const holders = await Promise.all(stores.map(take));
          const waiting = stores.map((store, number) => take(store).then((held) => granted.push(number) && held));
          // The second first: an instance is told of a number that all of them have.
          for (const number of [1, 0, 2]) {
            await holders[number].release();
            await (await waiting[number]).release();
          }
        }
        console.log(granted.join());
      })();`);
    assert.deepEqual([done.code, done.out], [0, '1,0,2,1,0,2\n'], done.err);
  });

  it('ends though stores are open, used and listened to', async () => {
    const source = `${open} Store.open(url).then(async (store) => {
      store.on('event', () => {});
      await store.ping();
      await store.using(key, async () => {});
      await store.tryAcquire(key, { ttl: 60_000, renew: true });
      console.log('end');
    })`;
    for (const url of [server.url, `memory:${name()}`]) {
      const done = await script(source, url, name());
      assert.deepEqual([done.code, done.out.trim()], [0, 'end'], done.err);
    }
  });

  it('is warned of a loss that nobody else hears of', async () => {
    const source = `${open} Store.open(url).then(async (store) => {
      let warned = false;
      process.on('warning', (warning) => (warned = true, console.log(warning.name, warning.code)));
      const silent = await store.acquire(key + 1, { ttl: 3_000, renew: true });
      const watched = await store.acquire(key + 2, { ttl: 3_000, renew: true });
      const { signal } = watched;
      await store.breakLock(key + 1);
      await store.breakLock(key + 2);
      while (!silent.lost || !watched.lost || !warned || !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 10));
      const asked = await store.acquire(key + 3);
      await store.breakLock(key + 3);
      await asked.release().catch((error) => console.log(error.code));
      await new Promise((resolve) => setTimeout(resolve, 50));
      console.log(signal.aborted);
    })`;
    const done = await script(source, server.url, name());
    const words = done.out.split('\n').filter(Boolean);
    assert.deepEqual([done.code, words], [0, ['SynlockWarning SYNLOCK_LOST', 'SYNLOCK_LOST', 'true']], done.err);
    assert.match(done.err, /SynlockWarning: synlock: lost "node-.*1" on redis:/);
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

  describe('has no unhandled rejection from a lost lock', () => {
    // Each is the body of a script that has `store`, `lock`, whose lease is short and nobody renews, and
    // `lost()`, which resolves when it is over; and what it prints.
    const cases = {
      'whose signal aborts': ["lock.signal.addEventListener('abort', () => console.log('aborted')); await lost();", 'aborted'],
      'that nobody touches': ['await lost();', ''],
      'whose using() ends after the loss': [
        "const error = await shortly((ttl) => store.using(key + '2', { ttl }, async (inner) => { await lost(inner); })).catch((error) => error); console.log(error.code);",
        'SYNLOCK_LOST',
      ],
      'whose using() throws after the loss': [
        "const error = await shortly((ttl) => store.using(key + '2', { ttl }, async (inner) => { await lost(inner); throw new Error('mine'); })).catch((error) => error); console.log(error.message);",
        'mine',
      ],
      'that is disposed of': ["await lost(); try { lock[Symbol.dispose](); } catch (error) { console.log(error.code); }", 'SYNLOCK_LOST'],
      'that is disposed of asynchronously': [
        'await lost(); await lock[Symbol.asyncDispose]().catch((error) => console.log(error.code));',
        'SYNLOCK_LOST',
      ],
      'whose refresh() hears of it': [
        "lock.signal.addEventListener('abort', () => console.log('aborted')); await store.breakLock(key); await lock.refresh(60_000).catch((error) => console.log(error.code)); await lost();",
        'SYNLOCK_LOST aborted',
      ],
    };
    for (const [how, [body, prints]] of Object.entries(cases)) {
      it(how, async () => {
        const source = `${open}
          process.on('unhandledRejection', (error) => { console.log('unhandled', error); process.exit(3); });
          const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
          (async () => {
            const store = await Store.open(url);
            // A server may take longer than a short lease lasts.
            const shortly = async (take, ttl = ${how.startsWith('whose refresh') ? 60_000 : 100}) => {
              for (;;) {
                try { return await take(ttl); } catch (error) {
                  if (error.code !== 'SYNLOCK_UNAVAILABLE' || (ttl *= 4) > 60_000) throw error;
                }
              }
            };
            const lock = await shortly((ttl) => store.acquire(key, { ttl }));
            const lost = async (of = lock) => { while (!of.lost) await sleep(10); console.log('lost'); };
            ${body}
            // What rejects is told of in a later turn of the loop.
            await sleep(100);
            console.log('end');
          })();`;
        const done = await script(source, server.url, name());
        const words = done.out.split(/\s+/).filter(Boolean).sort();
        assert.deepEqual([done.code, words], [0, [...prints.split(' '), 'lost', 'end'].filter(Boolean).sort()], done.out + done.err);
      });
    }
  });

  it('tells at its end of what was held, and releases it', async () => {
    const source = `${open} const { subscribe } = require('node:diagnostics_channel');
      subscribe('synlock', (event) => console.log('channel', event.kind, event.level, event.name.toString()));
      const store = new Store(url);
      store.on('event', (event) => console.log('listener', event.kind, event.pid === process.pid));
      store.acquireSync(key, { label: 'nightly' });
      if (key.endsWith('-exit')) process.exit(5);`;
    for (const [url, end] of [[server.url, '-exit'], [server.url, ''], [`memory:${name()}`, '']]) {
      const key = name() + end;
      const done = await script(source, url, key);
      const words = done.out.split('\n').filter(Boolean);
      const told = (kind, level) => [`listener ${kind} true`, `channel ${kind} ${level} ${key}`];
      assert.deepEqual(words, [...told('acquired', 'info'), ...told('forgotten', 'notice'), ...told('released', 'info')], done.err);
      assert.equal(done.code, end ? 5 : 0);
      if (url === server.url) assert.equal(await store.isLocked(key), false);
    }
  });

  it('is warned at its end of a loss that nobody has heard of', async () => {
    const source = `${open} const store = new Store(url);
      store.acquireSync(key);
      store.breakLock(key).then(() => process.exit(0));`;
    const done = await script(source, server.url, name());
    assert.equal(done.code, 0);
    assert.match(done.err, /SynlockWarning: synlock: lost .*/);
  });

  it('tells the others though a listener throws', async () => {
    const source = `${open}
      process.on('uncaughtException', (error) => console.log('uncaught', error.message));
      const store = new Store(url);
      store.once('event', () => { throw new Error('mine'); });
      store.on('event', (event) => console.log(event.kind));
      store.acquire(key).then((lock) => lock.release());`;
    const done = await script(source, server.url, name());
    assert.deepEqual([done.code, done.out.split('\n').filter(Boolean)], [0, ['uncaught mine', 'released']], done.err);
  });

  it('releases on process.exit() what is in use at that moment', async () => {
    const key = name();
    for (const call of ['ensureHeld', 'refresh', 'release']) {
      const body = `${open} const lock = new Store(url).acquireSync(key); lock.${call}().catch(() => {}); process.exit(5)`;
      for (let i = 0; i < 5; i++) {
        assert.equal((await script(body, server.url, key)).code, 5);
        assert.equal(await store.isLocked(key), false, call);
      }
    }
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
      store.acquire(workerData.key, { timeout: 60_000 }).then(async (lock) => {
        parentPort.postMessage(lock.state);
        if (workerData.stay) setInterval(() => {}, 1000); else await lock.release();
      });`;
    const start = (stay) =>
      new Worker(source, { eval: true, workerData: { synlock: require.resolve('..'), url: server.url, key, stay } });
    const lock = await store.acquire(key);
    const worker = start(false);
    // Both listened for first: it may have come and gone before our release is confirmed.
    const message = new Promise((resolve) => worker.once('message', resolve));
    const exit = new Promise((resolve) => worker.once('exit', resolve));
    await new Promise((resolve) => setTimeout(resolve, 200));
    await lock.release();
    assert.equal(await message, 'held');
    await exit;
    const stays = start(true);
    await new Promise((resolve) => stays.once('message', resolve));
    assert.equal(await store.isLocked(key), true);
    await stays.terminate();
    assert.equal(await store.waitFree(key, { timeout: PATIENCE }), true);
  });

  it('goes on while a silent server is to take back what was collected', async () => {
    const takes = {
      lock: (key) => store.acquire(key),
      set: (key) => store.acquireAll([key, name()]),
      session: async (key) => {
        const session = store.session();
        await session.acquire(key, { ttl: 600_000 });
        return session;
      },
      manager: async (key) => {
        const manager = new SemaphoreManager(store, { prefix: '' });
        await manager.acquire(key, { ttl: 600_000 });
        return manager;
      },
    };
    for (const [kind, take] of Object.entries(takes)) {
      const key = name();
      // In a function of its own, whose variables are gone with it.
      await (() => take(key).then(() => {}))();
      assert.equal(await store.isLocked(key), true);
      server.pause(true);
      let longest = 0;
      for (let round = 0; round < 40; round++) {
        const start = performance.now();
        await sleep(10).then(collect);
        longest = Math.max(longest, performance.now() - start);
      }
      server.pause(false);
      // A server is waited for for 20 s.
      assert.ok(longest < 10_000, `${kind}: ${longest}`);
      await until(async () => {
        collect();
        return !(await store.isLocked(key));
      }, `${kind} is free`);
    }
  });

  it('a worker that is ended while it promotes leaves nothing', async () => {
    const place = shmUrl();
    const source = `
      const { parentPort, workerData: { synlock, url, key } } = require('node:worker_threads');
      const { Store } = require(synlock);
      Store.open(url).then(async (store) => {
        // What would be left lasts longer than anybody waits.
        const lock = await store.acquire(key, { shared: true, ttl: 600_000 });
        lock.promote({ timeout: Infinity });
        parentPort.postMessage('promotes');
      });`;
    try {
      for (const url of [place.url, server.url]) {
        const here = await Store.open(url);
        const key = name();
        const reader = await here.acquire(key, { shared: true });
        const worker = new Worker(source, { eval: true, workerData: { synlock: require.resolve('..'), url, key } });
        await new Promise((resolve) => worker.once('message', resolve));
        await worker.terminate();
        assert.equal(reader.state, 'held');
        await reader.release();
        await (await here.acquire(key, { timeout: PATIENCE })).release();
      }
    } finally {
      place.stop();
    }
  });

  it('excludes its forked processes', async () => {
    const key = name();
    const lock = await store.acquire(key);
    const child = fork(path.join(__dirname, 'child.js'), [server.url, key]);
    const exit = new Promise((resolve) => child.once('exit', resolve));
    assert.equal(await new Promise((resolve) => child.once('message', resolve)), 'busy');
    // Listened for first: the child may have the lock, and say so, before our release is confirmed.
    const message = new Promise((resolve) => child.once('message', resolve));
    await lock.release();
    assert.equal(await message, 'held');
    await exit;
    assert.equal(await store.isLocked(key), false);
  });
});
