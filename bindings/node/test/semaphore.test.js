'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { subscribe, unsubscribe } = require('node:diagnostics_channel');
const { SemaphoreManager, Store, keyName, metrics, templateName } = require('..');
const { flockUrl, name, script, setups, sleep } = require('./support.js');

const NAME = 'lock_M_K_378261a619eba75d288b4929dc312ddf';
const manager = (settings = {}, url = `memory:${name()}`) => new SemaphoreManager(url, { tries: 1, sleep: 0, ...settings });
const fails = (code, what) => assert.rejects(what, (error) => error.code === `SYNLOCK_${code}` || assert.fail(error));

/** A row of the vectors, read so that 1.0 and 1 stay two things. */
function rows() {
  const file = fs.readFileSync(path.join(__dirname, '../../../tests/vectors/avtonom_key.json'), 'utf8');
  const lines = file.split('\n').filter((line) => line.startsWith('  {"name": '));
  const special = (key, value) => {
    const is = (what) => typeof value === 'object' && value !== null && Object.hasOwn(value, what);
    if (is('big')) return BigInt(value.big);
    return is('hex') ? new Uint8Array(Buffer.from(value.hex, 'hex')) : value;
  };
  return lines.map((line) => {
    const [key, expect] = line.trim().replace(/,$/, '').split(', "expect": ');
    // Whole numbers beyond the safe ones are bigints here.
    const exact = key.replace(/(?<=[[,] ?)\d{16,}(?=[\],])/g, '{"big": "$&"}');
    return JSON.parse(`${exact}, "expect": ${expect}`, special);
  });
}

test('keys become the names of the vectors', () => {
  const all = rows();
  assert.ok(all.length >= 47);
  for (const row of all) assert.equal(keyName(row.name, 'lock_').toString(), row.expect.key, String(row.name));
  assert.ok(all.some((row) => Array.isArray(row.name) && row.name.some((part) => typeof part === 'bigint')));
});

test('templates make the names of the vectors', () => {
  const file = fs.readFileSync(path.join(__dirname, '../../../tests/vectors/templates.tsv'), 'utf8');
  const all = file.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  assert.ok(all.length >= 28);
  for (const line of all) {
    const [template, wanted, ...fields] = line.split('\t');
    const values = Object.fromEntries(fields.map((field) => [field.slice(0, field.indexOf('=')), field.slice(field.indexOf('=') + 1)]));
    if (wanted === '!') assert.throws(() => templateName(template, values), { code: 'SYNLOCK_INVALID_ARGUMENT' }, line);
    else assert.equal(templateName(template, values).toString(), wanted, line);
  }
  assert.equal(templateName('{a}-{b}-{c}-{d}', { a: 17, b: 2n ** 63n, c: Buffer.of(255), d: 'ü' }).toString('latin1'), '17-9223372036854775808-\xff-\xc3\xbc');
  for (const value of [1.5, NaN, true, null, undefined, {}, [], 2 ** 60, '\ud800']) {
    assert.throws(() => templateName('{a}', { a: value }), { code: 'SYNLOCK_INVALID_ARGUMENT' }, String(value));
  }
});

test('what is no key', () => {
  const deep = [];
  deep.push(deep);
  for (const key of [1, null, true, [], {}, [[1]], [undefined], ['a', NaN], ['a', 2n ** 63n], ['a', () => 1], ['a\ud800'], deep]) {
    assert.throws(() => keyName(key), { code: 'SYNLOCK_INVALID_ARGUMENT' });
  }
  assert.notDeepEqual(keyName(['a', 2 ** 60]), keyName(['a', 2n ** 60n]));
  assert.deepEqual(keyName(['a', 5]), keyName(['a', 5n]));
});

test('objects with a text of their own are what JSON makes of them, others are no keys', () => {
  const at = new Date(0);
  const own = { toJSON: (place) => [place, at], kept: 1 };
  for (const part of [at, new URL('http://a/b c'), own, Object.assign(Object.create(null), { a: 1 }), { at, list: [own] }]) {
    assert.deepEqual(keyName(['k', part]), keyName(['k', JSON.parse(JSON.stringify(['k', part]))[1]]), JSON.stringify(part));
  }
  assert.notDeepEqual(keyName(['k', at]), keyName(['k', new Date(1)]));
  assert.deepEqual(keyName(['k', Buffer.from('a')]), keyName(['k', 'a']));
  class Order {
    id = 17;
  }
  const parts = [new Map([[1, 2]]), new Set([1]), new Order(), /a/, new Error('a'), Promise.resolve(), new WeakMap(), new Float64Array(1), new ArrayBuffer(1), Object(1), Symbol('a')];
  for (const part of [...parts, new Date(NaN).valueOf(), { toJSON: () => undefined }, { toJSON: () => new Map() }]) {
    for (const key of [part, ['k', part], ['k', { part }]]) assert.throws(() => keyName(key), { code: 'SYNLOCK_INVALID_ARGUMENT' });
  }
});

