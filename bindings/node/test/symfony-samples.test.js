'use strict';

// The samples in symfony-samples/, and what Symfony's documentation promises of the stores that it names.

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { after, before, describe, it } = require('node:test');
const synlock = require('..');
const { LockFactory } = require('synlock/symfony');
const { PATIENCE, startRedis, startServices, until, name, setups } = require('./support.js');

const SAMPLES = path.join(__dirname, 'symfony-samples');
/** With time for a server that the machine lets wait. */
const PATIENT = 'connect_timeout=60000&io_timeout=60000';
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-node-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Where the package is, for files elsewhere. */
const IMPORTS = { "'synlock/symfony'": '../symfony.mjs', "'synlock'": '../index.mjs' };

/** Runs a sample with the given parts of its text replaced; what it exports. */
async function run(sample, changes = {}, application = '') {
  let text = fs.readFileSync(path.join(SAMPLES, `${sample}.mjs`), 'utf8');
  for (const [old, changed] of Object.entries(changes)) {
    assert.ok(text.includes(old), old);
    text = text.replaceAll(old, changed);
  }
  for (const [old, file] of Object.entries(IMPORTS)) text = text.replaceAll(old, `'${pathToFileURL(path.join(__dirname, file))}'`);
  const place = fs.mkdtempSync(path.join(folder, 'sample-'));
  fs.writeFileSync(path.join(place, 'application.mjs'), application);
  const file = path.join(place, `${sample}.mjs`);
  fs.writeFileSync(file, text);
  return import(pathToFileURL(file));
}

/** What the samples go on from. */
const application = (url) => `
  import { LockFactory } from '${pathToFileURL(path.join(__dirname, '../symfony.mjs'))}';
  export const factory = new LockFactory('${url}');
  const end = performance.now() + 500;
  export const isFinished = () => performance.now() >= end;
  export const task = () => new Promise((resolve) => setTimeout(resolve, 50));`;

async function works(factory, resource = 'sample') {
  const lock = factory.createLock(resource, 30_000);
  const other = factory.createLock(resource, 30_000);
  assert.deepEqual([await lock.acquire(false), await other.acquire(false), await lock.isAcquired()], [true, false, true]);
  await lock.refresh();
  await lock.release();
  // Of several servers, the last may hear of a release a little later.
  assert.equal(await other.acquire(true, { timeout: PATIENCE }), true);
  await other.release();
}

for (const [kind, setup] of Object.entries(setups)) {
  describe(`symfony's samples, ${kind}`, () => {
    let server;
    before(async () => {
      server = await setup();
    });
    after(() => server.stop());

    it('expiring locks', async () => {
      const { lock } = await run('03-expiring', {}, application(server.url));
      assert.equal(await lock.isAcquired(), false);
    });

    it('refreshing', async () => {
      const { lock } = await run('04-refreshing', {}, application(server.url));
      assert.equal(await lock.isAcquired(), false);
      assert.equal(await lock.acquire(false), true);
      await lock.release();
    });

    it('another TTL', async () => {
      const { lock } = await run('05-another-ttl', {}, application(server.url));
      if (kind === 'flock') {
        assert.equal(lock.getRemainingLifetime(), null);
      } else {
        assert.ok(lock.getRemainingLifetime() > 540_000 && lock.getRemainingLifetime() <= 600_000);
        // "next refresh() call will be 30 seconds again"
        await lock.refresh();
        assert.ok(lock.getRemainingLifetime() > 0 && lock.getRemainingLifetime() <= 30_000);
      }
      assert.deepEqual([await lock.isAcquired(), lock.isExpired()], [true, false]);
      await lock.release();
    });

    it('a more robust code', async () => {
      const { lock } = await run('13-robust', {}, application(server.url));
      assert.deepEqual([await lock.isAcquired(), lock.isExpired()], [true, false]);
      await lock.release();
    });
  });
}

