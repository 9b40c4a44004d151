'use strict';

// The guides to web frameworks beside README.md: their code, behind a server.

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { it } = require('node:test');
const { Store } = require('..');
const { Guards } = require('synlock/guard');
const { shmUrl, sleep } = require('./support.js');

const folder = path.join(__dirname, '..');

it('express.md', async () => {
  const text = fs.readFileSync(path.join(folder, 'express.md'), 'utf8');
  assert.ok(fs.readFileSync(path.join(folder, 'README.md'), 'utf8').includes('(express.md)'));
  const [[, code]] = text.matchAll(/^```js\n(.+?)^```$/gms);
  const backing = shmUrl();
  const module = { exports: {} };
  new Function('require', 'module', code.replaceAll('shm:app', backing.url))(require, module);
  module.exports.use((error, request, response, next) => response.status(500).end());
  const server = await new Promise((resolve) => {
    const made = module.exports.listen(0, '127.0.0.1', () => resolve(made));
  });
  const post = (url, headers = {}) =>
    new Promise((resolve, reject) => {
      const request = http.request({ host: '127.0.0.1', port: server.address().port, method: 'POST', path: url, headers, agent: false });
      request.on('error', reject).on('response', async (response) => {
        let body = '';
        for await (const piece of response) body += piece;
        resolve({ status: response.statusCode, retryAfter: response.headers['retry-after'], body });
      });
      request.end();
    });
  try {
    const store = new Store(backing.url);
    const seen = await Promise.all(Array.from({ length: 6 }, () => post('/orders/7/pay')));
    assert.deepEqual(seen.find(({ status }) => status === 200), { status: 200, retryAfter: undefined, body: '{"paid":"7"}' });
    assert.ok(seen.every(({ status }) => status === 200 || status === 423));
    const lock = await store.acquire('order_7', { ttl: 60_000 });
    const refused = await post('/orders/7/pay');
    assert.deepEqual([refused.status, refused.body], [423, 'Resource is not available at this moment.']);
    assert.ok(refused.retryAfter > 0 && refused.retryAfter <= 60);
    const waiting = post('/orders/7/ship');
    while ((await store.inspect('order_7')).waiters !== 1) await sleep(5);
    await lock.release();
    assert.deepEqual(await waiting, { status: 200, retryAfter: undefined, body: '{"shipped":"7"}' });
    const bob = await store.acquire('cart@/bob');
    assert.deepEqual(await post('/cart/add', { 'x-user': 'bob' }), {
      status: 423, retryAfter: undefined, body: '{"detail":"Resource is not available at this moment."}',
    });
    assert.equal((await post('/cart/add', { 'x-user': 'eve' })).status, 200);
    assert.equal((await post('/cart/add')).status, 500, 'nobody');
    await bob.release();
    assert.match((await post('/import')).body, /^\{"token":"\d+"\}$/);
  } finally {
    server.closeAllConnections();
    server.close();
    backing.stop();
  }
});

it('sessions of express-session', async () => {
  const express = require('express');
  const session = require('express-session');
  const backing = shmUrl();
  const guards = new Guards(backing.url, { user: () => null });
  const saved = [];
  const memory = new session.MemoryStore();
  const save = memory.set.bind(memory);
  memory.set = async (...words) => {
    saved.push(await guards.store().isLocked('all'));
    save(...words);
  };
  const app = express();
  // Before the session, so that it is saved under the lock.
  app.use(guards.express([]));
  app.use(session({ secret: 'x', resave: false, saveUninitialized: true, store: memory }));
  let inside;
  let letGo;
  const go = new Promise((resolve) => (letGo = resolve));
  const own = guards.express({ name: 'own', userIsolation: true, anonymous: 'session' });
  app.get('/hold', own, async (request, response) => {
    inside();
    await go;
    response.end('done');
  });
  app.get('/', own, (request, response) => response.end('done'));
  app.get('/count', guards.express({ name: 'all' }), (request, response) => {
    request.session.count = (request.session.count ?? 0) + 1;
    response.end(String(request.session.count));
  });
  const server = await new Promise((resolve) => {
    const made = app.listen(0, '127.0.0.1', () => resolve(made));
  });
  const get = (url, cookie) =>
    new Promise((resolve, reject) => {
      const headers = cookie ? { Cookie: cookie } : {};
      const request = http.get({ host: '127.0.0.1', port: server.address().port, path: url, headers, agent: false });
      request.on('error', reject).on('response', async (response) => {
        const body = (await response.toArray()).join('');
        resolve({ status: response.statusCode, body, cookie: response.headers['set-cookie']?.[0].split(';')[0] });
      });
    });
  try {
    // A new visitor's session is new, and has an identifier.
    const [one, two] = [await get('/'), await get('/')];
    assert.deepEqual([one.status, two.status], [200, 200]);
    assert.notEqual(one.cookie, two.cookie);
    const entered = new Promise((resolve) => (inside = resolve));
    const held = get('/hold', one.cookie);
    await entered;
    assert.equal((await get('/', one.cookie)).status, 423);
    assert.equal((await get('/', two.cookie)).status, 200);
    assert.equal((await get('/')).status, 200);
    letGo();
    assert.equal((await held).status, 200);
    saved.length = 0;
    for (let i = 1; i <= 20; i++) assert.deepEqual(await get('/count', one.cookie), { status: 200, body: String(i), cookie: undefined });
    assert.deepEqual(saved, Array(20).fill(true));
  } finally {
    server.closeAllConnections();
    server.close();
    backing.stop();
  }
});