test('acquire and release, with an event for each', async () => {
  const one = manager();
  const heard = [];
  one.on('event', (event) => heard.push(event));
  const how = await one.acquire(['M_K_', 1], { path: 'A.first', ttl: 10_000 });
  assert.deepEqual([how.attempts, how.contended], [1, false]);
  assert.equal(await one.store.isLocked(NAME), true);
  assert.equal(await one.isAcquired(['M_K_', 1]), true);
  assert.deepEqual(one.held(), [{ name: Buffer.from(NAME), caller: 'A.first' }]);
  assert.equal(one.name(['M_K_', 1]).toString(), NAME);
  await assert.rejects(one.acquire(['M_K_', 1], { path: 'B.second' }), (error) => error.code === 'SYNLOCK_REENTERED' && /A\.first/.test(error.message));
  await one.refresh(['M_K_', 1], 90_000);
  await one.release(['M_K_', 1]);
  await fails('NOT_HELD', one.release(['M_K_', 1], { path: 'B.second' }));
  assert.equal(await one.isAcquired(['M_K_', 1]), false);
  await fails('NOT_HELD', one.refresh(['M_K_', 1]));
  while (heard.length < 5) await sleep(5);
  assert.deepEqual(heard.map((event) => event.level), ['debug', 'error', 'debug', 'debug', 'error']);
  assert.deepEqual(heard.map((event) => event.operation), ['acquire', 'acquire', 'refresh', 'release', 'release']);
  const begin = `[${process.pid}] A.first->acquire: acquired (ttl 10 s). Key: ${NAME} ["M_K_",1] (store memory:`;
  assert.ok(heard[0].line.startsWith(begin), heard[0].line);
  assert.equal(heard[0].key, '["M_K_",1]');
  assert.match(heard[3].caller, /semaphore\.test\.js:\d+$/);
  assert.equal(heard[4].caller, 'B.second');
});

test('events are published to the channel', async () => {
  const heard = [];
  const hear = (event) => heard.push(event);
  subscribe('synlock.semaphore', hear);
  try {
    const one = manager();
    await one.acquire('k');
    await one.release('k');
    while (heard.length < 2) await sleep(5);
    assert.deepEqual(heard.map((event) => event.kind), ['acquired', 'released']);
  } finally {
    unsubscribe('synlock.semaphore', hear);
  }
});

test('another holder is waited for and left alone', async () => {
  const one = manager({ tries: 2, sleep: 10 });
  const holder = await one.store.acquire('lock_k');
  await fails('TIMEOUT', one.acquire('k'));
  assert.throws(() => manager({}, one.store.url).acquireSync('k'), { code: 'SYNLOCK_BUSY' });
  await holder.release();
  one.acquireSync('k');
  assert.equal(await one.store.breakLock('lock_k'), true);
  const other = await one.store.acquire('lock_k');
  await fails('LOST', one.release('k'));
  await other.ensureHeld();
  await other.release();
});

test('a waiter is woken, or given up by a signal', async () => {
  const one = manager({ sleep: 3_600_000 });
  const holder = await one.store.acquire('lock_k');
  const waits = async () => {
    while (!(await one.store.inspect('lock_k')).waiters) await sleep(5);
  };
  const stop = new AbortController();
  const stopped = one.acquire('k', { signal: stop.signal });
  await waits();
  stop.abort('enough');
  await assert.rejects(stopped, (error) => error.code === 'SYNLOCK_CANCELLED' && error.cause === 'enough');
  const woken = one.acquire('k');
  await waits();
  await holder.release();
  assert.equal((await woken).contended, true);
  one.releaseSync('k');
  await fails('CANCELLED', one.acquire('k', { signal: AbortSignal.abort() }));
});

