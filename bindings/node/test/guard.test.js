'use strict';

// Request guards, and over HTTP in Node's own server, Express, Fastify and Koa.

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { Readable } = require('node:stream');
const { after, before, describe, it } = require('node:test');
const synlock = require('..');
const { Guards, Held, Policy, Refused, heldBy } = require('synlock/guard');
const { startRedis, shmUrl, script, sleep, until, name: fresh } = require('./support.js');

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

// ---- over HTTP

const RULES = {
  open: [],
  block: { name: 'x_{id}' },
  leased: { name: 'x_{id}', ttl: 600_000 },
  later: { name: 'x_{id}', status: 409, message: 'later' },
  queue: { name: 'x_{id}', mode: 'queue', maxWait: 60_000 },
  hasty: { name: 'x_{id}', mode: 'queue', maxWait: 50 },
  steady: { name: 'x_{id}', mode: 'queue', maxWait: 5_000 },
  check: { name: 'x_{id}', mode: 'check' },
  force: { name: 'x_{id}', mode: 'force', ttl: 600_000, label: 'the boss' },
  two: [{ name: 'y_{id}' }, { name: 'x_{id}' }],
  twice: [{ name: 'x_{id}' }, { name: 'x_{id}', mode: 'queue' }],
  own: { name: 'x_{id}', userIsolation: true },
  shared: { name: 'x_{id}', userIsolation: true, anonymous: 'share' },
  session: { name: 'x_{id}', userIsolation: true, anonymous: 'session' },
  end: { name: 'x_{id}', release: 'terminate' },
  unnamed: {},
};

/** The handlers that are inside, by key. */
const visits = new Map();
function visit(key) {
  if (!visits.has(key)) {
    const one = {};
    one.inside = new Promise((resolve) => (one.enter = resolve));
    one.go = new Promise((resolve) => (one.letGo = resolve));
    one.done = new Promise((resolve) => (one.end = resolve));
    visits.set(key, one);
  }
  return visits.get(key);
}

let alone = 0;
const order = [];

/** What a handler does, whatever it is written for: status, body, headers. */
async function work(url, held) {
  const query = new URL(url, 'http://x').searchParams;
  const key = query.get('key');
  const here = visit(key);
  here.enter();
  const task = query.get('do');
  if (task === 'wait') {
    await here.go;
    try {
      for (const { lock } of held.all) await lock?.ensureHeld();
    } catch (error) {
      if (error.code !== 'SYNLOCK_LOST') throw error;
      return { status: 409, body: error.message };
    }
  } else if (task === 'alone') {
    assert.equal(++alone, 1);
    await sleep(5);
    alone--;
    order.push(key);
  } else if (task === 'throw') {
    throw new RangeError('asked to');
  } else if (task === 'empty') {
    return { status: 204 };
  } else if (task !== 'answer') {
    const pieces = async function* () {
      yield Buffer.from('first');
      if (task === 'drip') for (;;) yield await sleep(2, Buffer.alloc(1000)).then(() => Buffer.alloc(1000));
      await here.go;
      yield Buffer.from('last!');
      // The client has it all, and this goes on.
      if (task === 'sized') await here.done;
    };
    return { status: 200, headers: task === 'sized' ? { 'Content-Length': '10' } : {}, body: Readable.from(pieces(), { objectMode: false }) };
  }
  return { status: 200, body: held.all.map(({ name }) => name).join() };
}

const user = ({ headers }) => (headers['x-user'] ? { id: headers['x-user'] } : null);
const wordsOf = (url) => new URL(url, 'http://x').pathname.split('/').slice(1);

