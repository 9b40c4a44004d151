'use strict';

// The application of guard-http.test.js, in every framework: `/POLICY/ID?do=…&key=…`.

const assert = require('node:assert');
const http = require('node:http');
const { Readable, pipeline } = require('node:stream');
const { heldBy } = require('synlock/guard');
const { sleep } = require('./support.js');

const RULES = {
  open: [],
  block: { name: 'x_{id}' },
  leased: { name: 'x_{id}', ttl: 600_000 },
  later: { name: 'x_{id}', status: 409, message: 'later' },
  queue: { name: 'x_{id}', mode: 'queue', maxWait: 60_000 },
  patient: { name: 'x_{id}', mode: 'queue', maxWait: 600_000 },
  hasty: { name: 'x_{id}', mode: 'queue', maxWait: 50 },
  steady: { name: 'x_{id}', mode: 'queue', maxWait: 5_000 },
  check: { name: 'x_{id}', mode: 'check' },
  force: { name: 'x_{id}', mode: 'force', ttl: 600_000, label: 'the boss' },
  two: [{ name: 'y_{id}' }, { name: 'x_{id}' }],
  twice: [{ name: 'x_{id}' }, { name: 'x_{id}', mode: 'queue' }],
  own: { name: 'x_{id}', userIsolation: true },
  shared: { name: 'x_{id}', userIsolation: true, anonymous: 'share' },
  ip: { name: 'x_{id}', userIsolation: true, anonymous: 'ip' },
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
  } else if (task === 'linger') {
    // What is still done when the response is out.
    return { status: 200, body: 'out', rest: here.go };
  } else if (task === 'empty') {
    return { status: 204 };
  } else if (task !== 'answer') {
    const pieces = async function* () {
      yield Buffer.from('first');
      if (task === 'drip') for (;;) yield await sleep(2, Buffer.alloc(1000)).then(() => Buffer.alloc(1000));
      await here.go;
      if (task === 'broken') throw new RangeError('asked to');
      yield Buffer.from('last!');
      // The client has it all, and this goes on.
      if (task === 'sized') await here.done;
    };
    const status = task === 'unchanged' ? 304 : 200;
    return { status, headers: task === 'sized' ? { 'Content-Length': '10' } : {}, body: Readable.from(pieces(), { objectMode: false }) };
  }
  return { status: 200, body: held.all.map(({ name }) => name).join() };
}

/** `?` stands for an application that has no notion of users. */
const user = ({ headers }) => (headers['x-user'] ? (headers['x-user'] === '?' ? undefined : { id: headers['x-user'] }) : null);
const wordsOf = (url) => new URL(url, 'http://x').pathname.split('/').slice(1);

const apps = {
  http(guards) {
    const listener = async (request, response) => {
      try {
        const { status, headers, body, rest } = await work(request.url, heldBy(request));
        response.writeHead(status, headers);
        if (body instanceof Readable) pipeline(body, response, () => {});
        else response.end(body);
        await rest;
      } catch {
        response.writeHead(500).end();
      }
    };
    const describe = (request) => {
      const { pathname } = new URL(request.url, 'http://x');
      return { route: 'app', path: decodeURI(pathname), params: { id: wordsOf(request.url)[1] }, user: user(request), session: request.headers['x-session'], ip: request.socket.remoteAddress };
    };
    const guarded = guards.http((request) => RULES[wordsOf(request.url)[0]], listener, { describe });
    const server = http.createServer(guarded);
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
        if (body instanceof Readable) pipeline(body, response, () => {});
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
    // As @fastify/session does.
    app.decorateRequest('session', null);
    app.addHook('onRequest', async (request) => {
      request.session = { sessionId: request.headers['x-session'] };
    });
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
    const { Router } = require('@koa/router');
    const app = new Koa();
    app.silent = true;
    const router = new Router();
    for (const [name, rules] of Object.entries(RULES)) {
      router.get(`/${name}/:id`, guards.koa(rules, { user }), async (context) => {
        const { status, headers = {}, body, rest } = await work(context.url, heldBy(context));
        context.status = status;
        if (body !== undefined) context.body = body;
        context.set(headers);
        if (rest) context.res.end(body);
        await rest;
      });
    }
    app.use(router.routes());
    return new Promise((resolve) => {
      const server = app.listen(0, '127.0.0.1', () => resolve(server));
    });
  },
};

module.exports = { apps, order, visit };
