'use strict';

// `synlock/symfony`. The samples of Symfony's documentation: symfony-samples.test.js.

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const synlock = require('..');
const { Key, LockFactory } = require('synlock/symfony');
const { setFlagsFromString } = require('node:v8');
const { runInNewContext } = require('node:vm');
const { PATIENCE, startRedis, script, briefly, until, name, setups } = require('./support.js');

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc');
/** Collects what nobody has; undefined. */
const collect = () => void gc();

const code = (wanted) => (error) => error instanceof synlock.SynlockError && error.code === `SYNLOCK_${wanted}`;
for (const [kind, setup] of Object.entries(setups)) {
  describe(`symfony, ${kind}`, () => {
    let server;
    let factory;
    before(async () => {
      server = await setup();
      factory = new LockFactory(server.url);
    });
    after(() => server.stop());

    // Two samples of the documentation, on every store.

    it('usage', async () => {
      let done = false;
      const lock = factory.createLock('pdf-invoice-generation');
      if (await lock.acquire(false)) {
        // The resource "pdf-invoice-generation" is locked.
        // You can compute and generate invoice safely here.
        done = true;
        await lock.release();
      }
      assert.ok(done);
    });

    it('asked several things at once, it answers each', async () => {
      const lock = factory.createLock('at once', 30_000);
      await lock.acquire();
      const answers = await Promise.all([lock.isAcquired(), lock.isAcquired(), lock.refresh(), lock.acquire(), lock.refresh(), lock.isAcquired()]);
      assert.deepEqual(answers, [true, true, undefined, true, undefined, true]);
      const [, after, again] = await Promise.all([lock.release(), lock.isAcquired(), lock.acquire(false), lock.release(), lock.release()]);
      assert.deepEqual([after, again], [false, true]);
      await lock.release();
      assert.equal(await lock.isAcquired(), false);
    });

    it('blocking locks', async () => {
      const holder = factory.createLock('notification-flush');
      await holder.acquire();
      setTimeout(() => holder.release(), 20);
      const lock = factory.createLock('notification-flush');
      assert.equal(await lock.acquire(true), true);
      await lock.release();
    });

    // What the documentation says around them.

    it('acquire can be called repeatedly, and instances are told apart', async () => {
      const lock = factory.createLock('repeated');
      const other = factory.createLock('repeated');
      assert.deepEqual(await Promise.all([lock.acquire(), lock.acquire(), lock.acquire(true, { timeout: PATIENCE })]), [true, true, true]);
      assert.equal(await other.acquire(false), false);
      assert.equal(await briefly((timeout) => other.acquire(true, { timeout })), false);
      assert.deepEqual([await lock.isAcquired(), await other.isAcquired()], [true, false]);
      await other.release();
      assert.equal(await lock.isAcquired(), true);
      await lock.release();
      await lock.release();
      assert.equal(await other.acquire(false), true);
      await other.release();
    });

    it('a bare acquire waits, as in Node', async () => {
      const first = factory.createLock('bare');
      for (const bare of [(lock) => lock.acquire(), (lock) => lock.acquireRead()]) {
        const lock = factory.createLock('bare');
        await first.acquire(false);
        let got;
        const waiting = bare(lock).then((granted) => (got = granted));
        await until(async () => (await factory.store.inspect('bare')).waiters === 1, 'it waits');
        assert.equal(got, undefined);
        await first.release();
        await waiting;
        assert.deepEqual([got, await lock.isAcquired()], [true, true]);
        await lock.release();
      }
    });

    it('a TTL that is over ends the hold, though the lease was longer', async () => {
      if (kind === 'flock') return;
      const [lock, other] = [factory.createLock('over', 30_000), factory.createLock('over', 30_000)];
      assert.equal(await lock.acquire(false), true);
      await lock.refresh(600_000);
      await lock.refresh(200);
      await until(() => lock.isExpired(), 'it is over');
      assert.equal(lock.getRemainingLifetime(), 0);
      assert.equal(await other.acquire(false), false, 'a lease is never shortened');
      await assert.rejects(lock.refresh(), code('LOST'));
      assert.equal(await lock.isAcquired(), false);
      assert.equal(await other.acquire(false), true, 'what was over is given back');
      await other.release();
      // An acquire begins anew.
      assert.equal(await lock.acquire(false), true);
      await lock.refresh(600_000);
      assert.equal(await lock.acquire(false), true);
      assert.ok(lock.getRemainingLifetime() <= 30_000);
      await lock.refresh(600_000);
      await lock.release();
      assert.equal(await lock.acquire(false), true);
      assert.ok(lock.getRemainingLifetime() <= 30_000);
      await lock.release();
    });

    it('a lock of a key frees what it has acquired, and nothing else', async () => {
      const key = new Key('one of two');
      const holder = factory.createLockFromKey(key);
      const other = factory.createLock('one of two');
      assert.equal(await holder.acquire(false), true);
      const collected = [];
      const seen = new FinalizationRegistry((word) => collected.push(word));
      // In functions of their own, whose variables are gone with them.
      await (async () => {
        const idle = factory.createLockFromKey(key);
        seen.register(idle, 'idle');
        assert.equal(await idle.isAcquired(), true);
      })();
      await until(() => collect() || collected.includes('idle'), 'the idle one is collected');
      assert.deepEqual([await holder.isAcquired(), await other.acquire(false)], [true, false]);
      await holder.release();
      await (async () => {
        const own = factory.createLockFromKey(key);
        assert.equal(await own.acquire(false), true);
      })();
      await until(async () => collect() || (await other.acquire(false)), 'what was acquired is freed');
      await other.release();
    });

    it('a wait can be aborted', async () => {
      const holder = factory.createLock('aborted');
      await holder.acquire();
      const lock = factory.createLock('aborted');
      await assert.rejects(lock.acquire(true, { signal: AbortSignal.timeout(20) }));
      await holder.release();
      assert.equal(await lock.acquire(), true);
      await lock.release();
    });

    it('an acquire waits for others of its key no longer than it may', async () => {
      const holder = factory.createLock('in turn');
      await holder.acquire();
      const key = new Key('in turn');
      const [first, second] = [factory.createLockFromKey(key), factory.createLockFromKey(key)];
      const waiting = first.acquire();
      const behind = second.acquire();
      assert.equal(await second.acquire(false), false);
      assert.equal(await second.acquireRead(false), false);
      assert.equal(await second.acquire(true, { timeout: 20 }), false);
      await assert.rejects(second.acquire(true, { signal: AbortSignal.timeout(20) }), code('CANCELLED'));
      await assert.rejects(second.acquire(true, { signal: AbortSignal.abort() }), code('CANCELLED'));
      await assert.rejects(second.acquire(true, { timeout: -1 }), code('INVALID_ARGUMENT'));
      await holder.release();
      assert.deepEqual(await Promise.all([waiting, behind]), [true, true]);
      assert.deepEqual(await Promise.all([first.acquire(false), second.acquire(false), second.acquireRead(false)]), [true, true, true]);
      await first.release();
      assert.deepEqual(await Promise.all([first.acquire(false), second.acquire(false), second.acquire(false)]), [true, true, true]);
      await first.release();
      assert.equal(await holder.isAcquired(), false);
    });

    it('a reader that waits to be the only one can be aborted, and asked', async () => {
      const key = new Key('abort a reader');
      const [reader, same, other] = [factory.createLockFromKey(key), factory.createLockFromKey(key), factory.createLock('abort a reader')];
      assert.deepEqual([await reader.acquireRead(), await other.acquireRead()], [true, true]);
      await assert.rejects(reader.acquire(true, { signal: AbortSignal.timeout(20) }), code('CANCELLED'));
      assert.equal(await reader.acquire(true, { timeout: 20 }), false);
      let waiting = reader.acquire();
      assert.deepEqual([await same.isAcquired(), await same.acquire(false)], [true, false]);
      await other.release();
      assert.equal(await waiting, true);
      assert.equal(await other.acquireRead(false), false);
      // Given back meanwhile, it is taken anew.
      assert.deepEqual([await reader.acquireRead(), await other.acquireRead()], [true, true]);
      waiting = reader.acquire();
      await same.isAcquired();
      await same.release();
      await other.release();
      assert.equal(await waiting, true);
      assert.equal(await other.acquire(false), false);
      await reader.release();
    });

    it('readers', async () => {
      const [a, b, writer] = [1, 2, 3].map(() => factory.createLock('read'));
      assert.deepEqual([await a.acquireRead(), await b.acquireRead()], [true, true]);
      assert.equal(await writer.acquire(false), false);
      assert.equal(await a.acquire(false), false, 'another reads');
      assert.equal(await a.isAcquired(), true);
      await b.release();
      assert.equal(await a.acquire(false), true, 'the only reader becomes the writer');
      assert.equal(await b.acquireRead(false), false);
      assert.deepEqual([await a.acquireRead(), await b.acquireRead(false)], [true, true]);
      await a.release();
      await b.release();
    });

    it('a lock that is lost', async () => {
      const lock = factory.createLock('lost', 30_000);
      await assert.rejects(lock.refresh(), code('NOT_HELD'));
      await lock.acquire();
      await factory.store.breakLock('lost');
      await assert.rejects(lock.refresh(), code('LOST'));
      assert.deepEqual([await lock.isAcquired(), lock.isExpired()], [false, true]);
      await lock.release();
      assert.equal(await lock.acquire(false), true);
      await lock.release();
    });

    it('without a TTL', async () => {
      const lock = factory.createLock('no ttl', null);
      await lock.acquire();
      await assert.rejects(lock.refresh(), code('INVALID_ARGUMENT'));
      await lock[Symbol.asyncDispose]();
      assert.equal(await lock.isAcquired(), false);
    });
  });
}

