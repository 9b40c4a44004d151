'use strict';

// Request guards: what a web request must have before its handler runs.

const synlock = require('./index.js');
const native = require('./native.js');
const { STATUS_CODES } = require('node:http');
const { isUtf8 } = require('node:buffer');
const { tools } = require('./internal.js');
const { Policy, rules, asked, pathOf } = require('./policy.js');
const { watch } = require('./response.js');

const { hub, run, check, make, statusOf, insides } = tools;
const { Store, LockBusy, SynlockError } = synlock;
const POINTS = ['response', 'terminate'];
/** A request was refused: somebody holds the lock. */
class Refused extends LockBusy {
  constructor(policy, lockName, service, answer) {
    super(policy.message, { status: statusOf.BUSY, operation: 'enter' });
    this.policy = policy;
    this.lockName = lockName;
    this.service = service;
    /** Seconds; null if unknown. */
    this.retryAfter = answer.retryAfter;
    this.holders = answer.holders;
    this.waited = answer.waited;
    this.statusCode = policy.status;
    this.headers = { 'Cache-Control': 'no-store', ...(answer.retryAfter === null ? {} : { 'Retry-After': String(answer.retryAfter) }) };
  }
}

/** A request that was let in, and what it holds. */
class Admission {
  #since = performance.now();
  #held;
  #isLocal;

  constructor(policy, name, service, lock, answer, isLocal) {
    Object.assign(this, { policy, name, service, lock, waited: answer.waited, broken: answer.holders });
    this.#isLocal = isLocal;
  }

