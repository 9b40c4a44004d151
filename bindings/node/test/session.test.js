'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const { after, before, describe, it } = require('node:test');
const v8 = require('node:v8');
const vm = require('node:vm');
const synlock = require('..');
const { Store } = synlock;
const { PATIENCE, sleep, until, briefly, name, setups } = require('./support.js');

v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc');
const code = (wanted) => (error) => error instanceof synlock.SynlockError && error.code === `SYNLOCK_${wanted}`;

/** The lease ends long after all waits: what ends these is a wake-up. */
const LONG = 10 * PATIENCE;

for (const [kind, setup] of Object.entries(setups)) {
  describe(`sessions of ${kind}`, () => {
    let server;
    let store;
    before(async () => {
      server = await setup();
      store = await Store.open(server.url);
    });
    after(() => server.stop());

    it('acquire, renew, wait and release', async () => {
      const [mine, other, key] = [store.session(), store.session(), name()];
      assert.match(mine.id, /^[0-9]{1,10}[0-9a-f]{13}[0-9]\.[0-9]{8}$/);
      assert.equal(mine.id, mine.id);
      assert.notEqual(mine.id, other.id);
      assert.ok((await mine.acquire(key)) && (await mine.acquire(key, { ttl: LONG })) && (await mine.renew(key)));
      assert.ok(!(await other.acquire(key)) && !(await other.renew(key)) && !(await other.release(key)));
      assert.equal(await other.mayBeAvailable(key), false);
      assert.equal(await briefly((delay) => other.wait(key, { delay })), true);
      const waiting = other.wait(key, { delay: PATIENCE });
      await sleep(30);
      assert.equal(await mine.release(key), true);
      assert.equal(await waiting, false);
      await assert.rejects(other.acquire(key, { ttl: -1 }), code('INVALID_ARGUMENT'));
      await assert.rejects(other.acquire(''), code('INVALID_ARGUMENT'));
      await assert.rejects(other.wait(key, { delay: -1 }), code('INVALID_ARGUMENT'));
    });

    it('end a wait by a signal', async () => {
      const [mine, other, key] = [store.session(), store.session(), name()];
      assert.ok(await mine.acquire(key, { ttl: LONG }));
      const end = new AbortController();
      const waits = [other.wait(key, { signal: end.signal }), store.waitFree(key, { signal: end.signal })];
      const stays = store.waitFree(key);
      const ended = Promise.allSettled(waits);
      end.abort(new Error('enough'));
      for (const { reason } of await ended) assert.deepEqual([reason.code, reason.cause.message], ['SYNLOCK_CANCELLED', 'enough']);
      await assert.rejects(other.wait(key, { signal: end.signal }), code('CANCELLED'));
      assert.ok(await mine.release(key));
      assert.equal(await stays, true);
      assert.equal(await other.wait(key, { delay: 0 }), false);
      await assert.rejects(store.waitFree(''), code('INVALID_ARGUMENT'));
    });

    it('are many, that wait for many', async () => {
      const [mine, other] = [store.session(), store.session()];
      const keys = Array.from({ length: 50 }, name);
      for (const key of keys) assert.ok(await mine.acquire(key, { ttl: LONG }));
      const waits = Promise.all([...keys, ...keys].map((key) => other.wait(key, { delay: PATIENCE })));
      assert.equal(await mine.releaseAll(), keys.length);
      assert.ok((await waits).every((held) => held === false));
    });

    it('block the thread too', async () => {
      const [mine, other, key] = [store.session(), store.session(), name()];
      assert.ok(mine.acquireSync(key) && mine.acquireSync(key) && mine.renewSync(key, { ttl: 60_000 }));
      assert.deepEqual([other.acquireSync(key), other.mayBeAvailableSync(key)], [false, false]);
      assert.equal(await briefly((delay) => other.waitSync(key, { delay })), true);
      assert.deepEqual([mine.releaseSync(key), mine.releaseSync(key), other.waitSync(key)], [true, false, false]);
      assert.ok(mine.acquireSync(key) && mine.acquireSync(`${key}b`));
      assert.equal(mine.releaseAllSync(), 2);
    });

    it('end with their object', async () => {
      const [other, key] = [store.session(), name()];
      let mine = store.session();
      assert.ok((await mine.acquire(key)) && (await mine.acquire(`${key}b`)));
      await mine[Symbol.asyncDispose]();
      assert.equal(await other.acquire(key), true);
      assert.equal(await other.releaseAll(), 1);
      assert.equal(await mine.acquire(key), true);
      mine[Symbol.dispose]();
      assert.equal(await mine.acquire(key, { ttl: LONG }), true);
      mine = null;
      await until(() => {
        collect();
        return other.mayBeAvailable(key);
      }, 'it ends');
      assert.equal(await other.acquire(key), true);
      await other.releaseAll();
    });

    it('end with the process', () => {
      if (kind === 'memory') return;
      const key = name();
      const text = `const s = require(${JSON.stringify(require.resolve('..'))}).Store.openSync(process.argv[1]).session();
        if (!s.acquireSync(process.argv[2], { ttl: ${LONG} })) process.exit(3); process.exit(0);`;
      assert.equal(spawnSync(process.execPath, ['-e', text, server.url, key], { timeout: 2 * PATIENCE }).status, 0);
      const mine = store.session();
      assert.equal(mine.acquireSync(key), true);
      mine.releaseAllSync();
    });

    it('take thirty seconds where no time is given', async () => {
      const [mine, other, key] = [store.session(), store.session(), name()];
      if (store.capabilities.ttl) {
        const left = async () => (await store.inspect(key)).holders[0].remaining;
        const isDefault = (ms) => ms > 5000 && ms <= 30_000;
        assert.ok((await mine.acquire(key)) && isDefault(await left()));
        assert.ok((await mine.release(key)) && (await mine.acquire(key, { ttl: 2500 })) && (await mine.renew(key)) && isDefault(await left()));
        assert.ok(mine.releaseSync(key) && mine.acquireSync(key) && isDefault(await left()));
      }
      if (kind !== 'memory') return;
      // A wait never ends early.
      assert.ok(await mine.acquire(key, { ttl: LONG }));
      const start = performance.now();
      assert.equal(await other.wait(key), true);
      assert.ok(performance.now() - start > 29_000);
    });

    it('may be persistent', async () => {
      const [key, id] = [name(), name()];
      if (kind !== 'redis') {
        assert.throws(() => store.session({ id }), code('UNSUPPORTED'));
        return;
      }
      const kept = store.session({ id });
      assert.equal(kept.id, id);
      assert.equal(await kept.acquire(key), true);
      await kept[Symbol.asyncDispose]();
      const again = store.session({ id });
      assert.equal(await again.acquire(key), false);
      assert.equal(await again.renew(key), true);
      assert.equal(await store.session().releaseAll(id), 1);
      assert.equal(await again.mayBeAvailable(key), true);
      const [holder, refused] = [store.session({ id }), store.session({ id })];
      assert.equal(await holder.acquire(key, { ttl: LONG }), true);
      assert.deepEqual([await refused.acquire(key), await refused.releaseAll()], [false, 0], 'who took nothing releases nothing');
      assert.deepEqual([await holder.renew(key), await holder.releaseAll()], [true, 1]);
      assert.throws(() => store.session({ id: '' }), code('INVALID_ARGUMENT'));
    });
  });
}
