'use strict';

const assert = require('node:assert');
const { after, before, describe, it } = require('node:test');
const v8 = require('node:v8');
const vm = require('node:vm');
const synlock = require('..');
const { Store, SemaphoreManager } = synlock;
const { LockFactory } = require('synlock/symfony');
const { PATIENCE, startRedis, shmUrl, sleep, until, briefly, name, setups } = require('./support.js');

v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc');
const code = (wanted) => (error) => error instanceof synlock.SynlockError && error.code === `SYNLOCK_${wanted}`;

for (const [kind, setup] of Object.entries(setups)) {
  describe(kind, () => {
    let server;
    let store;
    before(async () => {
      server = await setup();
      store = await Store.open(server.url);
    });
    after(() => server.stop());

    it('using() excludes, and releases', async () => {
      const key = name();
      const result = await store.using(key, { timeout: PATIENCE }, async (lock) => {
        assert.equal(await store.tryAcquire(key), null);
        assert.equal(await store.isLocked(key), true);
        await lock.ensureHeld();
        assert.equal(lock.signal.aborted, false);
        return 42;
      });
      assert.equal(result, 42);
      assert.equal(await store.isLocked(key), false);
      await assert.rejects(store.using(key, async () => { throw new TypeError('mine'); }), TypeError);
      assert.equal(await store.isLocked(key), false);
    });

    it('acquire waits and times out', async () => {
      const key = name();
      const first = await store.acquire(key);
      await assert.rejects(briefly((timeout) => store.acquire(key, { timeout })), code('TIMEOUT'));
      await assert.rejects(store.acquire(key, { timeout: 0 }), code('TIMEOUT'));
      const waiting = store.acquire(key, { timeout: PATIENCE });
      if (store.capabilities.wakes) await until(async () => (await store.inspect(key)).waiters === 1, 'it waits');
      else await sleep(20);
      await first.release();
      const second = await waiting;
      assert.equal(second.state, 'held');
      assert.equal(second.contended, true);
      await second.release();
      await assert.rejects(second.release(), code('NOT_HELD'));
      await second[Symbol.asyncDispose]();
      second[Symbol.dispose]();
    });

    it('a bare acquire waits, a try and a session do not', async () => {
      const manager = new SemaphoreManager(store, { prefix: '' });
      const calls = [
        async (key) => (await store.acquire(key)).release(),
        (key) => store.using(key, () => {}),
        async (key) => {
          await manager.acquire(key);
          await manager.release(key);
        },
        async (key) => {
          const lock = new LockFactory(store).createLock(key);
          await lock.acquire();
          await lock.release();
        },
      ];
      for (const call of calls) {
        const key = name();
        const holder = await store.acquire(key);
        assert.deepEqual([await store.tryAcquire(key), await store.session().acquire(key)], [null, false]);
        let done = false;
        const waiting = call(key).then(() => (done = true));
        if (store.capabilities.wakes) await until(async () => (await store.inspect(key)).waiters === 1, 'it waits');
        else await sleep(20);
        assert.equal(done, false);
        await holder.release();
        await waiting;
      }
    });

    it('has synchronous twins', async () => {
      const key = name();
      const lock = store.acquireSync(key, { timeout: PATIENCE });
      assert.equal(store.tryAcquireSync(key), null);
      await assert.rejects(briefly((timeout) => store.acquireSync(key, { timeout })), code('TIMEOUT'));
      lock.releaseSync();
      store.tryAcquireSync(key)[Symbol.dispose]();
    });

    it('a lock that was given back leaves the next one of its name alone', async () => {
      const key = name();
      for (let i = 0; i < 3; i++) {
        const first = i === 1 ? store.acquireSync(key) : await store.acquire(key, i === 2 ? { timeout: PATIENCE } : undefined);
        const { ownerToken } = first;
        first.releaseSync();
        const second = await store.tryAcquire(key);
        assert.notEqual(second.ownerToken, ownerToken);
        assert.deepEqual([first.state, first.remaining, first.ownerToken, first.mode], ['idle', null, null, 'exclusive']);
        assert.throws(() => first.releaseSync(), code('NOT_HELD'));
        await assert.rejects(first.release(), code('NOT_HELD'));
        await assert.rejects(first.refresh(), code('NOT_HELD'));
        first[Symbol.dispose]();
        assert.equal(await first.isAcquired(), false);
        assert.equal(first.signal.aborted, false);
        assert.equal(second.state, 'held');
        await second.ensureHeld();
        await second.release();
      }
      assert.equal(await store.isLocked(key), false);
    });

    it('releases what nobody has any more, whoever had its handle before', async () => {
      const key = name();
      for (let i = 0; i < 3; i++) (await store.acquire(key)).releaseSync();
      await store.acquire(key);
      assert.equal(await store.isLocked(key), true);
      await until(async () => {
        collect();
        return !(await store.isLocked(key));
      }, 'it is free');
    });

    it('an AbortSignal ends a wait, and nothing is held', async () => {
      const key = name();
      await assert.rejects(store.acquire(key, { signal: AbortSignal.abort() }), code('CANCELLED'));
      for (let round = 0; round < 10; round++) {
        const first = await store.acquire(key);
        const controller = new AbortController();
        const waiting = store.acquire(key, { signal: controller.signal });
        await sleep(5);
        // Every other round the abort races with the grant.
        if (round % 2) await Promise.all([first.release(), controller.abort()]);
        else controller.abort();
        await assert.rejects(waiting, code('CANCELLED'));
        if (!(round % 2)) await first.release();
        await (await store.acquire(key, { timeout: PATIENCE })).release();
      }
    });

    it('an abort while a second acquire extends leaves the first hold', async () => {
      const key = name();
      const first = await store.acquire(key, { reentry: 'extend' });
      const stop = new AbortController();
      const again = store.acquire(key, { reentry: 'extend', signal: stop.signal });
      stop.abort();
      if (store.capabilities.scope === 'cluster') {
        await assert.rejects(again, code('CANCELLED'));
        // What was left by it has nothing to release either.
        for (let i = 0; i < 20; i++) await sleep(5).then(collect);
        await first.ensureHeld();
        assert.equal(await store.tryAcquire(key), null);
      } else {
        // It was over before.
        assert.equal((await again).state, 'held');
      }
      await first.release();
      assert.equal(await store.isLocked(key), false);
    });

    it('tells of a loss', async () => {
      const key = name();
      const lock = await store.acquire(key);
      const aborted = new Promise((resolve) => lock.signal.addEventListener('abort', resolve));
      assert.equal(await store.breakLock(key), true);
      await assert.rejects(lock.ensureHeld(), code('LOST'));
      await aborted;
      assert.ok(lock.signal.reason instanceof synlock.LockLost);
      assert.equal(lock.lost, true);
      await assert.rejects(lock.release(), code('LOST'));
      await assert.rejects(store.using(key, () => store.breakLock(key)), code('LOST'));
      await assert.rejects(
        store.using(key, async () => { await store.breakLock(key); throw new TypeError('mine'); }),
        TypeError,
      );
    });

    it('shares, promotes, demotes', async () => {
      const key = name();
      const [a, b] = [await store.acquire(key, { shared: true }), await store.acquire(key, { shared: true })];
      assert.equal(await store.tryAcquire(key), null);
      assert.equal(await a.promote(), false);
      await a.ensureHeld();
      await b.release();
      assert.equal(await a.promote(), true);
      assert.equal(a.mode, 'exclusive');
      await a.demote();
      await (await store.tryAcquire(key, { shared: true })).release();
      await a.release();
    });

    it('a release waits for what is under way', async () => {
      const key = name();
      const lock = await store.acquire(key);
      const answer = lock.isAcquired();
      const [first, second] = await Promise.allSettled([lock.release(), lock.release()]);
      assert.deepEqual([await answer, first.status, second.reason?.code], [true, 'fulfilled', 'SYNLOCK_NOT_HELD']);
      assert.equal(await store.isLocked(key), false);
      const work = (held) => {
        void held.isAcquired();
        throw new TypeError('mine');
      };
      await assert.rejects(store.using(key, work), TypeError);
      assert.equal(await store.isLocked(key), false);
    });

    it('a release ends a promotion that waits', async () => {
      const key = name();
      const lock = await store.acquire(key);
      await lock.demote();
      const reader = await store.acquire(key, { shared: true });
      const promotion = lock.promote({ timeout: Infinity });
      await Promise.all([assert.rejects(promotion, code('CANCELLED')), lock.release()]);
      // The next hold has nothing of that.
      await assert.rejects(briefly((timeout) => store.acquire(key, { timeout })), code('TIMEOUT'));
      const waiting = store.acquire(key);
      await sleep(20);
      await reader.release();
      await (await waiting).release();
    });

    it('shows holders', async () => {
      const key = name();
      const lock = await store.acquire(key, { label: 'nightly "import"' });
      const { holders } = await store.inspect(key);
      assert.equal(holders[0].label, 'nightly "import"');
      assert.equal(holders[0].pid, process.pid);
      const { locks, cursor } = await store.list({ prefix: key });
      assert.deepEqual([locks.length, locks[0].name.toString(), cursor], [1, key, null]);
      assert.equal(await briefly((timeout) => store.waitFree(key, { timeout })), false);
      await lock.release();
      assert.equal(await store.waitFree(key, { timeout: PATIENCE }), true);
      await store.ping({ timeout: PATIENCE });
    });

    it('checks, where the store can', async () => {
      if (kind === 'shm') assert.deepEqual(await store.check(), []);
      else await assert.rejects(store.check(), code('UNSUPPORTED'));
    });

    it('serves many waiters in order, without threads of libuv', async () => {
      const key = name();
      const count = kind === 'flock' ? 5 : 300;
      const first = await store.acquire(key);
      const order = [];
      const waiters = Array.from({ length: count }, async (_, number) => {
        const lock = await store.acquire(key);
        order.push(number);
        await lock.release();
      });
      await sleep(100);
      const start = process.hrtime.bigint();
      await require('node:fs').promises.readFile(__filename);
      assert.ok(process.hrtime.bigint() - start < 20_000_000_000n);
      await first.release();
      await Promise.all(waiters);
      assert.equal(order.length, count);
      if (store.capabilities.fair) assert.deepEqual(order, order.toSorted((a, b) => a - b));
    });

    it('emits events', async () => {
      const watched = await Store.open(server.url);
      const kinds = [];
      const callers = new Set();
      watched.on('event', (event) => kinds.push(event.kind) && callers.add(event.caller));
      await watched.using(name(), async () => {});
      const here = new Error().stack.match(/lock\.test\.js:(\d+)/)[1] - 1;
      await until(() => kinds.length >= 2, 'both are told');
      assert.deepEqual(kinds, ['acquired', 'released']);
      assert.deepEqual([...callers], [`${__filename}:${here}`]);
    });
  });
}

