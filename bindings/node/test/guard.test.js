'use strict';

// Request guards.

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');
const synlock = require('..');
const { Guards, Held, Policy, Refused } = require('synlock/guard');
const { startRedis, script, until, name: fresh } = require('./support.js');

const code = (wanted) => (error) => error instanceof synlock.SynlockError && error.code === `SYNLOCK_${wanted}`;
const ASKED = { route: 'pay', path: '/orders/17', params: { id: 17 } };
const memory = () => `memory:${fresh()}`;

describe('guards', () => {
  it('a policy that means nothing is refused', () => {
    for (const wrong of [
      { mode: 'wait' }, { anonymous: 'x' }, { release: 'never' }, { status: 200 }, { status: 423.5 }, { status: 70_000 },
      { ttl: 0 }, { ttl: -1 }, { maxWait: 0 }, { maxWait: NaN },
    ]) {
      assert.throws(() => new Policy(wrong), code('INVALID_ARGUMENT'), JSON.stringify(wrong));
    }
    assert.throws(() => new Policy({ tll: 5 }), code('UNKNOWN_OPTION'));
    assert.throws(() => new Held({ release: 'never' }), code('INVALID_ARGUMENT'));
    assert.throws(() => new Guards(memory(), { dialect: 'x' }), code('INVALID_ARGUMENT'));
    assert.throws(() => new Guards(memory()).add('x', memory(), { maxWait: 0 }), code('INVALID_ARGUMENT'));
  });

  it('names', () => {
    const guards = new Guards(memory());
    assert.equal(guards.name({}, ASKED), 'pay /orders/17');
    assert.equal(guards.name({ name: 'order_{id}' }, ASKED), 'order_17');
    assert.deepEqual(guards.name({ name: '{b}' }, { params: { b: new Uint8Array([255, 0]) } }), Buffer.from([255, 0]));
    assert.throws(() => guards.name({ name: 'order_{no}' }, ASKED), /\{no\}/);
    assert.throws(() => guards.name({ name: '{o}' }, { params: { o: {} } }), code('INVALID_ARGUMENT'));
    const of = (user) => ({ route: 'pay', path: '/', user, session: 'sess', ip: '10.0.0.1' });
    const own = { name: 'o', userIsolation: true };
    assert.equal(guards.name(own, of({ id: 'bob', provider: 'main' })), 'o@main/bob');
    for (const nobody of [undefined, null, {}]) assert.throws(() => guards.name(own, of(nobody)), code('INVALID_ARGUMENT'));
    assert.equal(guards.name({ ...own, anonymous: 'share' }, of(null)), 'o@:anonymous');
    assert.equal(guards.name({ ...own, anonymous: 'ip' }, of(null)), 'o@:ip/10.0.0.1');
    assert.match(guards.name({ ...own, anonymous: 'session' }, of(null)), /^o@:session\/\w+$/);
  });

  for (const [file, dialect, rows] of [['ixarlie_pre20', 'ixarlie', 21], ['ixarlie_21', 'ixarlie2', 12]]) {
    it(`names of ixarlie's own code, ${file}`, () => {
      const guards = new Guards(memory(), { dialect });
      const all = JSON.parse(fs.readFileSync(path.join(__dirname, '../../../tests/vectors', `${file}.json`))).rows;
      assert.equal(all.length, rows);
      for (const { name: given, expect } of all) {
        const request = {
          route: given.controller,
          path: expect.path_info ?? given.path,
          params: given.routeParams,
          user: given.tokenStorage ? null : undefined,
          token: given.token_serialized_hex ? Buffer.from(given.token_serialized_hex, 'hex') : (given.token ?? undefined),
        };
        const policy = { name: given.template ?? undefined, userIsolation: given.userIsolation };
        if (expect.lock_name !== undefined) assert.equal(guards.name(policy, request), expect.lock_name, JSON.stringify(given));
        else assert.throws(() => guards.name(policy, request), code('INVALID_ARGUMENT'));
      }
    });
  }

  it('services by short and full names', async () => {
    const guards = new Guards({ default: memory() }).add('redis.queued', memory());
    assert.deepEqual(guards.names, ['default', 'redis.queued']);
    assert.equal(guards.find(), 'default');
    for (const one of ['redis.queued', 'synlock.redis.queued', 'ixarlie_mutex.redis_factory.queued']) assert.equal(guards.find(one), 'redis.queued');
    assert.throws(() => guards.find('redis'), /redis\.queued/);
    assert.throws(() => guards.add('default', memory()), code('INVALID_ARGUMENT'));
    guards.setDefault('redis.queued');
    const admission = await guards.enter({ name: 'x' }, ASKED);
    assert.equal(admission.service, 'redis.queued');
    assert.equal(await guards.store().isLocked('x'), true);
    assert.equal(await guards.store('default').isLocked('x'), false, 'it has its own name');
  });

  it('what is held is released at its release points, the latest first', async () => {
    const guards = new Guards(memory());
    const order = [];
    guards.store().on('event', ({ kind, name }) => kind === 'released' && order.push(String(name)));
    const held = new Held();
    for (const policy of [{ name: 'a' }, { name: 'b', release: 'terminate' }, { name: 'c' }, { name: 'k', autoRelease: false }]) {
      assert.ok(await held.enter(guards, policy, ASKED));
    }
    assert.equal(await held.enter(guards, { name: 'a', mode: 'queue' }, ASKED), null, 'it has that');
    assert.equal(held.holdsUntil('terminate'), true);
    await held.release('response');
    assert.ok(await held.enter(guards, { name: 'a' }, ASKED), 'released is not held');
    await held.release();
    await until(() => order.length === 4, 'events');
    assert.deepEqual(order, ['c', 'a', 'a', 'b']);
    assert.equal(await guards.store().isLocked('k'), true);
  });

  it('what the handler did itself is not released twice', async () => {
    const guards = new Guards(memory());
    const given = await guards.enter({ name: 'x' }, ASKED);
    await given.lock.release();
    const other = await guards.enter({ name: 'x' }, ASKED);
    await given.release();
    assert.equal(await other.lock.isAcquired(), true);
  });

  it('a release waits for what the handler has left under way', async () => {
    const server = await startRedis();
    try {
      for (const url of [memory(), server.url]) {
        const guards = new Guards(url);
        const given = await guards.enter({ name: 'x' }, ASKED);
        const answer = given.lock.isAcquired();
        await given.release();
        assert.deepEqual([await answer, given.isReleased, await guards.store().isLocked('x')], [true, true, false]);
      }
    } finally {
      server.stop();
    }
  });

  it('a release within an answer of a custom store can be asked for again', async () => {
    const within = [];
    let given;
    const store = synlock.Store.custom({
      freesOnDeath: true,
      attempt: () => true,
      release: () => true,
      isHeld: () => within.push(given.release()) > 0,
    });
    given = await new Guards(store).enter({ name: 'x' }, ASKED);
    assert.equal(await given.lock.isAcquired(), true);
    await assert.rejects(within[0], code('CONCURRENT_USE'));
    assert.equal(given.isReleased, false);
    await given.release();
    assert.deepEqual([given.isReleased, given.lock.lost], [true, false]);
    await assert.rejects(given.lock.release(), code('NOT_HELD'));
  });

  it('a log that fails does not keep what else is held', async () => {
    for (const log of [() => { throw new RangeError('full'); }, async () => { throw new RangeError('full'); }]) {
      const guards = new Guards(memory());
      const warnings = [];
      const hear = ({ message }) => warnings.push(message);
      process.on('warning', hear);
      const held = new Held({ log });
      await held.enter(guards, { name: 'a' }, ASKED);
      await held.enter(guards, { name: 'b' }, ASKED);
      await guards.store().breakLock('b');
      await held.release();
      assert.equal(await guards.store().isLocked('a'), false);
      await until(() => warnings.some((words) => words.includes('"b"') && words.includes('full')), 'it is warned of');
      process.off('warning', hear);
    }
  });

  it('a custom store', async () => {
    const holds = new Map();
    const store = () => synlock.Store.custom({
      freesOnDeath: true,
      attempt: ({ name, owner }) => (holds.has(String(name)) ? false : holds.set(String(name), owner) && true),
      release: ({ name }) => holds.delete(String(name)),
      isHeld: ({ name, owner }) => holds.get(String(name)) === owner,
    });
    const guards = new Guards({ own: store() }).add('lazy', store(), { canWait: false });
    const first = await guards.enter({ name: 'x' }, ASKED);
    await assert.rejects(guards.enter({ name: 'x' }, ASKED), Refused);
    await assert.rejects(guards.enter({ name: 'x', mode: 'queue', service: 'lazy' }, ASKED), code('UNSUPPORTED'));
    const waiting = guards.enter({ name: 'x', mode: 'queue', maxWait: 60_000 }, ASKED);
    await first.release();
    await (await waiting).release();
    assert.equal(holds.size, 0);
  });

  it('as an ES module', async () => {
    const { out, err } = await script(`
      import('synlock/guard').then(async ({ Guards, default: all }) => {
        const guards = new Guards('memory:');
        const { lock } = await guards.enter({ name: 'x' }, {});
        console.log(lock.state, lock.release === require('synlock').Lock.prototype.release, all.Guards === Guards);
      })`.replaceAll('synlock/guard', path.join(__dirname, '../guard.mjs')).replaceAll("'synlock'", JSON.stringify(path.join(__dirname, '..'))));
    assert.equal(out, 'held true true\n', err);
  });
});