describe("symfony's samples", () => {
  let servers;
  before(async () => {
    servers = await startServices('redis', 'memcached', 'mariadb', 'postgres', 'zookeeper');
  });
  after(() => servers.stop());

  it('every one is run', () => {
    const code = fs.readFileSync(__filename, 'utf8');
    const names = fs.readdirSync(SAMPLES).filter((file) => file.endsWith('.mjs'));
    assert.equal(names.length, 13);
    for (const file of names) assert.ok(code.includes(`run('${path.basename(file, '.mjs')}'`), file);
  });

  it('usage', async () => {
    const { factory, lock } = await run('01-usage', { "'semaphore'": `'sysv:${name()}'` });
    assert.equal(await lock.isAcquired(), false);
    await works(factory);
  });

  it('blocking locks', async () => {
    const url = `redis://${servers.redis}?${PATIENT}`;
    const factory = new LockFactory(url);
    const holder = factory.createLock('notification-flush');
    await holder.acquire();
    const sample = run('02-blocking', { 'redis://localhost:6379': url });
    await until(async () => (await factory.store.inspect('notification-flush')).waiters === 1, 'the sample waits');
    await holder.release();
    const { lock } = await sample;
    assert.equal(await lock.isAcquired(), true);
    assert.equal(await holder.acquire(false), false);
    await lock.release();
  });

  it('flock', async () => {
    const { TMPDIR } = process.env;
    process.env.TMPDIR = fs.mkdtempSync(path.join(folder, 'flock-'));
    try {
      await works((await run('06-flock')).factory);
      assert.ok(fs.readdirSync(process.env.TMPDIR).length > 0);
    } finally {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = TMPDIR;
    }
  });

  it('memcached', async () => {
    const url = `memcached://${servers.memcached}?${PATIENT}`;
    await works((await run('07-memcached', { 'memcached://localhost:11211': url })).factory);
  });

  for (const engine of ['mariadb', 'postgres', 'sqlite']) {
    it(`a database, ${engine}`, async () => {
      const url = {
        mariadb: `mysql://locker@${servers.mariadb}/test?table=of_the_samples&${PATIENT}`,
        postgres: `postgres://postgres@${servers.postgres}/postgres?table=of_the_samples&${PATIENT}`,
        sqlite: `sqlite:${folder}/locks.db`,
      }[engine];
      const { factory } = await run('08-pdo', { 'mysql://myuser:mypassword@127.0.0.1/lock': url });
      await works(factory);
      // It is there, and stays.
      await factory.store.createTable();
    });
  }

  it('a table that cannot be made is told of', async () => {
    const { store } = new LockFactory(`mysql://locker@${servers.mariadb}/nowhere?${PATIENT}`);
    await assert.rejects(store.createTable(), synlock.SynlockError);
  });

  it('redis', async () => {
    await works((await run('09-redis', { 'redis://localhost': `redis://${servers.redis}?${PATIENT}` })).factory);
  });

  it('semaphore', async () => {
    await works((await run('10-semaphore', { "'semaphore'": `'sysv:${name()}'` })).factory);
  });

  it('combined', async () => {
    const three = await Promise.all([startRedis(), startRedis(), startRedis()]);
    try {
      // A server that is gone is asked for as long as a connection may take.
      const places = three.map(({ place }) => `${place.slice('redis://'.length)}?io_timeout=3000`);
      const changes = Object.fromEntries(places.map((place, i) => [`server${i + 1}`, place]));
      // Servers that have just been started might have forgotten a holder.
      const { factory, unanimous } = await run('11-combined', { ...changes, '(${stores})`': '(${stores})?cold_start=1`' });
      await works(factory);
      await works(unanimous, 'of all');
      const one = new LockFactory(three[0].url).createLock('taken at one');
      assert.equal(await one.acquire(false), true);
      assert.equal(await unanimous.createLock('taken at one').acquire(false), false, 'all have to grant');
      await one.release();
      three[2].stop();
      const lock = factory.createLock('two of three');
      assert.equal(await lock.acquire(false), true);
      await lock.release();
      await assert.rejects(unanimous.createLock('two of three').acquire(false), synlock.SynlockError);
      three[1].stop();
      await assert.rejects(factory.createLock('one of three').acquire(false), synlock.SynlockError);
    } finally {
      for (const server of three) server.stop();
    }
  });

  it('zookeeper', async () => {
    const url = `zookeeper://${servers.zookeeper}?${PATIENT}`;
    await works((await run('12-zookeeper', { "('zookeeper://localhost:2181');": `('${url}');` })).factory);
  });
});
