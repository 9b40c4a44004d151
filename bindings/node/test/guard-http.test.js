'use strict';

// Request guards over HTTP: the same application in Node's own server, Express, Fastify and Koa.

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { spawn } = require('node:child_process');
const { after, before, describe, it } = require('node:test');
const synlock = require('..');
const { Guards } = require('synlock/guard');
const { apps, order, visit } = require('./guarded.js');
const { startRedis, shmUrl, until } = require('./support.js');

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
      function ask(policy, id, { do: task = 'answer', key = `${framework}-${kind}-${++keys}`, headers = {}, method } = {}) {
        const request = http.request({
          host: '127.0.0.1', port: server.address().port, path: `/${policy}/${id}?do=${task}&key=${key}`, headers, method, agent: false,
        });
        request.end();
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

      it('of many at once block lets exactly one in', async () => {
        const all = Array.from({ length: 12 }, () => ask('block', 'once', { do: 'wait' }));
        const seen = [];
        for (const one of all) void one.answer().then(({ status: code }) => seen.push(code));
        await until(() => seen.length === 11, 'all but one are answered');
        for (const one of all) one.letGo();
        await until(() => seen.length === 12, 'the one is answered');
        assert.deepEqual(seen, [...Array(11).fill(423), 200]);
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
        let hasty = await ask('hasty', 'w').answer();
        // A server may take longer than that to say that it is taken.
        if (kind === 'redis' && hasty.status === 500) hasty = await ask('steady', 'w').answer();
        assert.equal(hasty.status, 423);
        const after = hasty.headers['retry-after'];
        if (kind === 'shm') assert.equal(after, undefined, 'no lease, no end that is known');
        else assert.ok(after > 0 && after <= 30, `the lease that is renewed: ${after}`);
        one.letGo();
        assert.equal((await one.answer()).status, 200);
      });

      it('whoever hangs up in the queue leaves it', async () => {
        const one = await hold('block', 'l');
        const gone = ask('patient', 'l');
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
        bob.letGo();
        assert.equal((await bob.answer()).status, 200);
      });

      it('an application that has no notion of users is refused isolation', async () => {
        const headers = { 'X-User': '?', 'X-Session': 'one' };
        for (const policy of ['own', 'shared', 'session', 'ip']) assert.equal(await status(policy, 'n', { headers }), 500, policy);
        assert.equal(await status('block', 'n', { headers }), 200);
      });

      for (const policy of ['shared', 'ip']) {
        it(`all anonymous requests of one machine have one lock: ${policy}`, async () => {
          const one = await hold(policy, 'a');
          assert.equal(await status(policy, 'a'), 423);
          assert.equal(await status(policy, 'a', { headers: { 'X-User': 'bob' } }), 200);
          one.letGo();
          assert.equal((await one.answer()).status, 200);
        });
      }

      it('each anonymous session has a lock of its own', async () => {
        const session = (of) => ({ headers: { 'X-Session': of } });
        // Koa has no sessions of its own: it is said, not shared in silence.
        if (framework === 'koa') return assert.equal(await status('session', 'u', session('one')), 500);
        const one = await hold('session', 'u', session('one'));
        assert.equal(await status('session', 'u', session('one')), 423);
        assert.equal(await status('session', 'u', session('two')), 200);
        assert.equal(await status('session', 'u'), 500, 'no session');
        one.letGo();
        assert.equal((await one.answer()).status, 200);
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

      it('a stream that breaks', async () => {
        const one = ask('block', 'broken', { do: 'broken' });
        const response = await one.response;
        assert.equal(await read(response, 5), 'first');
        assert.equal(await status('block', 'broken'), 423);
        one.letGo();
        await free('x_broken');
        await assert.rejects(response.toArray());
      });

      for (const [task, method] of [['stream', 'HEAD'], ['unchanged', 'GET']]) {
        it(`a stream that is not sent is over with its first piece: ${task}, ${method}`, async () => {
          const id = `${task}-${method}`;
          const one = ask('block', id, { do: task, method });
          await one.inside;
          await free(`x_${id}`);
          assert.equal(await status('block', id), 200);
          one.letGo();
          assert.equal((await one.answer()).body, '');
        });
      }

      it('terminate comes when the response is closed, not with its last byte', async () => {
        const one = ask('end', 't', { do: 'sized' });
        const response = await one.response;
        assert.equal(await read(response, 5), 'first');
        one.letGo();
        assert.equal(await read(response, 5), 'last!');
        assert.equal(await status('block', 't'), 423);
        one.end();
        await free('x_t');
      });

      if (framework === 'koa' || framework === 'http') {
        it('terminate comes when the handler has ended', async () => {
          const one = ask('end', 'e', { do: 'linger' });
          assert.equal((await one.answer()).body, 'out');
          assert.equal(await status('block', 'e'), 423);
          one.letGo();
          await free('x_e');
        });
      }

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

      for (const [how, end] of [
        ['hangs up', ({ request }) => request.destroy()],
        ['is timed out by the server', ({ response }) => assert.rejects(response)],
      ]) {
        it(`a handler at work whose client ${how}`, async () => {
          const closed = new Promise((resolve) => server.once('request', (_, response) => response.once('close', resolve)));
          server.setTimeout(how === 'hangs up' ? 0 : 1_000);
          const one = await hold('block', 'g');
          await end(one);
          await closed;
          server.setTimeout(0);
          if (framework === 'koa' || framework === 'http') {
            // It holds on until it has ended.
            assert.equal(await status('block', 'g'), 423);
            one.letGo();
          }
          // Express and Fastify do not tell when that is.
          await free('x_g');
          one.letGo();
        });
      }
    });
  }
}

