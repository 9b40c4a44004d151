'use strict';

const { test, before, after } = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const net = require('node:net');
const { Store } = require('..');
const { startRedis, name, sleep, briefly } = require('./support.js');

const WAITERS = process.env.SYNLOCK_LOAD === 'full' ? 10_000 : 2_000;
const QUEUED = "local n = 0; for _, k in ipairs(redis.call('KEYS', '*}q:*')) do n = n + redis.call('ZCARD', k) end; return n";

let server;
before(async () => {
  server = await startRedis();
});
after(() => {
  server.stop();
  // What a failure leaves pending would keep the process.
  setTimeout(() => process.exit(1), 30_000).unref();
});

/** Asks the server past the library: the text of the reply. */
function ask(...words) {
  return new Promise((resolve, reject) => {
    const { port, hostname } = new URL(server.url);
    const socket = net.connect(Number(port), hostname);
    const quit = ['QUIT'];
    for (const command of [words, quit]) {
      const sent = command.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
      socket.write(`*${command.length}\r\n${sent.join('')}`);
    }
    let text = '';
    socket.on('data', (data) => (text += data)).on('end', () => resolve(text)).on('error', reject);
  });
}

const queued = async () => Number((await ask('EVAL', QUEUED, 0)).match(/^:(\d+)/)[1]);
const clients = async () => (await ask('CLIENT', 'LIST')).split(`name=synlock-${process.pid} `).length - 1;
const threads = () => fs.readdirSync('/proc/self/task').length;

/** Scripts that were run. */
async function calls() {
  const found = (await ask('INFO', 'commandstats')).matchAll(/cmdstat_eval\w*:calls=(\d+)/g);
  return [...found].reduce((sum, [, count]) => sum + Number(count), 0);
}

async function until(isSo) {
  while (!(await isSo())) await sleep(20);
}

for (const names of [1, WAITERS]) {
  test(`${WAITERS} wait for ${names} at the cost of few`, { timeout: 300_000 }, async () => {
    const warnings = [];
    const warned = (warning) => warnings.push(warning);
    process.on('warning', warned);
    const stem = name();
    const store = await Store.open(server.url);
    const holders = await Promise.all(Array.from({ length: names }, (_, number) => store.acquire(`${stem}/${number}`)));
    // The first that waits subscribes.
    await assert.rejects(briefly((timeout) => store.acquire(`${stem}/0`, { timeout })), { code: 'SYNLOCK_TIMEOUT' });
    const before = threads();
    const got = [];
    const inside = new Set();
    const wait = async (number, signal) => {
      const which = number % names;
      await store.using(`${stem}/${which}`, { signal }, async () => {
        assert.ok(!inside.has(which));
        inside.add(which);
        got.push(number);
        await null;
        inside.delete(which);
      });
    };
    // One signal for half of them, and one for each of some others.
    const half = new AbortController();
    const each = new Map();
    const waiting = Array.from({ length: WAITERS }, (_, number) => {
      let { signal } = half;
      if (number % 2) {
        const own = new AbortController();
        each.set(number, own);
        ({ signal } = own);
      }
      return wait(number, signal);
    });
    const settled = Promise.allSettled(waiting);
    await until(async () => (await queued()) === WAITERS);
    assert.ok((await clients()) <= 3);
    assert.ok(threads() <= before);
    // Each asks at most once in five seconds.
    const [asked, start] = [await calls(), performance.now()];
    await sleep(2000);
    const most = WAITERS * (1 + (performance.now() - start) / 5000);
    assert.ok((await calls()) - asked < most + 100);
    // Those that are cancelled hold nothing and wait no more; the others come in turn.
    half.abort();
    const ended = await Promise.allSettled(waiting.filter((_, number) => number % 2 === 0));
    for (const { reason } of ended) assert.equal(reason?.code, 'SYNLOCK_CANCELLED');
    assert.equal(await queued(), WAITERS / 2);
    // The last cancels race with grants.
    await Promise.all(holders.map((holder) => holder.release()));
    for (const [number, own] of each) if (number > WAITERS / 2 && number % 4 === 1) own.abort();
    const ends = await settled;
    const entered = new Set(got);
    assert.equal(entered.size, got.length);
    ends.forEach(({ reason }, number) => {
      if (reason === undefined) assert.ok(entered.has(number), `${number}`);
      else assert.equal(reason.code, 'SYNLOCK_CANCELLED');
    });
    for (let number = 1; number < WAITERS / 2; number += 2) assert.ok(entered.has(number), `${number}`);
    if (names === 1) assert.deepEqual(got, got.toSorted((a, b) => a - b));
    assert.ok((await clients()) <= 3);
    assert.ok(threads() <= before);
    assert.equal(await queued(), 0);
    const left = await store.acquire(`${stem}/0`, { timeout: 60_000 });
    await left.release();
    assert.deepEqual(warnings, []);
    process.off('warning', warned);
  });
}