  /** For how long it has been, or was, held, ms. */
  get held() {
    return this.lock === null ? 0 : (this.#held ?? performance.now() - this.#since);
  }

  get isReleased() {
    return this.#held !== undefined;
  }

  /** Gives the lock back; nothing the second time, nor if the handler has done it or handed it over. */
  async release() {
    const gone = this.releaseSoon();
    if (gone) await gone;
  }

  /** As `release`: at once where no server is asked, otherwise the promise of it. */
  releaseSoon() {
    if (this.lock === null || this.#held !== undefined) return undefined;
    this.#held = this.held;
    const isUsed = (error) => error.code === 'SYNLOCK_CONCURRENT_USE';
    const known = (error) => {
      // It is held still.
      if (isUsed(error)) this.#held = undefined;
      if (error.code !== 'SYNLOCK_NOT_HELD') throw error;
    };
    const release = () => this.lock.release().then(() => {}, known);
    if (!this.#isLocal) return release();
    try {
      this.lock.releaseSync();
    } catch (error) {
      // The handler has left something under way.
      if (isUsed(error)) return release();
      known(error);
    }
    return undefined;
  }
}

function tell(admission, error) {
  process.emitWarning(`the lock "${admission.name}" of a request: ${error?.message ?? error}`, { type: 'SynlockWarning', code: error?.code });
}

/** What one request was let in with; released at its release points, the latest first. */
class Held {
  #release;
  #log;
  #admissions = [];

  constructor({ release = 'response', log = tell } = {}) {
    if (!POINTS.includes(release)) new Policy({ release });
    this.#release = release;
    this.#log = log;
  }

  get all() {
    return this.#admissions.map(({ admission }) => admission);
  }

  /** Lets the request in by one more policy. A lock that it holds already is not asked for again: null. */
  async enter(guards, policy, request, options) {
    const gate = guards._gate(Policy.of(policy), request);
    const of = `${gate.service} ${gate.key}`;
    const has = (held) => held.guards === guards && held.of === of && held.admission.lock !== null && !held.admission.isReleased;
    if (this.#admissions.some(has)) return null;
    const admission = await guards._enter(gate, options);
    this.#admissions.push({ guards, of, admission });
    return admission;
  }

  #due(point) {
    const isDue = ({ lock, policy, isReleased }) =>
      lock !== null && !isReleased && policy.autoRelease && (point === undefined || (policy.release ?? this.#release) === point);
    return this.all.reverse().filter(isDue);
  }

  holdsUntil(point) {
    return this.#due(point).length > 0;
  }

  /** Releases what is due at the release point; everything, without one: the request is over. */
  async release(point) {
    const gone = this.releaseSoon(point);
    if (gone) await gone;
  }

  /** As `release`: at once where no server is asked, otherwise the promise of it. Never rejects. */
  releaseSoon(point) {
    const due = this.#due(point);
    const next = () => {
      for (let admission = due.shift(); admission !== undefined; admission = due.shift()) {
        // What has happened cannot be undone by failing the request, nor does a log that fails.
        const failed = (error) => new Promise((resolve) => resolve(this.#log(admission, error))).catch((mistake) => tell(admission, mistake));
        try {
          const gone = admission.releaseSoon();
          if (gone) return gone.catch((error) => void failed(error)).then(next);
        } catch (error) {
          void failed(error);
        }
      }
      return undefined;
    };
    return next();
  }
}

/** What each request of Node's was let in with, by its response. */
const requests = new WeakMap();

/** What is held by a request: Node's, Express's, Fastify's, or of a context of Koa's. */
function heldBy(request) {
  const raw = request.raw ?? request.req ?? request;
  return requests.get(raw)?.held;
}

class Visit {
  #response;
  #working = 0;
  #closed = false;

  constructor(request, response, options) {
    this.held = new Held(options);
    this.#response = response;
    this.gone = new AbortController();
    watch(response, request.method, () => this.held.releaseSoon('response'));
    response.once('close', () => {
      this.#closed = true;
      if (!response.writableFinished) this.gone.abort();
      this.#settle();
    });
    requests.set(request, this);
  }

  static of(request, response, options) {
    return requests.get(request) ?? new Visit(request, response, options);
  }

  get isGone() {
    return this.#closed || this.#response.destroyed;
  }

  /** Keeps what is held until the work is done, even if the client is gone before. */
  async during(work) {
    this.#working++;
    try {
      return await work();
    } finally {
      this.#working--;
      this.#settle();
    }
  }

  #settle() {
    if (this.#closed && this.#working === 0) void this.held.releaseSoon();
  }
}

/** One open gate. */
class Gate {
  constructor(policy, gate, name) {
    this.policy = policy;
    this.native = gate;
    this.key = name;
    const bytes = Buffer.from(name, 'hex');
    this.name = isUtf8(bytes) ? bytes.toString() : bytes;
    this.service = gate.service;
  }
}

const OPTIONS = ['dialect', 'default', 'user', 'describe', 'refuse', 'onError', 'release', 'log'];

/** Named stores that requests are guarded with. */
class Guards {
  #native;
  #services = [];
  #options;

  constructor(stores, options = {}) {
    for (const key of Object.keys(options)) {
      if (!OPTIONS.includes(key)) throw make({ status: statusOf.UNKNOWN_OPTION, message: `there is no option \`${key}\`` });
    }
    this.#options = options;
    this.#native = new native.NativeGuards(options.dialect ?? 'native');
    check(this.#native.made());
    new Held({ release: options.release });
    if (stores === undefined || stores === null || typeof stores === 'string' || stores instanceof Store) {
      this.add('default', stores ?? process.env.SYNLOCK_URL ?? '');
    } else {
      for (const [name, store] of Object.entries(stores)) this.add(name, store);
    }
    if (options.default !== undefined) this.setDefault(options.default);
  }

  add(name, store, { canWait = true, maxWait } = {}) {
    const opened = store instanceof Store ? store : new Store(store);
    if (maxWait !== undefined) new Policy({ maxWait });
    const inside = insides.get(opened);
    check(this.#native.add(String(name), inside.native, canWait));
    this.#services.push({ name: String(name), store: opened, inside, maxWait });
    return this;
  }

  setDefault(name) {
    this.#native.setDefault(String(name));
  }

  get names() {
    return this.#services.map(({ name }) => name);
  }

  #find(name) {
    return this.#services[Number(check(this.#native.find(name ?? undefined)).value)];
  }

  find(name) {
    return this.#find(name).name;
  }

  store(name) {
    return this.#find(name).store;
  }

  /** The name of the lock that a request is about; asks no store. */
  name(policy, request) {
    return this._gate(Policy.of(policy), request).name;
  }

  _gate(policy, request) {
    const { maxWait } = this.#find(policy.service);
    const gate = this.#native.plan(rules(policy, maxWait), asked(request));
    return new Gate(policy, gate, check(gate.made()).value);
  }

  /** Applies the policy to the request; rejects with `Refused` if it is not let in. */
  async enter(policy, request, options) {
    return this._enter(this._gate(Policy.of(policy), request), options);
  }

  async _enter({ policy, native: gate, name, service }, { signal } = {}) {
    const { inside, name: called } = this.#services[service];
    const step = async (what) => {
      const here = inside.direct || what === 'granted' || (what === 'begin' && policy.mode !== 'check');
      const outcome = here ? gate.stepSync(what) : await run((id) => gate.step(hub, id, what));
      return JSON.parse(check(outcome).value);
    };
    let lock = null;
    let next = await step('begin');
    // A handle may be asked again as long as it has got nothing.
    const handle = 'wait' in next ? gate.lock() : undefined;
    if (handle) {
      check(handle.made());
      handle.number = handle.seat;
    }
    while ('wait' in next) {
      const outcome = await inside.acquireBy(handle, name, next.wait, signal);
      if (outcome instanceof tools.Lock) lock = outcome;
      else if (outcome.status !== statusOf.BUSY && outcome.status !== statusOf.TIMEOUT) check(outcome);
      next = await step(lock ? 'granted' : 'busy');
    }
    for (const holder of next.holders) holder.fencingToken = holder.fencingToken === null ? null : BigInt(holder.fencingToken);
    if (!next.admitted) throw new Refused(policy, name, called, next);
    return new Admission(policy, name, called, lock, next, inside.isLocal());
  }

  #chosen(given, options) {
    const all = { ...this.#options, ...options };
    if (typeof given === 'function') return { all, policies: (request) => [given(request)].flat().map(Policy.of) };
    const policies = [given].flat().map(Policy.of);
    return { all, policies: () => policies };
  }

  /**
   * Lets the request in, or has it refused: true if the handler may run. `describe` tells what is known of it,
   * `refuse` answers.
   */
  async #guard(visit, policies, describe, refuse) {
    try {
      for (const policy of policies) {
        await visit.held.enter(this, policy, await describe(), { signal: visit.gone.signal });
      }
    } catch (error) {
      await visit.held.release();
      // Nobody is left to be answered.
      if (visit.isGone && error.code === 'SYNLOCK_CANCELLED') return false;
      if (!(error instanceof Refused)) throw error;
      await refuse(error);
      return false;
    }
    // The client went while it was let in.
    if (visit.isGone) await visit.held.release();
    return !visit.isGone;
  }

  /** A listener for `http.createServer`, around another. */
  http(given, listener, options) {
    const { all, policies } = this.#chosen(given, options);
    return async (request, response) => {
      const visit = Visit.of(request, response, all);
      const known = async () => ({
        route: request.method,
        path: pathOf(request.url),
        user: await all.user?.(request),
        ip: request.socket.remoteAddress,
      });
      const describe = async () => (all.describe ? all.describe(request) : known());
      const refuse = (refused) => (all.refuse ? all.refuse(refused, request, response) : answer(response, refused));
      try {
        if (!(await this.#guard(visit, policies(request), describe, refuse))) return;
      } catch (error) {
        // Nobody takes what a listener of Node's rejects with: it would end the process.
        await (all.onError ?? fail)(error, request, response);
        return;
      }
      try {
        await visit.during(() => listener(request, response));
      } catch (error) {
        await visit.held.release();
        throw error;
      }
    };
  }

  /** Middleware of Express, for an application, a router or a route. */
  express(given, options) {
    const { all, policies } = this.#chosen(given, options);
    return (request, response, next) => {
      const known = async () => ({
        route: request.route ? `${request.baseUrl}${request.route.path}` : request.method,
        path: pathOf(request.originalUrl),
        params: request.params,
        user: await all.user?.(request),
        session: request.sessionID,
        ip: request.ip,
      });
      const enter = async () => {
        const visit = Visit.of(request, response, all);
        const describe = async () => (all.describe ? all.describe(request) : known());
        const refuse = (refused) => (all.refuse ? all.refuse(refused, request, response, next) : answer(response, refused));
        return this.#guard(visit, policies(request), describe, refuse);
      };
      enter().then((admitted) => admitted && next(), next);
    };
  }

  /** A hook `preHandler` of Fastify. */
  fastify(given, options) {
    const { all, policies } = this.#chosen(given, options);
    return async (request, reply) => {
      const visit = Visit.of(request.raw, reply.raw, all);
      const known = async () => ({
        route: request.routeOptions?.url ?? request.method,
        path: pathOf(request.raw.url),
        params: request.params,
        user: await all.user?.(request),
        session: request.session?.sessionId,
        ip: request.ip,
      });
      const describe = async () => (all.describe ? all.describe(request) : known());
      const refuse = (refused) => {
        if (all.refuse) return all.refuse(refused, request, reply);
        return reply.code(refused.statusCode).headers(refused.headers).type('text/plain; charset=utf-8').send(refused.message);
      };
      if (await this.#guard(visit, policies(request), describe, refuse)) return undefined;
      // Answered, or nobody is left to be: the handler is not to run.
      if (!reply.sent && visit.isGone) reply.hijack();
      return reply;
    };
  }

  /** Middleware of Koa. */
  koa(given, options) {
    const { all, policies } = this.#chosen(given, options);
    return async (context, next) => {
      const visit = Visit.of(context.req, context.res, all);
      const known = async () => ({
        route: context._matchedRoute ?? context.method,
        path: pathOf(context.originalUrl),
        params: context.params,
        user: await all.user?.(context),
        ip: context.ip,
      });
      const describe = async () => (all.describe ? all.describe(context) : known());
      const refuse = (refused) => {
        if (all.refuse) return all.refuse(refused, context);
        context.status = refused.statusCode;
        context.set(refused.headers);
        context.body = refused.message;
        return undefined;
      };
      try {
        if (await this.#guard(visit, policies(context), describe, refuse)) await visit.during(next);
      } catch (error) {
        throw error instanceof SynlockError ? forKoa(error) : error;
      }
    };
  }
}

/** Koa takes the `status` of an error for HTTP's, which would make 200 of a server that is out of reach. */
function forKoa(error) {
  const told = new Error(error.message, { cause: error });
  const { statusCode = 500, headers } = error;
  return Object.assign(told, { name: error.name, code: error.code, status: statusCode, headers, expose: error instanceof Refused });
}

function answer(response, refused) {
  if (STATUS_CODES[refused.statusCode] === undefined) response.statusMessage = 'Refused';
  for (const [name, value] of Object.entries(refused.headers)) response.setHeader(name, value);
  say(response, refused.statusCode, refused.message);
}

/** What frameworks do with an error that nobody handles. */
function fail(error, request, response) {
  const { code, message } = error instanceof Error ? error : { message: String(error) };
  process.emitWarning(`a request was not let in: ${message}`, { type: 'SynlockWarning', code });
  if (response.headersSent) response.destroy();
  else say(response, 500, STATUS_CODES[500]);
}

function say(response, status, words) {
  const body = Buffer.from(words);
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('Content-Length', body.length);
  response.end(response.req?.method === 'HEAD' ? undefined : body);
}

module.exports = { Admission, Guards, Held, Policy, Refused, heldBy };