const apps = {
  http(guards) {
    const listener = async (request, response) => {
      try {
        const { status, headers, body } = await work(request.url, heldBy(request));
        response.writeHead(status, headers);
        if (body instanceof Readable) body.pipe(response).on('close', () => body.destroy());
        else response.end(body);
      } catch {
        response.writeHead(500).end();
      }
    };
    const describe = (request) => {
      const { pathname } = new URL(request.url, 'http://x');
      return { route: 'app', path: decodeURI(pathname), params: { id: wordsOf(request.url)[1] }, user: user(request), session: request.headers['x-session'] };
    };
    const guarded = guards.http((request) => RULES[wordsOf(request.url)[0]], listener, { describe });
    const server = http.createServer((request, response) => guarded(request, response).catch(() => response.writeHead(500).end()));
    return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
  },

  express(guards) {
    const express = require('express');
    const app = express();
    app.use((request, response, next) => {
      // As express-session does.
      request.sessionID = request.headers['x-session'];
      next();
    });
    for (const [name, rules] of Object.entries(RULES)) {
      app.get(`/${name}/:id`, guards.express(rules, { user }), async (request, response) => {
        const { status, headers = {}, body = '' } = await work(request.url, heldBy(request));
        response.status(status).set(headers);
        if (body instanceof Readable) body.pipe(response).on('close', () => body.destroy());
        else response.send(body);
      });
    }
    app.use((error, request, response, next) => response.status(500).end());
    return new Promise((resolve) => {
      const server = app.listen(0, '127.0.0.1', () => resolve(server));
    });
  },

  async fastify(guards) {
    const app = require('fastify')();
    for (const [name, rules] of Object.entries(RULES)) {
      app.get(`/${name}/:id`, { preHandler: guards.fastify(rules, { user }) }, async (request, reply) => {
        const { status, headers = {}, body } = await work(request.raw.url, heldBy(request));
        return reply.code(status).headers(headers).send(body);
      });
    }
    await app.listen({ port: 0, host: '127.0.0.1' });
    return app.server;
  },

  koa(guards) {
    const Koa = require('koa');
    const app = new Koa();
    app.silent = true;
    const byName = Object.fromEntries(Object.entries(RULES).map(([name, rules]) => [name, guards.koa(rules, { user })]));
    app.use(async (context, next) => {
      const [name, id] = wordsOf(context.url);
      context.params = { id };
      context._matchedRoute = `/${name}/:id`;
      return byName[name](context, next);
    });
    app.use(async (context) => {
      const { status, headers = {}, body } = await work(context.url, heldBy(context));
      context.status = status;
      if (body !== undefined) context.body = body;
      context.set(headers);
    });
    return new Promise((resolve) => {
      const server = app.listen(0, '127.0.0.1', () => resolve(server));
    });
  },
};

