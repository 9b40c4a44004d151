'use strict';

// Several locks at once: all or none.
const assert = require('node:assert');
const { after, before, describe, it } = require('node:test');
const v8 = require('node:v8');
const vm = require('node:vm');
const synlock = require('..');
const { Store, LockSet } = synlock;
const { PATIENCE, sleep, until, briefly, name, setups } = require('./support.js');

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
    const names = () => ['c', 'a', 'b'].map((letter) => `${name()}/${letter}`);

    it('a set is taken whole and given back whole', async () => {
      const keys = names();
      const set = await store.acquireAll(keys);
      assert.deepEqual(set.locks.map((lock) => [lock.name, lock.state]), keys.map((key) => [key, 'held']));
      await set.ensureHeld();
      for (const key of keys) assert.equal(await store.tryAcquire(key), null);
      assert.equal(await store.tryAcquireAll(keys), null);
      assert.deepEqual(Object.keys(await set.release()), ['late']);
      await assert.rejects(set.release(), code('NOT_HELD'));
      await set[Symbol.asyncDispose]();
      for (const key of keys) assert.equal(await store.isLocked(key), false);
    });

    it('a set that is refused holds nothing', async () => {
      const keys = names();
      for (const taken of keys) {
        const lock = await store.acquire(taken);
        assert.equal(await store.tryAcquireAll(keys), null);
        await assert.rejects(briefly((timeout) => store.acquireAll(keys, { timeout })), code('TIMEOUT'));
        const abort = new AbortController();
        setTimeout(() => abort.abort(), 30);
        await assert.rejects(store.acquireAll(keys, { signal: abort.signal }), code('CANCELLED'));
        for (const key of keys) assert.equal(await store.isLocked(key), key === taken);
        await lock.release();
      }
    });

    it('a set waits for each of its locks', async () => {
      const keys = names();
      const held = [];
      for (const key of keys) held.push(await store.acquire(key));
      const waiting = store.acquireAll(keys, { timeout: PATIENCE });
      for (const lock of held) {
        await sleep(20);
        await lock.release();
      }
      const set = await waiting;
      assert.equal(set.contended, true);
      await set.release();
    });

    it('usingAll() excludes, and releases', async () => {
      const keys = names();
      const result = await store.usingAll(keys, async (set) => {
        assert.equal(set.signal.aborted, false);
        assert.equal(await store.tryAcquire(keys[1]), null);
        return [...set].length;
      });
      assert.equal(result, 3);
      await assert.rejects(store.usingAll(keys, { timeout: PATIENCE }, () => { throw new TypeError('mine'); }), TypeError);
      for (const key of keys) assert.equal(await store.isLocked(key), false);
    });

    it('is held as long as somebody has one of its locks', async () => {
      const keys = names();
      // In a function of its own, whose variables are gone with it.
      const held = await (async () => {
        const [first] = await store.acquireAll(keys);
        return first;
      })();
      for (let round = 0; round < 20; round++) await sleep(5).then(collect);
      assert.equal(held.state, 'held');
      for (const key of keys) assert.equal(await store.tryAcquire(key), null);
      await held.release();
    });

    it('that nobody has any more is given back', async () => {
      const keys = names();
      await (() => store.acquireAll(keys).then(() => {}))();
      await until(async () => {
        collect();
        const held = await Promise.all(keys.map((key) => store.isLocked(key)));
        return !held.includes(true);
      }, 'it is free');
    });

    it('a release waits for what is under way on any lock', async () => {
      const keys = names();
      const areHeld = async () => (await Promise.all(keys.map((key) => store.isLocked(key)))).includes(true);
      for (const start of [(set) => set.ensureHeld(), (set) => set.locks[1].ensureHeld()]) {
        const set = await store.acquireAll(keys);
        await Promise.all([start(set), set.release()]);
        assert.equal(await areHeld(), false);
        const work = (held) => {
          void start(held);
          throw new TypeError('mine');
        };
        await assert.rejects(store.usingAll(keys, work), TypeError);
        assert.equal(await areHeld(), false);
      }
      const set = await store.acquireAll(keys);
      await Promise.all([set.ensureHeld(), set.locks[2].release()]);
      assert.equal(await store.isLocked(keys[2]), false);
      const [first, second] = await Promise.allSettled([set.release(), set.release()]);
      assert.deepEqual([first.status, second.reason?.code], ['fulfilled', 'SYNLOCK_NOT_HELD']);
    });

    it('its locks have modes, options and stores of their own', async () => {
      const [one, two] = names();
      const other = new Store('memory:');
      const set = await LockSet.acquire([{ store, name: one, shared: true }, { store: other, name: two, label: 'work' }]);
      const reader = await store.tryAcquire(one, { shared: true });
      assert.notEqual(reader, null);
      assert.equal(await store.tryAcquire(one), null);
      assert.equal((await other.inspect(two)).holders[0].label, 'work');
      await reader.release();
      await set.release();
    });

    it('bad sets are refused', async () => {
      const [one] = names();
      await assert.rejects(store.acquireAll([one, one]), code('INVALID_ARGUMENT'));
      await assert.rejects(store.acquireAll([]), code('INVALID_ARGUMENT'));
      await assert.rejects(store.acquireAll([{ name: one, tll: 3 }]), code('UNKNOWN_OPTION'));
      await assert.rejects(LockSet.acquire([{ name: one }]), code('INVALID_ARGUMENT'));
      assert.throws(() => new LockSet(), TypeError);
    });
  });
}

describe('custom', () => {
  it('a set of locks of a custom store is asked here', async () => {
    const owners = new Map();
    const store = Store.custom({
      attempt({ name, owner }) {
        const key = name.toString();
        if (!owners.has(key)) owners.set(key, owner);
        return owners.get(key) === owner;
      },
      release: ({ name, owner }) => owners.get(name.toString()) === owner && owners.delete(name.toString()),
      freesOnDeath: true,
      isHeld: ({ name, owner }) => owners.get(name.toString()) === owner,
    });
    const set = await store.acquireAll(['b', 'a']);
    assert.equal(owners.size, 2);
    assert.equal(await store.tryAcquireAll(['a', 'z']), null);
    await assert.rejects(store.acquireAll(['a', 'z'], { timeout: 30 }), code('TIMEOUT'));
    assert.equal(owners.size, 2);
    await set.release();
    assert.equal(owners.size, 0);
    const mixed = [{ store, name: 'a' }, { store: new Store('memory:'), name: 'a' }];
    await assert.rejects(LockSet.acquire(mixed), code('UNSUPPORTED'));
  });
});
