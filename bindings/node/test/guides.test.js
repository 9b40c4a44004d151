'use strict';

// The guides beside README.md: their code, and the library that they speak of.

const assert = require('node:assert');
const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { Store } = require('..');
const { startRedis, name, sleep, briefly } = require('./support.js');

const ROOT = path.join(__dirname, '../../..');
const code = (wanted) => (error) => error.code === `SYNLOCK_${wanted}` || assert.fail(error);
const read = (guide) => fs.readFileSync(path.join(__dirname, '..', `${guide}.md`), 'utf8');
const blocks = (guide) => [...read(guide).matchAll(/^```js\n(.+?)^```$/gms)].map((match) => match[1]);

/** A folder in which `synlock` and its peers can be required, and which is gone afterwards. */
function place() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-node-'));
  fs.mkdirSync(path.join(folder, 'node_modules'));
  fs.symlinkSync(path.join(__dirname, '..'), path.join(folder, 'node_modules/synlock'));
  for (const peer of ['ioredis', 'redlock']) {
    fs.symlinkSync(path.join(ROOT, 'target/interop/node_modules', peer), path.join(folder, 'node_modules', peer));
  }
  return folder;
}

/** Runs the code of a guide on the stores of the test; all that it started ends with `stop`. */
function start(source, folder, redis, ...words) {
  const file = path.join(folder, `${name()}.cjs`);
  // What is ours has more patience than it would have by default.
  const ours = (_, query) => `open('${redis.url}${query ? '&' : ''}`;
  source = source.replaceAll('shm:app', `shm:${folder}/segment`);
  if (redis) source = source.replaceAll(/open\('redis:\/\/localhost(\?)?/g, ours).replaceAll('redis://localhost', redis.place);
  fs.writeFileSync(file, source);
  const child = spawn(process.execPath, [file, ...words], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  child.stdout.on('data', (data) => (out += data));
  child.stderr.on('data', (data) => (out += data));
  const ended = once(child, 'close').then(([status, signal]) => ({ status, signal, out }));
  const stop = async () => {
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It is gone.
    }
    await ended;
  };
  return { child, ended, stop, out: () => out };
}

async function until(told) {
  for (let i = 0; i < 6000; i++) {
    const answer = await told();
    if (answer) return answer;
    await sleep(20);
  }
  assert.fail('it did not come to pass');
}

describe('guides', () => {
  let folder;
  let redis;
  before(async () => {
    execFileSync(path.join(ROOT, 'tests/interop/peers/install-node'));
    folder = place();
    redis = await startRedis();
  });
  after(() => {
    redis.stop();
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it('are linked and have code', () => {
    for (const [guide, count] of [['coming-from-redlock', 3], ['workers', 3]]) {
      assert.ok(read('README').includes(`(${guide}.md)`));
      assert.equal(blocks(guide).length, count);
    }
  });

  it('coming from redlock: the code', async () => {
    for (const block of blocks('coming-from-redlock')) {
      const { status, out } = await start(block, folder, redis).ended;
      assert.deepEqual([status, out], [0, 'alone\n']);
    }
  });

  async function excludeEachOther(urls, ours) {
    const { default: Redis } = require(path.join(folder, 'node_modules/ioredis'));
    const { default: Redlock, ExecutionError } = require(path.join(folder, 'node_modules/redlock'));
    const clients = urls.map((url) => new Redis(url));
    const old = new Redlock(clients, { retryCount: 0 });
    const store = await Store.open(ours);
    try {
      const theirs = await old.acquire(['invoice 42'], 30_000);
      assert.equal(await store.tryAcquire('invoice 42'), null);
      await assert.rejects(briefly((timeout) => store.acquire('invoice 42', { timeout })), code('TIMEOUT'));
      const waiting = store.acquire('invoice 42', { ttl: 30_000, timeout: 60_000 });
      await theirs.release();
      const mine = await waiting;
      await assert.rejects(old.acquire(['invoice 42'], 30_000), ExecutionError);
      assert.ok(mine.remaining > 10_000 && mine.remaining <= 30_000);
      await mine.refresh(60_000);
      assert.ok(mine.remaining > 30_000);
      await mine.release();
      const patient = new Redlock(clients, { retryCount: -1, retryDelay: 5 });
      const held = await store.acquire('invoice 42');
      const taken = patient.acquire(['invoice 42'], 30_000);
      await held.release();
      await (await taken).release();
      // Lost: the key is gone, and theirs.
      const lost = await store.acquire('invoice 42', { ttl: 30_000 });
      for (const client of clients) await client.del('invoice 42');
      const next = await old.acquire(['invoice 42'], 30_000);
      await assert.rejects(lost.release(), code('LOST'));
      await next.release();
      // Several names: one that is taken keeps out the set, and leaves the other free.
      const names = ['account 7', 'account 9'];
      for (const name of names) {
        const one = await old.acquire([name], 30_000);
        assert.equal(await store.tryAcquireAll(names), null);
        await (await old.acquire(names.filter((other) => other !== name), 30_000)).release();
        await one.release();
      }
      const set = await store.acquireAll(names);
      for (const refused of [...names.map((name) => [name]), names]) await assert.rejects(old.acquire(refused, 30_000), ExecutionError);
      const their = patient.acquire(names, 30_000);
      await set.release();
      const both = await their;
      const turn = store.acquireAll(names, { timeout: 60_000 });
      await both.release();
      await (await turn).release();
    } finally {
      for (const client of clients) client.disconnect();
    }
  }

  it('coming from redlock: both on one server', () => excludeEachOther([redis.place], `${redis.url}&dialect=plain`));

  it('coming from redlock: both on three servers', async () => {
    const members = await Promise.all([startRedis(), startRedis(), startRedis()]);
    try {
      const ours = members.map(({ url }) => `${url}&dialect=plain`);
      // They are young, and have nothing to forget.
      await excludeEachOther(members.map(({ place }) => place), `quorum:(${ours})?cold_start=1`);
    } finally {
      for (const member of members) member.stop();
    }
  });

  it('worker_threads', async () => {
    const counter = path.join(folder, 'counter');
    fs.writeFileSync(counter, '0');
    const { status, out } = await start(blocks('workers')[0], folder, undefined, counter).ended;
    assert.deepEqual([status, out, fs.readFileSync(counter, 'utf8')], [0, '', '200']);
  });

  it('one worker of a cluster', async () => {
    const ticks = path.join(folder, 'ticks');
    fs.writeFileSync(ticks, '');
    const pids = () => fs.readFileSync(ticks, 'utf8').split('\n').filter(Boolean).map(Number);
    const program = start(blocks('workers')[1], folder, undefined, ticks);
    try {
      const [first] = await until(() => pids().length > 2 && pids());
      process.kill(first, 'SIGKILL');
      const second = await until(() => pids().find((pid) => pid !== first));
      await until(() => pids().filter((pid) => pid === second).length > 2);
      assert.deepEqual([...new Set(pids())], [first, second]);
      assert.ok(pids().indexOf(second) > pids().lastIndexOf(first), 'two at once');
      assert.equal(program.out(), '');
    } finally {
      await program.stop();
    }
  });

  it('signals', async () => {
    const store = await Store.open(redis.url);
    const holder = start(blocks('workers')[2], folder, redis);
    try {
      await until(() => holder.out() === 'alone\n');
      assert.equal(await store.tryAcquire('import'), null);
      holder.child.kill('SIGTERM');
      assert.deepEqual(await holder.ended, { status: 0, signal: null, out: 'alone\n' });
      await (await store.tryAcquire('import')).release();
    } finally {
      await holder.stop();
    }
  });
});