describe('symfony', () => {
  it('a store is taken as well as a URL, and both kinds of import', async () => {
    const store = new synlock.Store(`memory:${name()}`);
    assert.equal(new LockFactory(store).store, store);
    assert.equal((await import('synlock/symfony')).LockFactory, LockFactory);
  });

  it('a store without readers takes them for writers', async () => {
    const factory = new LockFactory(`sysv:${name()}`);
    const reader = factory.createLock('read');
    assert.equal(await reader.acquireRead(), true);
    assert.equal(await factory.createLock('read').acquireRead(false), false);
    await reader.release();
  });

  it('a quorum grants the default TTL', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-node-'));
    try {
      const members = ['a', 'b', 'c'].map((member) => `sqlite:${folder}/${member}.db`);
      const lock = new LockFactory(`quorum:(${members})`).createLock('quorum');
      assert.equal(await lock.acquire(false), true);
      assert.ok(lock.getRemainingLifetime() > 250_000);
      await lock.release();
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  });

  it('without automatic release a lease stays', async () => {
    const server = await startRedis();
    try {
      const done = await script(`const { Key, LockFactory } = require(process.env.SYNLOCK + '/symfony.js');
        new LockFactory(process.argv[1]).createLock('kept', 30000, false).acquire();`, server.url);
      assert.equal(done.code, 0, done.err);
      assert.equal(await new LockFactory(server.url).createLock('kept').acquire(false), false);
    } finally {
      server.stop();
    }
  });
});