for (const [kind, setup] of Object.entries({ shm: shmUrl, redis: startRedis })) {
  for (const [framework, start] of Object.entries(apps)) {
    describe(`guards over HTTP, ${framework}, ${kind}`, () => {
      let backing;
      let server;
      let store;
      let keys = 0;
      before(async () => {
        backing = await setup();
        const guards = new Guards(backing.url);
        store = guards.store();
        server = await start(guards);
      });
      after(() => {
        server.closeAllConnections();
        server.close();
        backing.stop();
      });

      /** A request under way. */
      function ask(policy, id, { do: task = 'answer', key = `${framework}-${kind}-${++keys}`, headers = {} } = {}) {
        const request = http.get({
          host: '127.0.0.1', port: server.address().port, path: `/${policy}/${id}?do=${task}&key=${key}`, headers, agent: false,
        });
        const response = new Promise((resolve, reject) => request.on('response', resolve).on('error', reject));
        // One that hangs up is not answered.
        response.catch(() => {});
        const answer = async () => {
          const got = await response;
          const body = [];
          for await (const piece of got) body.push(piece);
          return { status: got.statusCode, headers: got.headers, body: Buffer.concat(body).toString() };
        };
        return { ...visit(key), key, request, response, answer };
      }
      const status = async (...words) => (await ask(...words).answer()).status;
      async function hold(policy, id, more) {
        const one = ask(policy, id, { do: 'wait', ...more });
        await Promise.race([one.inside, one.response.then((got) => assert.fail(`answered ${got.statusCode}`))]);
        return one;
      }
      /** Exactly so many bytes. */
      async function read(response, size) {
        let piece;
        await until(() => (piece = response.read(size)) !== null, `${size} bytes`);
        return piece.toString();
      }
      const free = (name) => until(async () => !(await store.isLocked(name)), `${name} is free`);

      it('block lets exactly one in', async () => {
        const one = await hold('leased', 'b');
        const others = await Promise.all(Array.from({ length: 7 }, () => ask('leased', 'b').answer()));
        for (const { status: code, headers, body } of others) {
          assert.deepEqual([code, body, headers['cache-control']], [423, 'Resource is not available at this moment.', 'no-store']);
          assert.ok(headers['retry-after'] > 0 && headers['retry-after'] <= 600, headers['retry-after']);
        }
        assert.equal(await status('leased', 'other'), 200);
        const later = await ask('later', 'b').answer();
        assert.deepEqual([later.status, later.body], [409, 'later']);
        one.letGo();
        const { status: code, body } = await one.answer();
        assert.deepEqual([code, body], [200, 'x_b']);
        assert.equal(await status('leased', 'b'), 200);
      });

      it('requests at once never meet inside', async () => {
        for (const policy of ['block', 'queue']) {
          const all = Array.from({ length: 12 }, () => ask(policy, 'alone', { do: 'alone' }).answer());
          const seen = (await Promise.all(all)).map(({ status: code }) => code);
          assert.ok(seen.includes(200));
          assert.ok(seen.every((code) => code === 200 || (policy === 'block' && code === 423)), String(seen));
        }
      });

      it('queue serves all in their order, and the loop goes on', async () => {
        const all = [await hold('queue', 'q')];
        order.length = 0;
        for (let number = 1; number <= 6; number++) {
          all.push(ask('queue', 'q', { do: 'alone', key: `${framework}-${kind}-q${number}` }));
          await until(async () => (await store.inspect('x_q')).waiters === number, `${number} waits`);
        }
        // Six wait, and libuv's four threads are free.
        await fs.promises.readFile(__filename);
        all[0].letGo();
        for (const one of all) assert.equal((await one.answer()).status, 200);
        assert.deepEqual(order, [1, 2, 3, 4, 5, 6].map((number) => `${framework}-${kind}-q${number}`));
      });

      it('queue is bounded', async () => {
        const one = await hold('block', 'w');
        // A server may take longer than that to say that it is taken.
        let hasty = await ask('hasty', 'w').answer();
        if (hasty.status === 500) hasty = await ask('steady', 'w').answer();
        assert.equal(hasty.status, 423);
        if (kind === 'shm') assert.equal(hasty.headers['retry-after'], undefined, 'no lease, no end that is known');
        one.letGo();
        assert.equal((await one.answer()).status, 200);
      });

      it('whoever hangs up in the queue leaves it', async () => {
        const one = await hold('block', 'l');
        const gone = ask('queue', 'l');
        await until(async () => (await store.inspect('x_l')).waiters === 1, 'it waits');
        gone.request.destroy();
        await until(async () => (await store.inspect('x_l')).waiters === 0, 'it waits no more');
        one.letGo();
        assert.equal((await one.answer()).status, 200);
      });

      it('check lets in without acquiring', async () => {
        const check = await hold('check', 'c');
        assert.equal(await store.isLocked('x_c'), false);
        assert.equal(await status('check', 'c'), 200);
        const one = await hold('block', 'c');
        assert.equal(await status('check', 'c'), 423);
        check.letGo();
        one.letGo();
        assert.deepEqual([(await check.answer()).status, (await one.answer()).status], [200, 200]);
      });

      it('force takes over, and the victim is told by whom', async () => {
        // The lock that is lost before it is released is warned of.
        const victim = await hold('leased', 'f');
        const boss = await hold('force', 'f');
        const warnings = [];
        const hear = ({ message }) => warnings.push(message);
        process.on('warning', hear);
        victim.letGo();
        const { status: code, body } = await victim.answer();
        assert.equal(code, 409);
        assert.ok(body.includes(`broken by the boss, pid ${process.pid}, host ${os.hostname()}`), body);
        await until(() => warnings.some((words) => words.includes('the lock "x_f" of a request')), 'it is warned of');
        process.off('warning', hear);
        assert.equal(await status('block', 'f'), 423, "the victim has released nothing of the boss's");
        boss.letGo();
        assert.equal((await boss.answer()).status, 200);
      });

      it('isolated users', async () => {
        const bob = await hold('own', 'u', { headers: { 'X-User': 'bob', 'X-Session': 'one' } });
        assert.equal(await status('own', 'u', { headers: { 'X-User': 'bob', 'X-Session': 'two' } }), 423);
        assert.equal(await status('own', 'u', { headers: { 'X-User': 'eve' } }), 200);
        assert.equal(await status('own', 'u'), 500, 'nobody');
        const shared = await hold('shared', 'u');
        assert.equal(await status('shared', 'u'), 423);
        bob.letGo();
        shared.letGo();
        assert.deepEqual([(await bob.answer()).status, (await shared.answer()).status], [200, 200]);
        const session = { headers: { 'X-Session': 'one' } };
        // The others have no sessions here: it is said, not shared in silence.
        assert.equal(await status('session', 'u', session), ['http', 'express'].includes(framework) ? 200 : 500);
      });

      for (const [task, expected] of Object.entries({ answer: 200, empty: 204, throw: 500 })) {
        it(`free with the last byte, ${task}`, async () => {
          for (let i = 0; i < 20; i++) {
            assert.equal(await status('block', `r-${task}`, { do: task }), expected);
            assert.equal(await status('block', `r-${task}`), 200);
          }
        });
      }

      for (const task of ['stream', 'sized']) {
        it(`a streamed body is guarded to its end, ${task}`, async () => {
          const one = ask('block', `s-${task}`, { do: task });
          const response = await one.response;
          assert.equal(await read(response, 5), 'first');
          assert.equal(await status('block', `s-${task}`), 423);
          one.letGo();
          assert.equal(await read(response, 5), 'last!');
          if (task === 'sized') assert.equal(await status('block', `s-${task}`), 200);
          one.end();
          for await (const nothing of response) assert.fail(String(nothing));
          assert.equal(await status('block', `s-${task}`), 200);
        });
      }

      it('a client that hangs up', async () => {
        const one = ask('block', 'h', { do: 'drip' });
        assert.equal(await read(await one.response, 5), 'first');
        assert.equal(await status('block', 'h'), 423);
        one.request.destroy();
        await free('x_h');
      });

      it('terminate comes when the response is closed', async () => {
        assert.equal(await status('end', 't'), 200);
        await free('x_t');
      });

      it('the policies before one that refuses are let go of', async () => {
        const one = await hold('block', 'p');
        assert.equal(await status('two', 'p'), 423);
        assert.equal(await store.isLocked('y_p'), false);
        one.letGo();
        assert.equal((await one.answer()).status, 200);
        assert.equal((await ask('two', 'p').answer()).body, 'y_p,x_p');
        assert.equal((await ask('twice', 'p').answer()).body, 'x_p', 'what it has it does not wait for');
        assert.deepEqual(await status('open', 'p'), 200);
      });

      if (kind === 'shm') {
        it('a store that is out of reach is no answer of 200', async () => {
          const guards = new Guards('redis://127.0.0.1:1?connect_timeout=100');
          const other = await start(guards);
          try {
            const request = http.get({ host: '127.0.0.1', port: other.address().port, path: '/block/1?do=answer&key=none', agent: false });
            const response = await new Promise((resolve, reject) => request.on('response', resolve).on('error', reject));
            assert.equal(response.statusCode, 500);
            response.resume();
          } finally {
            other.closeAllConnections();
            other.close();
          }
        });
      }

      it('without a template the name is route and path', async () => {
        assert.match((await ask('unnamed', '%41b').answer()).body, / \/unnamed\/Ab$/);
      });

      if (framework === 'koa' || framework === 'http') {
        it('a handler whose client is gone holds on until it has ended', async () => {
          const one = await hold('block', 'g');
          const closed = new Promise((resolve) => server.once('request', (_, response) => response.once('close', resolve)));
          one.request.destroy();
          await status('open', 'g');
          await closed;
          assert.equal(await status('block', 'g'), 423);
          one.letGo();
          await free('x_g');
        });
      }
    });
  }
}

it('guards: a killed process', async () => {
  const backing = shmUrl();
  const source = `
    const { Guards } = require(process.env.SYNLOCK + '/guard.js');
    require('node:http').createServer(new Guards(process.argv[1]).http({ name: 'k' }, () => console.log('inside')))
      .listen(0, '127.0.0.1', function () { console.log(this.address().port); });`;
  const child = spawn(process.execPath, ['-e', source, backing.url], {
    env: { ...process.env, SYNLOCK: path.join(__dirname, '..') }, stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (data) => (out += data));
  try {
    await until(() => out.includes('\n'), 'it listens');
    http.get({ host: '127.0.0.1', port: parseInt(out, 10) }).on('error', () => {});
    await until(() => out.includes('inside'), 'it holds');
    const store = new synlock.Store(backing.url);
    assert.equal(await store.isLocked('k'), true);
    child.kill('SIGKILL');
    await until(async () => !(await store.isLocked('k')), 'it is free');
  } finally {
    child.kill('SIGKILL');
    backing.stop();
  }
});