test('a repetition extends where that was chosen', async () => {
  const one = manager({ repeat: 'extend' });
  await one.acquire('k', { ttl: 30_000 });
  await one.acquire('k', { ttl: 90_000 });
  assert.ok((await one.store.inspect('lock_k')).holders[0].remaining > 50_000);
  await one.release('k');
  assert.equal(await one.store.isLocked('lock_k'), false);
});

test('an abort while a repetition extends leaves the hold', async () => {
  const one = manager({ repeat: 'extend' });
  await one.acquire('k');
  const stop = new AbortController();
  const again = one.acquire('k', { signal: stop.signal });
  stop.abort();
  await fails('CANCELLED', again);
  assert.equal(await one.isAcquired('k'), true);
  const other = manager({ repeat: 'extend' }, one.store.url);
  const end = new AbortController();
  const shared = other.acquire('k', { signal: end.signal });
  end.abort();
  await fails('CANCELLED', shared);
  assert.equal(await one.isAcquired('k'), true, 'through another manager neither');
  await one.release('k');
});

for (const kind of ['memory', 'redis']) {
  test(`a release waits for what is under way, ${kind}`, async () => {
    const server = await setups[kind]();
    try {
      const one = manager({ repeat: 'extend' }, server.url);
      const starts = [() => one.refresh('k', 90_000), () => one.isAcquired('k'), () => one.acquire('k')];
      for (const start of starts) {
        await one.acquire('k');
        await Promise.all([start(), one.release('k')]);
        assert.equal(await one.store.isLocked('lock_k'), false);
        const work = () => {
          void start();
          throw new RangeError('work');
        };
        await assert.rejects(one.using('k', work), RangeError);
        assert.equal(await one.store.isLocked('lock_k'), false);
      }
      assert.deepEqual(one.held(), []);
    } finally {
      server.stop();
    }
  });
}

test('work releases whatever happens', async () => {
  const one = manager();
  await assert.rejects(one.using('k', () => Promise.reject(new RangeError('work'))), RangeError);
  assert.equal(await one.using('k', { path: 'here' }, () => one.held()[0].caller), 'here');
  await fails('LOST', one.using('k', () => one.store.breakLock('lock_k')));
  assert.deepEqual(one.held(), []);
});

test('what is forgotten is told and released', async () => {
  const one = manager();
  const heard = [];
  one.on('event', (event) => heard.push(event));
  await one.acquire('k', { path: 'Job.run' });
  one.close();
  while (heard.length < 3) await sleep(5);
  assert.deepEqual([heard[1].kind, heard[1].level], ['forgotten', 'error']);
  assert.match(heard[1].line, /\] Job\.run->end: /);
  assert.equal(await one.store.isLocked('lock_k'), false);
});

test('the end of the process releases, and tells', async () => {
  const folder = flockUrl();
  try {
    const source = `
      const { SemaphoreManager } = require(process.env.SYNLOCK);
      const one = new SemaphoreManager(process.argv[1]);
      one.on('event', (event) => process.stdout.write(event.level + ' ' + event.kind + '\\n'));
      one.acquireSync(['k', 1]);
    `;
    const done = await script(source, folder.url);
    assert.equal(done.code, 0, done.err);
    assert.deepEqual(done.out.trim().split('\n'), ['debug acquired', 'error forgotten', 'debug released']);
    assert.deepEqual((await new Store(folder.url).list()).locks, []);
  } finally {
    folder.stop();
  }
});

test('a demo does nothing', async () => {
  const one = manager({ demo: true });
  await one.acquire('k');
  await one.acquire('k');
  assert.equal(await one.store.isLocked('lock_k'), false);
  assert.deepEqual(await one.release('k'), { late: false });
  await one.release('never');
});

test('the defaults are Avtonom\'s', async () => {
  const native = require('../native.js');
  const Real = native.NativeManager;
  let given;
  native.NativeManager = class extends Real {
    constructor(store, settings) {
      super(store, settings);
      given = settings;
    }
  };
  let one;
  try {
    one = new SemaphoreManager(`memory:${name()}`);
  } finally {
    native.NativeManager = Real;
  }
  assert.deepEqual([given.tries, given.sleep, given.jitter, given.ttl], [240, 500, 0, 60_000]);
  assert.deepEqual([given.repeat, given.demo, Buffer.from(given.prefix).toString()], ['error', false, 'lock_']);
  await one.acquire('k');
  const { remaining } = (await one.store.inspect('lock_k')).holders[0];
  assert.ok(remaining > 30_000 && remaining <= 60_000, String(remaining));
  await one.release('k');
});

