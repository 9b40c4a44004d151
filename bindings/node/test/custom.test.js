'use strict';

const assert = require('node:assert');
const { describe, it } = require('node:test');
const synlock = require('..');
const { Store } = synlock;
const { script, sleep } = require('./support.js');

const code = (wanted) => (error) => error instanceof synlock.SynlockError && error.code === `SYNLOCK_${wanted}`;

class Drawer {
  freesOnDeath = true;
  fence = 'E';
  holds = new Map();
  asked = [];
  fences = 0n;

  #hold(ask) {
    const hold = this.holds.get(String(ask.name));
    return hold && (hold.until === null || hold.until > Date.now()) ? hold : undefined;
  }

  attempt(ask) {
    this.asked.push(ask);
    const hold = this.#hold(ask);
    if (hold && hold.owner !== ask.owner) return { granted: false, poll: 5 };
    this.fences += 1n;
    this.holds.set(String(ask.name), { owner: ask.owner, until: ask.ttl && Date.now() + ask.ttl, label: ask.label });
    return this.fences;
  }

  isHeld(ask) {
    return this.#hold(ask)?.owner === ask.owner;
  }

  release(ask) {
    return this.isHeld(ask) && this.holds.delete(String(ask.name));
  }
}

class Cabinet extends Drawer {
  extend(ask) {
    if (!this.isHeld(ask)) return false;
    const hold = this.holds.get(String(ask.name));
    hold.until = Math.max(hold.until, Date.now() + ask.ttl);
    return true;
  }

  *inspect(ask) {
    const hold = this.holds.get(String(ask.name));
    if (hold) yield { owner: hold.owner, label: hold.label, pid: 7, fencingToken: 9n, host: null };
  }

  list(ask) {
    const names = [...this.holds.keys()].filter((name) => name.startsWith(String(ask.name)));
    return names.map((name) => ({ name, holders: this.inspect({ name }) }));
  }

  breakLock(ask) {
    return this.holds.delete(String(ask.name));
  }

  ping() {
    throw new TypeError('the cabinet is locked');
  }
}