/** README's server in a process of its own; it prints its port, then one line per request that is let in. */
async function serve(words, use) {
  const source = `
    const http = require('node:http');
    const { Guards } = require(process.env.SYNLOCK + '/guard.js');
    const [url, policy] = process.argv.slice(1);
    const guards = new Guards(url, { user: () => null });
    const listener = guards.http(JSON.parse(policy), (request, response) => (console.log('inside'), request.url === '/hold' || response.end('done')));
    http.createServer(listener).listen(0, '127.0.0.1', function () { console.log(this.address().port); });`;
  const child = spawn(process.execPath, ['-e', source, ...words], { env: { ...process.env, SYNLOCK: path.join(__dirname, '..') } });
  const one = { child, out: '', err: '' };
  child.stdout.on('data', (data) => (one.out += data));
  child.stderr.on('data', (data) => (one.err += data));
  one.get = (where = '/') =>
    new Promise((resolve, reject) => {
      const request = http.get({ host: '127.0.0.1', port: parseInt(one.out, 10), path: where, agent: false });
      request.on('error', reject).on('response', async (response) => {
        const body = (await response.toArray()).join('');
        resolve({ status: response.statusCode, body });
      });
    });
  try {
    const listens = () => {
      assert.equal(child.exitCode, null, one.err);
      return one.out.includes('\n');
    };
    await until(listens, 'it listens');
    await use(one);
  } finally {
    child.kill('SIGKILL');
  }
}

for (const [what, url, policy] of [
  ['nobody is logged in', 'memory:', { name: 'x', userIsolation: true }],
  ['the store is out of reach', 'redis://127.0.0.1:1?connect_timeout=100', { name: 'x' }],
]) {
  it(`guards: a server of Node's outlives an error at the gate: ${what}`, async () => {
    await serve([url, JSON.stringify(policy)], async (server) => {
      for (let i = 0; i < 3; i++) assert.deepEqual(await server.get(), { status: 500, body: 'Internal Server Error' });
      assert.equal(server.child.exitCode, null);
      await until(() => (server.err.match(/SynlockWarning/g) ?? []).length === 3, `each is warned of: ${server.err}`);
      assert.ok(!server.out.includes('inside'), server.out);
    });
  });
}

it('guards: onError answers what is no refusal', async () => {
  const seen = [];
  const guards = new Guards('memory:');
  const onError = (error, request, response) => {
    seen.push(error.code);
    response.writeHead(401).end();
  };
  const server = http.createServer(guards.http({ userIsolation: true }, () => assert.fail('let in'), { onError }));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const request = http.get({ host: '127.0.0.1', port: server.address().port, agent: false });
    const response = await new Promise((resolve, reject) => request.on('response', resolve).on('error', reject));
    response.resume();
    assert.equal(response.statusCode, 401);
    assert.deepEqual(seen, ['SYNLOCK_INVALID_ARGUMENT']);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

it('guards: a killed process', async () => {
  const backing = shmUrl();
  try {
    await serve([backing.url, '{"name":"k"}'], async (server) => {
      server.get('/hold').catch(() => {});
      await until(() => server.out.includes('inside'), 'it holds');
      const store = new synlock.Store(backing.url);
      assert.equal(await store.isLocked('k'), true);
      server.child.kill('SIGKILL');
      await until(async () => !(await store.isLocked('k')), 'it is free');
    });
  } finally {
    backing.stop();
  }
});