test('an event says who, how long and how often', async () => {
  const one = manager({ tries: 600, sleep: 100 });
  const heard = [];
  one.on('event', (event) => heard.push(event));
  const holder = await one.store.acquire('lock_k');
  const waiting = one.acquire('k', { ttl: 90_000 });
  while (!(await one.store.inspect('lock_k')).waiters) await sleep(5);
  await sleep(20);
  await holder.release();
  const how = await waiting;
  const { owner } = (await one.store.inspect('lock_k')).holders[0];
  await one.release('k');
  while (heard.length < 3) await sleep(5);
  const [waits, acquired, released] = heard;
  assert.deepEqual(heard.map((event) => event.kind), ['waiting', 'acquired', 'released']);
  assert.equal(waits.waited, 0);
  assert.ok(acquired.waited > 10 && Math.abs(acquired.waited - how.waited) < 1, `${acquired.waited}, ${how.waited}`);
  assert.equal(acquired.attempts, how.attempts);
  assert.ok(acquired.attempts >= 1 && acquired.held === 0);
  assert.ok(released.held > 0 && released.attempts === 0);
  assert.match(acquired.owner, /^[0-9a-f]{8}$/);
  assert.deepEqual([acquired.owner, owner.startsWith(acquired.owner)], [released.owner, true]);
});

test('settings are checked', () => {
  for (const settings of [{ tries: 0 }, { ttl: 0 }, { sleep: -1 }, { repeat: 'never' }]) {
    assert.throws(() => manager(settings), { code: 'SYNLOCK_INVALID_ARGUMENT' });
  }
  assert.throws(() => manager({ tires: 1 }), { code: 'SYNLOCK_UNKNOWN_OPTION' });
});

test('numbers', async () => {
  const one = manager();
  one.measure();
  await one.using('k', () => fails('REENTERED', one.acquire('k')));
  for (const outcome of ['granted', 'reentered']) {
    assert.ok(metrics().includes(`synlock_acquires_total{store="${one.url}",outcome="${outcome}"} 1\n`), metrics());
  }
  one.store.measure();
  (await one.store.acquire('x')).releaseSync();
  assert.ok(metrics().includes(`synlock_releases_total{store="${one.url}"} 2\n`));
});

test('waits, refreshes and losses are counted', async () => {
  const one = manager({ tries: 600, sleep: 100 });
  one.measure();
  const holder = await one.store.acquire('lock_k');
  const waiting = one.acquire('k');
  while (!(await one.store.inspect('lock_k')).waiters) await sleep(5);
  await holder.release();
  await waiting;
  await one.refresh('k', 90_000);
  assert.equal(await one.store.breakLock('lock_k'), true);
  await fails('LOST', one.release('k'));
  const counted = (what) => Number(metrics().split('\n').find((line) => line.startsWith(`synlock_${what}{store="${one.url}"}`)).split(' ')[1]);
  for (const what of ['waits_total', 'refreshes_total', 'losses_total', 'waited_seconds_count', 'held_seconds_count']) assert.equal(counted(what), 1, what);
  for (const what of ['waited_seconds_sum', 'held_seconds_sum']) assert.ok(counted(what) > 0, what);
});

test('a key that died of its TTL is told of, with who had acquired it', async () => {
  const one = manager();
  const heard = [];
  one.on('event', (event) => heard.push(event));
  await one.acquire('k', { path: 'Job.dies', ttl: 50 });
  while (!heard.some((event) => event.kind === 'lost')) await sleep(5);
  const lost = heard.find((event) => event.kind === 'lost');
  assert.deepEqual([lost.level, lost.caller, lost.key], ['warning', 'Job.dies', '"k"']);
  assert.match(lost.line, /Job\.dies->hold: .*Key: lock_k "k"/);
  await fails('LOST', one.release('k'));
});

test('a lost lock is acquired anew where a repetition extends', async () => {
  const one = manager({ repeat: 'extend' });
  await one.acquire('k');
  await one.acquire('k', { ttl: 90_000 });
  assert.ok((await one.store.inspect('lock_k')).holders[0].remaining > 50_000);
  assert.equal(await one.store.breakLock('lock_k'), true);
  await one.acquire('k');
  assert.equal(await one.isAcquired('k'), true);
  await one.release('k');
  assert.equal(await one.store.isLocked('lock_k'), false);
});