describe('keys', () => {
  let server;
  before(async () => {
    server = await startRedis();
  });
  after(() => server.stop());

  for (const kind of ['memory', 'redis']) {
    it(`locks of one key are one owner, ${kind}`, async () => {
      const factory = new LockFactory(kind === 'redis' ? server.url : `memory:${name()}`);
      const key = new Key(name());
      const [one, two, other] = [factory.createLockFromKey(key), factory.createLockFromKey(key, 600_000), factory.createLock(key.resource)];
      assert.ok((await one.acquire(false)) && (await two.isAcquired()) && (await two.acquire(false)) && !(await other.acquire(false)));
      assert.ok(one.getRemainingLifetime() > 500_000);
      await two.release();
      assert.ok(!(await one.isAcquired()) && (await other.acquire(false)));
      await other.release();
      assert.equal(`${key} ${new Key(Buffer.from('bytes'))}`, `${key.resource} bytes`);
    });
  }

  it('a key as JSON hands its hold over', async () => {
    const factory = new LockFactory(server.url);
    const key = new Key(name());
    const lock = factory.createLockFromKey(key, 60_000);
    assert.ok(await lock.acquire(false));
    const sent = JSON.stringify({ key });
    const worker = `
      const { Key, LockFactory } = require(process.env.SYNLOCK + '/symfony.js');
      (async () => {
        const [url, sent] = process.argv.slice(1);
        const lock = new LockFactory(url).createLockFromKey(Key.from(JSON.parse(sent).key), 60_000, false);
        const [held, again] = [await lock.isAcquired(), await lock.isAcquired()];
        await lock.refresh(120_000);
        console.log(held, again);
      })();`;
    const { out, err } = await script(worker, server.url, sent);
    assert.equal(out, 'true true\n', err);
    // Whoever comes second has nothing, and is told so.
    await assert.rejects(lock.refresh(), code('LOST'));
    assert.deepEqual([await lock.isAcquired(), lock.isExpired(), await lock.acquire(false)], [false, true, false]);
    const late = factory.createLockFromKey(Key.from(JSON.parse(sent).key));
    assert.deepEqual([await late.isAcquired(), late.isExpired()], [false, true]);
    await late.release();
    assert.equal(await factory.createLock(key.resource).acquire(false), false);
  });

  it('a key as JSON takes its last TTL along', async () => {
    const factory = new LockFactory(server.url);
    const key = new Key(name());
    const lock = factory.createLockFromKey(key, 30_000);
    assert.ok(await lock.acquire(false));
    await lock.refresh(600_000);
    await lock.refresh();
    const copy = factory.createLockFromKey(Key.from(JSON.stringify(key)), 30_000);
    assert.ok(await copy.isAcquired());
    assert.ok(copy.getRemainingLifetime() > 0 && copy.getRemainingLifetime() <= 31_000);
    await copy.release();
  });

  it('a key travels on', async () => {
    const factory = new LockFactory(server.url);
    const other = name();
    const keys = [new Key(other)];
    let lock = factory.createLockFromKey(keys[0], 60_000);
    assert.ok(await lock.acquire(false));
    for (let i = 0; i < 3; i++) {
      keys.unshift(Key.from(JSON.stringify(keys[0])));
      lock = factory.createLockFromKey(keys[0], 60_000);
      await lock.refresh();
      assert.ok(await lock.isAcquired());
      assert.equal(await factory.createLock(other).acquire(false), false);
    }
    for (const late of keys.slice(1)) assert.equal(await factory.createLockFromKey(late).isAcquired(), false);
    assert.ok(await lock.isAcquired());
    await lock.release();
    assert.equal(await factory.createLock(other).acquire(false), true);
  });

  it('a key as JSON that nobody took is still held', async () => {
    const factory = new LockFactory(server.url);
    const lock = factory.createLockFromKey(new Key(Buffer.from([255, 1])), 60_000);
    const other = factory.createLock(Buffer.from([255, 1]));
    const sender = factory.createLockFromKey(new Key('sent'), 60_000);
    assert.ok(await lock.acquire(false));
    assert.ok(await sender.acquire(false));
    await sender.release();
    assert.equal(await other.acquire(false), false);
    await lock.release();
    assert.ok(await other.acquire(false));
    await other.release();
    const key = new Key(Buffer.from([255, 1]));
    const mine = factory.createLockFromKey(key, 60_000);
    assert.ok(await mine.acquire(false));
    const copy = Key.from(JSON.stringify(key));
    assert.deepEqual(copy.resource, key.resource);
    assert.ok(await mine.isAcquired());
    assert.equal(await factory.createLockFromKey(copy).isAcquired(), false);
    await mine.release();
  });

  it('a hold that ends with its process is no JSON', async () => {
    const key = new Key('stays');
    const lock = new LockFactory(`memory:${name()}`).createLockFromKey(key);
    assert.ok(await lock.acquire(false));
    assert.throws(() => JSON.stringify(key), code('UNSUPPORTED'));
    assert.ok(await lock.isAcquired());
  });
});