describe('leases', () => {
  let server;
  let store;
  before(async () => {
    server = await startRedis();
    store = await Store.open(server.url);
  });
  after(() => server.stop());

  it('have a bigint fencing token, and can be refreshed', async () => {
    const key = name();
    const lock = await store.acquire(key, { ttl: 30_000 });
    assert.equal(typeof lock.fencingToken, 'bigint');
    assert.ok(lock.remaining > 10_000 && lock.remaining <= 30_000);
    await lock.refresh(60_000);
    assert.ok(lock.remaining > 30_000);
    const first = lock.fencingToken;
    await lock.release();
    assert.equal(lock.remaining, null);
    const next = await store.acquire(key);
    assert.ok(next.fencingToken > first);
    await next.release();
  });

  it('are handed over', async () => {
    const key = name();
    const lock = await store.acquire(key, { ttl: 30_000 });
    const text = lock.export();
    const heir = await store.adopt(text, { ttl: 30_000 });
    assert.deepEqual([heir.name, heir.state], [key, 'held']);
    assert.equal(await store.tryAcquire(key), null);
    await assert.rejects(store.adopt(text, { ttl: 30_000 }), code('LOST'));
    await assert.rejects(store.adopt('nonsense'), code('INVALID_ARGUMENT'));
    await assert.rejects(store.adopt(text, { ttl: -1 }), code('INVALID_ARGUMENT'));
    await heir.release();
    assert.equal(await store.isLocked(key), false);
  });

  it('are handed over in memory that is shared, and released in one short call', async () => {
    const place = shmUrl();
    const shared = await Store.open(place.url);
    const lock = await shared.acquire('x');
    const heir = await shared.adopt(lock.export());
    await heir.release();
    assert.equal(await shared.isLocked('x'), false);
    place.stop();
  });

  it('are handed over while the loop goes on', async () => {
    const lock = await store.acquire(name(), { ttl: 30_000 });
    const text = lock.export();
    await store.ping();
    server.pause(true);
    const heir = store.adopt(text, { ttl: 30_000 });
    // A loop that stood still would let nobody wake the server.
    await sleep(300);
    server.pause(false);
    await (await heir).release();
  });

  it('count permits', async () => {
    const key = name();
    const two = [await store.acquire(key, { permits: 2 }), await store.acquire(key, { permits: 2 })];
    assert.equal(await store.tryAcquire(key, { permits: 2 }), null);
    await Promise.all(two.map((lock) => lock.release()));
  });
});

describe('errors', () => {
  it('have codes and classes', async () => {
    await assert.rejects(Store.open('foo:x'), (error) => code('UNKNOWN_SCHEME')(error) && /memory/.test(error.message));
    assert.throws(() => new Store('memory:?tll=1'), code('UNKNOWN_OPTION'));
    const store = await Store.open('memory:');
    await assert.rejects(store.acquire(''), code('INVALID_ARGUMENT'));
    await assert.rejects(store.acquire('x', { ttl: 0 }), code('INVALID_ARGUMENT'));
    await assert.rejects(store.acquire('x', { tll: 1 }), code('UNKNOWN_OPTION'));
    await assert.rejects(store.acquire('x', { timeout: -1 }), code('INVALID_ARGUMENT'));
    const down = await Store.open('redis://127.0.0.1:1?io_timeout=50');
    await assert.rejects(down.acquire('x'), (error) => error instanceof synlock.Unavailable && error.retriable);
  });

  it('are the same classes for import and require', async () => {
    const imported = await import('../index.mjs');
    assert.equal(imported.Store, Store);
    assert.equal(imported.LockTimeout, synlock.LockTimeout);
    for (const key of Object.keys(synlock)) assert.equal(imported[key], synlock[key], key);
  });
});