describe('custom', () => {
  it('an object becomes a store', async () => {
    const drawer = new Drawer();
    const store = Store.custom(drawer, { name: 'drawer' });
    assert.equal(store.url, 'custom:drawer');
    assert.equal(store.capabilities.store, 'custom');
    assert.deepEqual([store.capabilities.ttl, store.capabilities.list, store.capabilities.fence], [false, false, 'E']);
    const lock = await store.acquire('x', { label: 'mine' });
    assert.equal(lock.fencingToken, 1n);
    const [ask] = drawer.asked;
    assert.deepEqual([String(ask.name), ask.owner, ask.mode, ask.ttl, ask.label], ['x', lock.ownerToken, 'exclusive', null, 'mine']);
    await lock.ensureHeld();
    assert.equal(await lock.isAcquired(), true);
    assert.equal(await store.tryAcquire('x'), null);
    assert.equal(store.tryAcquireSync('x'), null);
    await assert.rejects(store.acquire('x', { timeout: 30 }), code('TIMEOUT'));
    assert.throws(() => store.acquireSync('x', { timeout: 30 }), code('TIMEOUT'));
    const signal = AbortSignal.timeout(20);
    await assert.rejects(store.acquire('x', { signal }), code('CANCELLED'));
    await lock.refresh();
    const waiting = store.acquire('x');
    await sleep(30);
    assert.deepEqual(await lock.release(), { late: false });
    const next = await waiting;
    assert.equal(next.state, 'held');
    next.releaseSync();
    await store.ping();
    await assert.rejects(store.inspect('x'), code('UNSUPPORTED'));
    await assert.rejects(store.acquire('x', { ttl: 1000 }), code('UNSUPPORTED'));
    await assert.rejects(lock.release(), code('NOT_HELD'));
  });

  it('leases, inspection, breaking', async () => {
    const store = Store.custom(new Cabinet(), { ttl: 30_000 });
    const lock = await store.acquire('invoice', { label: 'a label' });
    assert.ok(lock.remaining > 10_000);
    await lock.refresh(90_000);
    assert.ok(lock.remaining > 50_000);
    const { holders } = await store.inspect('invoice');
    assert.equal(holders.length, 1);
    const { owner, label, pid, fencingToken, mode, host } = holders[0];
    assert.deepEqual([owner, label, pid, fencingToken, mode, host], [lock.ownerToken.slice(0, 8), 'a label', 7, 9n, 'exclusive', null]);
    await store.acquire('invoice 2');
    const page = await store.list({ prefix: 'inv', limit: 1 });
    assert.deepEqual([page.locks.length, String(page.locks[0].name)], [1, 'invoice']);
    const rest = await store.list({ prefix: 'inv', limit: 1, cursor: page.cursor });
    assert.deepEqual([String(rest.locks[0].name), rest.cursor], ['invoice 2', null]);
    assert.equal(await store.waitFree('invoice', { timeout: 30 }), false);
    assert.equal(await store.breakLock('invoice'), true);
    assert.equal(await store.breakLock('invoice'), false);
    await assert.rejects(lock.ensureHeld(), code('LOST'));
    await assert.rejects(lock.promote(), code('UNSUPPORTED'));
    await assert.rejects(store.acquire('x', { renew: true }), code('UNSUPPORTED'));
    await assert.rejects(store.adopt('x'), code('UNSUPPORTED'));
  });

  it('what it throws is the cause', async () => {
    const store = Store.custom(new Cabinet());
    await assert.rejects(store.ping(), (error) => code('UNAVAILABLE')(error) && error.cause instanceof TypeError && /locked/.test(error.message));
    class Broken extends Drawer {
      failure = new RangeError('too far');
      released = [];
      attempt(ask) {
        const said = super.attempt(ask);
        if (this.failure) throw this.failure;
        return said;
      }
      release(ask) {
        this.released.push(ask.owner);
        return super.release(ask);
      }
    }
    const broken = new Broken();
    const shaky = Store.custom(broken);
    await assert.rejects(shaky.acquire('x'), (error) => code('UNCERTAIN')(error) && error.cause === broken.failure);
    assert.throws(() => shaky.acquireSync('y'), (error) => code('UNCERTAIN')(error) && error.cause === broken.failure);
    // It may hold: the next call has released it.
    assert.deepEqual(broken.released, [broken.asked[0].owner]);
    broken.failure = new synlock.PermissionDenied('no key', { status: 202 });
    assert.throws(() => shaky.acquireSync('x'), (error) => code('PERMISSION')(error) && error.cause === broken.failure);
    broken.failure = undefined;
    // It said that it had not acted.
    broken.holds.clear();
    const lock = shaky.acquireSync('x');
    assert.throws(() => shaky.acquireSync('x', { timeout: 1 }), (error) => error.cause === undefined);
    lock.releaseSync();
  });

  it('what is no answer', async () => {
    const odd = (attempt, more) => Store.custom({ attempt, release: () => true, isHeld: () => true, freesOnDeath: true, ...more });
    await assert.rejects(odd(() => {}).acquire('x'), code('PROTOCOL'));
    await assert.rejects(odd(async () => true).acquire('x'), (error) => code('UNSUPPORTED')(error) && /promise/.test(error.message));
    assert.throws(() => Store.custom({}), code('INVALID_ARGUMENT'));
    assert.throws(() => odd(() => true, { scope: 'galaxy' }), code('INVALID_ARGUMENT'));
    assert.throws(() => odd(() => true, { freesOnDeath: false }), code('UNSUPPORTED'));
    assert.throws(() => Store.custom(new Drawer(), { name: 'a/b' }), code('INVALID_ARGUMENT'));
    assert.throws(() => Store.custom(new Drawer(), { tll: 1 }), code('UNKNOWN_OPTION'));
  });

  it('ends with its process, its worker and the collector', async () => {
    const source = `
      const { Worker, isMainThread } = require('node:worker_threads');
      const { Store } = require(process.env.SYNLOCK);
      const owners = new Map();
      const make = () => Store.custom({
        freesOnDeath: true,
        attempt: ({ name, owner }) => !owners.has(String(name)) && Boolean(owners.set(String(name), owner)),
        release: ({ name }) => owners.delete(String(name)),
        isHeld: ({ name, owner }) => owners.get(String(name)) === owner,
      });
      if (isMainThread) {
        new Worker(process._eval, { eval: true }).on('exit', async () => {
          let store = make();
          store.acquireSync('collected');
          await new Promise(setImmediate);
          for (let i = 0; i < 1000 && owners.has('collected'); i++) {
            globalThis.gc();
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
          console.log('collected', !owners.has('collected'));
          store.acquireSync('x');
          process.on('exit', () => console.log('left', owners.size));
        });
      } else {
        make().acquireSync('y');
        process.exit();
      }`;
    const done = await script(`require('node:v8').setFlagsFromString('--expose-gc'); globalThis.gc = require('node:vm').runInNewContext('gc'); ${source}`);
    assert.deepEqual([done.code, done.signal, done.err, done.out], [0, null, '', 'collected true\nleft 0\n']);
  });
});
