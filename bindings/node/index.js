'use strict';

const { isUtf8 } = require('node:buffer');
const { EventEmitter } = require('node:events');
const { channel } = require('node:diagnostics_channel');
const native = require('./native.js');
const { classes, make, check: checked, statusOf, nameOf } = require('./errors.js');
const { onAbort } = require('./abort.js');
const fencing = require('./fencing.js');
const { asker, traits, withCause } = require('./custom.js');
const semaphore = require('./semaphore.js');

Symbol.dispose ??= Symbol('Symbol.dispose');
Symbol.asyncDispose ??= Symbol('Symbol.asyncDispose');

/** Returns the outcome, or throws what it stands for, with what a custom store threw as its cause. */
function check(outcome) {
  try {
    return checked(outcome);
  } catch (error) {
    throw withCause(error);
  }
}

// Completions: every operation has a number; the addon rings on this thread's loop when some have come.
const pending = new Map();
let lastId = 0;
// The addon's callback keeps no process alive; an operation that somebody awaits does. One timer for all: to make
// and clear one for each operation costs a microsecond.
let awaited = 0;
let keepAlive;

function keep(isAwaited) {
  keepAlive ??= setInterval(() => {}, 2 ** 30);
  if (isAwaited) keepAlive.ref();
  else keepAlive.unref();
}

/** What four numbers of the hub say. */
function outcomeOf(way, first, second) {
  if (way === 0) return { status: 0, waited: first, contended: second % 2 === 1, attempts: Math.floor(second / 2) };
  if (way === 1) return { status: 0, late: first === 1 };
  return { status: 0 };
}

function deliver() {
  const told = hub.take();
  for (let at = 0; at < told.length; at += 4) {
    const [id, way] = [told[at], told[at + 1]];
    const outcome = way === 3 ? hub.next().outcome : outcomeOf(way, told[at + 2], told[at + 3]);
    try {
      pending.get(id)?.(outcome);
    } catch (error) {
      // A listener's; the others are told all the same.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

// Only Node itself is known to have libuv's loop.
const hub = new native.Hub(deliver, process.versions.bun === undefined && process.versions.deno === undefined);
const hubNumber = hub.number;
const flush = () => hub.flush();

function listen(callback) {
  const id = ++lastId;
  pending.set(id, callback);
  return id;
}

// What no call returns and no listener hears, from every store.
const warned = listen(({ status, message }) => {
  const name = nameOf.get(status) ?? 'OK';
  const code = `SYNLOCK_${name}`;
  if (!ending) process.emitWarning(message, { type: 'SynlockWarning', code });
  // What is put off does not happen any more.
  else process.emit('warning', Object.assign(new Error(message), { name: 'SynlockWarning', code }));
});

/** Starts an operation and resolves with its outcome, whatever it is. */
function run(start) {
  return new Promise((resolve, reject) => {
    if (++awaited === 1) keep(true);
    const done = () => {
      pending.delete(id);
      if (--awaited === 0) keep(false);
    };
    const id = listen((outcome) => {
      done();
      resolve(outcome);
    });
    try {
      check(start(id));
    } catch (error) {
      done();
      reject(error);
    }
  });
}

const ACQUIRE = 0;
const RELEASE = 1;
const REFRESH = 2;
const PROMOTE = 3;
const DEMOTE = 4;
const CHECK = 5;
const ABANDON = 6;

/** The same for an operation on a lock, or on a set of them. */
function begin(handle, op, argument) {
  return run((id) => {
    if (handle.number === undefined) {
      // A set's: it holds back what it writes.
      process.nextTick(flush);
      return handle.begin(hubNumber, id, op, argument);
    }
    const status = native.begin(hubNumber, handle.number, id, op, argument);
    if (status > 0) return native.refusal();
    // What others begin in this turn of the loop goes out together with it.
    if (status < 0) process.nextTick(flush);
    return NOTHING_WRONG;
  });
}

const NOTHING_WRONG = Object.freeze({ status: 0 });

// What is held when the process ends is released then.
let ending = false;
process.on('exit', () => {
  ending = true;
  native.endWithProcess();
  semaphores.end();
  endSessions();
  deliver();
});
// Nobody is left to be told of a loss. (What is held is released when the native handle is collected.)
const collected = new FinalizationRegistry((lostId) => pending.delete(lostId));
// But a store of JavaScript must be asked outside the collection.
const collectedDirect = new FinalizationRegistry((handle) => handle.collected());

const encoder = new TextEncoder();

function bytes(name) {
  if (typeof name === 'string') return encoder.encode(name);
  if (name instanceof Uint8Array) return new Uint8Array(name);
  throw make({ status: statusOf.INVALID_ARGUMENT, message: 'a name is a string or a Uint8Array' });
}

function milliseconds(value, what) {
  if (value === undefined || value === null || value === Infinity) return -1;
  if (typeof value !== 'number' || !(value >= 0)) {
    throw make({ status: statusOf.INVALID_ARGUMENT, message: `${what} is no number of milliseconds` });
  }
  return value;
}

/** Whether nobody holds the lock any more: once that is so, or the time is over. */
async function watch(store, name, wait, signal) {
  const cancelled = () => make({ status: statusOf.CANCELLED, operation: 'wait' }, { cause: signal.reason });
  if (signal?.aborted) throw cancelled();
  const end = new native.NativeSwitch();
  const told = run((id) => store.waitFree(hub, id, bytes(name), wait, end));
  let ignore;
  const aborted = new Promise((_, reject) => {
    ignore = onAbort(signal, () => {
      end.throw();
      reject(cancelled());
    });
  });
  try {
    return JSON.parse(check(await (signal ? Promise.race([told, aborted]) : told)).value);
  } finally {
    ignore();
  }
}

/** As `watch`, where only asking again tells: custom stores. */
async function lookAgain(isFree, wait, signal) {
  const { status } = await poll(() => ({ status: isFree() ? 0 : statusOf.BUSY }), wait, signal);
  if (status === statusOf.CANCELLED || (status === statusOf.BUSY && signal?.aborted)) {
    throw make({ status: statusOf.CANCELLED, operation: 'wait' }, { cause: signal.reason });
  }
  return status === 0;
}

const { Session, endSessions } = require('./session.js')({ native, run, hub, watch, lookAgain, check, bytes, milliseconds, isEnding: () => ending });

const ours = new Set([__filename, require.resolve('./semaphore.js')]);
/** `file:line` of the first frame outside this package. */
function caller() {
  const { stackTraceLimit, prepareStackTrace } = Error;
  Error.stackTraceLimit = 12;
  Error.prepareStackTrace = (_, frames) => frames;
  const frames = new Error().stack;
  Error.stackTraceLimit = stackTraceLimit;
  Error.prepareStackTrace = prepareStackTrace;
  for (const frame of Array.isArray(frames) ? frames : []) {
    const file = frame.getFileName();
    if (file && !ours.has(file) && !file.startsWith('node:')) return `${file}:${frame.getLineNumber()}`;
  }
  return undefined;
}

/** What an acquire waits, ms: what the call says, or the URL, or for ever. */
function patience(handle, timeout) {
  return timeout === undefined || timeout === null ? handle.timeout : milliseconds(timeout, 'timeout');
}

const OPTIONS = ['ttl', 'renew', 'shared', 'permits', 'autoRelease', 'fair', 'strict', 'reentry', 'label'];

/** Whether a handle with the store's own options will do. */
function isPlain(options) {
  for (const key of Object.keys(options)) {
    if (key !== 'timeout' && key !== 'signal') return false;
  }
  return true;
}

function split(options = {}) {
  const own = {};
  for (const key of Object.keys(options)) {
    if (OPTIONS.includes(key)) {
      if (options[key] !== undefined) own[key] = options[key];
    } else if (key !== 'timeout' && key !== 'signal') {
      throw make({ status: statusOf.UNKNOWN_OPTION, message: `there is no option \`${key}\`` });
    }
  }
  if (own.permits !== undefined && !Array.isArray(own.permits)) own.permits = [1, own.permits];
  return own;
}

/** Asks again until it is not busy, the time is over, or the signal is given: for custom stores. */
async function poll(once, wait, signal) {
  const end = wait < 0 ? Infinity : performance.now() + wait;
  for (let pause = 10; ; pause = Math.min(pause * 1.5, 100)) {
    const outcome = once();
    if (outcome.status !== statusOf.BUSY || wait === 0 || signal?.aborted) return outcome;
    const left = end - performance.now();
    if (left <= 0) return { ...outcome, status: statusOf.TIMEOUT };
    await new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        deaf();
        resolve();
      };
      const timer = setTimeout(done, Math.min(left, pause * (0.75 + Math.random() / 2)));
      const deaf = onAbort(signal, done);
    });
    if (signal?.aborted) return { ...outcome, status: statusOf.CANCELLED };
  }
}

/** What an acquire comes to, of a lock or a set. */
async function obtain(handle, direct, local, wait, signal) {
  const cancelled = () => make({ status: statusOf.CANCELLED, operation: 'acquire' }, { cause: signal.reason });
  if (signal?.aborted) throw cancelled();
  if (direct) {
    const outcome = await poll(() => handle.trySync(), wait, signal);
    if (signal?.aborted && outcome.status !== 0) throw cancelled();
    return outcome;
  }
  if (local) {
    const outcome = handle.trySync();
    if (outcome.status !== statusOf.BUSY || wait === 0) return outcome;
  }
  const deaf = onAbort(signal, () => handle.cancel());
  let outcome;
  try {
    outcome = await begin(handle, ACQUIRE, wait);
  } finally {
    deaf();
  }
  if (signal?.aborted) {
    // Granted before the cancel arrived: given back, so that an abort leaves what was held before and no more.
    if (outcome.status === 0) await begin(handle, ABANDON);
    throw cancelled();
  }
  return outcome;
}

/** How many names' handles a store keeps for the next acquire. */
const MOST_PLACES = 256;

/** The native handles of a store. One that is idle waits in its name's place for the next hold. */
class Handles {
  #native;
  #places = new Map();

  constructor(store, direct) {
    this.#native = store;
    this.direct = direct;
    this.answerAtOnce = store.answersAtOnce;
    /** Whether events tell where a lock was made. */
    this.listened = false;
  }

  make(name, options) {
    const own = split(options);
    // Costs some microseconds, and a handle for each acquire: so only for those who listen.
    if (this.listened) own.caller = caller();
    const handle = this.#native.lock(bytes(name), own);
    check(handle.made());
    // A property of the object's own is read without leaving JavaScript.
    handle.number = handle.seat;
    return handle;
  }

  /** Whether such a lock may have a handle that others had before. */
  keeps(name, options) {
    return typeof name === 'string' && !this.listened && (options === undefined || isPlain(options));
  }

  /** Whether one short call will do. */
  areShort(name, options) {
    return options === undefined && this.answerAtOnce && !this.listened && typeof name === 'string';
  }

  place(name) {
    let place = this.#places.get(name);
    if (place === undefined) {
      if (this.#places.size >= MOST_PLACES) this.#places.delete(this.#places.keys().next().value);
      place = { handle: undefined };
      this.#places.set(name, place);
    }
    return place;
  }

  /** Takes the idle handle out of its place, so that it can be collected with the lock that has it. */
  lend(place, name) {
    const { handle } = place;
    if (handle === undefined) return this.make(name);
    place.handle = undefined;
    return handle;
  }
}

/** What sets do with their locks. */
let ofLock;

class Lock {
  /** None once it was given back: should somebody ask this lock again, it gets another. */
  #native;
  #handles;
  #place;
  #local;
  #name;
  #controller;
  #lostId;
  #how;
  #running = 0;
  /** Whom to tell when nothing is under way any more. */
  #waiting;

  constructor(token, handles, handle, place, name, local, how) {
    if (token !== hub) throw new TypeError('locks are made by a Store');
    this.#handles = handles;
    this.#native = handle;
    this.#place = place;
    this.#name = name;
    this.#local = local;
    this.#how = how;
    if (handles.direct) collectedDirect.register(this, handle, handle);
  }

  get #handle() {
    return (this.#native ??= this.#handles.make(this.#name));
  }

  get name() {
    return this.#name;
  }

  get state() {
    return this.#handle.state;
  }

  /** Time that the acquire took, ms. */
  get waited() {
    return this.#how?.waited ?? 0;
  }

  get contended() {
    return this.#how?.contended ?? false;
  }

  get remaining() {
    return this.#handle.remaining ?? null;
  }

  get fencingToken() {
    return this.#handle.fencingToken ?? null;
  }

  get ownerToken() {
    return this.#handle.ownerToken ?? null;
  }

  get mode() {
    return this.#handle.mode;
  }

  get lost() {
    return ['lost', 'expired'].includes(this.state);
  }

  /** Aborts when the hold is lost. */
  get signal() {
    if (!this.#controller) {
      const controller = (this.#controller = new AbortController());
      // The listener must not keep this lock from being collected, nor the process alive.
      const resource = String(this.#name);
      this.#lostId = listen(() => {
        controller.abort(make({ status: statusOf.LOST, resource }));
      });
      collected.register(this, this.#lostId, controller);
      check(this.#handle.onLost(hub, this.#lostId));
    }
    return this.#controller.signal;
  }

  /** Runs an operation beside the loop, or here if the store is custom. */
  #do(op, argument, here) {
    return this.#handles.direct ? here() : this.#run(op, argument);
  }

  async #run(op, argument) {
    this.#running++;
    try {
      return await begin(this.#handle, op, argument);
    } finally {
      this.#leave();
    }
  }

  #leave() {
    if (--this.#running === 0) this.#waiting?.splice(0).forEach((resolve) => resolve());
  }

  /** Once what is under way has ended; a promotion that waits ends for it. */
  #quiet() {
    if (this.#running === 0) return undefined;
    // For good: it is no handle for the next hold.
    this.#handle.cancel();
    this.#place = undefined;
    return new Promise((resolve) => (this.#waiting ??= []).push(resolve));
  }

  #end() {
    if (this.#handles.direct && this.#native !== undefined) collectedDirect.unregister(this.#native);
    if (this.#lostId === undefined) return;
    pending.delete(this.#lostId);
    collected.unregister(this.#controller);
    this.#lostId = undefined;
  }

  #ended(outcome) {
    // Lost, released before or released now: nothing is held. Otherwise the release goes on.
    if ([0, statusOf.LOST, statusOf.NOT_HELD, statusOf.UNCERTAIN].includes(outcome.status)) this.#end();
    const late = check(outcome).late ?? false;
    this.#giveBack();
    return { late };
  }

  static {
    ofLock = {
      number: (lock) => lock.#handle.number,
      enter: (lock) => void lock.#running++,
      leave: (lock) => lock.#leave(),
      isUsed: (lock) => lock.#running > 0,
      quiet: (lock) => lock.#quiet(),
      end: (lock) => lock.#end(),
    };
  }

  /** The handle waits for the next hold, which is none of this lock's. */
  #giveBack() {
    const place = this.#place;
    // What is still under way is not to meet the next hold.
    if (place === undefined || this.#running > 0) return;
    if (place.handle === undefined) place.handle = this.#native;
    this.#native = undefined;
  }

  /** Releases in one short call, where that is possible. */
  #give() {
    const handle = this.#native;
    if (handle === undefined || !this.#handles.answerAtOnce) return this.#ended(this.#handle.releaseSync());
    const status = native.give(handle.number);
    if (status > 0) return this.#ended(native.refusal());
    this.#end();
    this.#giveBack();
    return { late: status !== 0 };
  }

  async release() {
    // Several that waited go one after the other.
    while (this.#running > 0) await this.#quiet();
    if (this.#local) return this.#give();
    return this.#ended(await this.#run(RELEASE));
  }

  releaseSync() {
    return this.#local ? this.#give() : this.#ended(this.#handle.releaseSync());
  }

  async refresh(ttl) {
    check(await this.#do(REFRESH, ttl, () => this.#handle.refreshSync(ttl)));
  }

  refreshSync(ttl) {
    check(this.#handle.refreshSync(ttl));
  }

  /** Turns a shared hold into the exclusive one; false while others read, and it stays shared. */
  async promote({ timeout = 0 } = {}) {
    const wait = milliseconds(timeout, 'timeout');
    const once = () => this.#handle.promoteSync(0);
    const outcome = this.#handles.direct ? await poll(once, wait) : await this.#run(PROMOTE, wait);
    if ([statusOf.BUSY, statusOf.TIMEOUT].includes(outcome.status)) return false;
    check(outcome);
    return true;
  }

  async demote() {
    check(await this.#do(DEMOTE, undefined, () => this.#handle.demoteSync()));
  }

  async ensureHeld() {
    check(await this.#do(CHECK, undefined, () => this.#handle.checkSync()));
  }

  async isAcquired() {
    const outcome = await this.#do(CHECK, undefined, () => this.#handle.checkSync());
    if ([statusOf.LOST, statusOf.NOT_HELD].includes(outcome.status)) return false;
    check(outcome);
    return true;
  }

  /** Hands the hold over as text that another process can adopt. */
  export() {
    const text = check(this.#handle.exportSync()).value;
    this.#end();
    return text;
  }

  async [Symbol.asyncDispose]() {
    try {
      await this.release();
    } catch (error) {
      if (error.code !== 'SYNLOCK_NOT_HELD') throw error;
    }
  }

  [Symbol.dispose]() {
    try {
      this.releaseSync();
    } catch (error) {
      if (error.code !== 'SYNLOCK_NOT_HELD') throw error;
    }
  }
}

function parseLock(found) {
  const holders = found.holders.map((holder) => ({
    ...holder,
    fencingToken: holder.fencingToken === null ? null : BigInt(holder.fencingToken),
  }));
  return { name: Buffer.from(found.name, 'hex'), waiters: found.waiters, holders };
}

const events = channel('synlock');

/** Native stores, for what is made on top of them. */
const natives = new WeakMap();

/** What request guards do with a store. */
const insides = new WeakMap();

/** An object to make a store of. */
class Custom {
  constructor(store, name) {
    this.store = store;
    this.name = name;
  }
}

class Store extends EventEmitter {
  #native;
  #handles;
  #local;
  #direct;
  #observer;

  constructor(url = process.env.SYNLOCK_URL ?? '', options = {}) {
    super();
    const text = (value) => (typeof value === 'boolean' ? String(Number(value)) : String(value));
    const pairs = Object.entries(options).map(([key, value]) => [key, text(value)]);
    this.#direct = url instanceof Custom;
    this.#native = this.#direct
      ? native.NativeStore.custom(url.name, asker(url.store), traits(url.store), pairs)
      : new native.NativeStore(String(url), pairs);
    check(this.#native.made());
    natives.set(this, this.#native);
    insides.set(this, {
      native: this.#native,
      direct: this.#direct,
      acquireBy: (handle, name, wait, signal) => this.#acquireBy(handle, undefined, name, wait, signal),
      isLocal: () => this.#local,
      idle: (entry) => this.#idle(entry),
    });
    this.#native.observeWarnings(hub, warned);
    this.#handles = new Handles(this.#native, this.#direct);
    // Where no operation waits for a server, the loop need not be left.
    this.#local = this.#direct || this.capabilities.scope !== 'cluster';
    this.on('newListener', (event) => {
      if (event === 'event') this.#observe();
    });
    if (events.hasSubscribers) this.#observe();
  }

  static async open(url, options) {
    return new Store(url, options);
  }

  static openSync(url, options) {
    return new Store(url, options);
  }

  /**
   * A store that keeps its locks in an object of one's own, `custom:NAME`. It is asked on this thread
   * alone, and answers at once: a wait asks again and again, and nobody renews a lease.
   */
  static custom(store, { name = 'node', ...options } = {}) {
    return new Store(new Custom(store, String(name)), options);
  }

  get url() {
    return this.#native.url;
  }

  /** Counts what happens to the locks of this store, for `metrics()`; off, it costs nothing. */
  measure(on = true) {
    this.#native.measure(Boolean(on));
  }

  get fingerprint() {
    return this.#native.fingerprint;
  }

  get capabilities() {
    return JSON.parse(this.#native.capabilities());
  }

  #observe() {
    if (this.#observer !== undefined) return;
    const id = listen(({ value }) => {
      const event = JSON.parse(value);
      event.name = Buffer.from(event.name, 'hex');
      this.emit('event', event);
      if (events.hasSubscribers) events.publish(event);
    });
    this.#observer = this.#native.observe(hub, id);
    this.#handles.listened = true;
  }

  /** One owner of many locks, known by its id; with an id of yours it is persistent. */
  session({ id } = {}) {
    return new Session(this.#native, this.#direct, id === undefined ? undefined : String(id));
  }

  /** A handle, and the place that it goes back to. */
  #make(name, options) {
    if (!this.#handles.keeps(name, options)) return [this.#handles.make(name, options), undefined];
    const place = this.#handles.place(name);
    return [this.#handles.lend(place, name), place];
  }

  /** The short way: takes what is free, in one short call. Null if it is not, which `ends` the acquire or not. */
  #take(name, ends) {
    const place = this.#handles.place(name);
    const handle = this.#handles.lend(place, name);
    const status = native.take(handle.number, ends);
    if (status === 0) return new Lock(hub, this.#handles, handle, place, name, this.#local, undefined);
    place.handle = handle;
    if (status === statusOf.BUSY) return null;
    throw make(native.refusal());
  }

  /** Resolves with the lock; rejects with SYNLOCK_TIMEOUT or SYNLOCK_CANCELLED. */
  async acquire(name, options) {
    const lock = this.#handles.areShort(name, options) ? this.#take(name, false) : null;
    if (lock !== null) return lock;
    const outcome = await this.#acquire(name, options, options?.timeout);
    if (outcome instanceof Lock) return outcome;
    throw withCause(make(outcome.status === statusOf.BUSY ? { ...outcome, status: statusOf.TIMEOUT } : outcome));
  }

  /** Resolves with the lock, or with null if somebody holds it. */
  async tryAcquire(name, options) {
    if (this.#handles.areShort(name, options)) return this.#take(name, true);
    const outcome = await this.#acquire(name, options, 0);
    if (outcome instanceof Lock) return outcome;
    if (outcome.status === statusOf.BUSY) return null;
    throw withCause(make(outcome));
  }

  async #acquire(name, options, timeout) {
    const signal = options?.signal;
    const [handle, place] = this.#make(name, options);
    return this.#acquireBy(handle, place, name, patience(handle, timeout), signal);
  }

  /** The lock; or what the acquire came to. */
  async #acquireBy(handle, place, name, wait, signal) {
    const outcome = await obtain(handle, this.#direct, this.#local, wait, signal);
    return outcome.status === 0 ? new Lock(hub, this.#handles, handle, place, name, this.#local, outcome) : outcome;
  }

  /** A lock of this store that nobody holds yet. */
  #idle(entry) {
    const { name, ...options } = entry;
    const handle = this.#handles.make(name, options);
    return new Lock(hub, this.#handles, handle, undefined, name, this.#local, undefined);
  }

  /** Resolves with a set of locks, all held; rejects with SYNLOCK_TIMEOUT or SYNLOCK_CANCELLED, and none is. */
  acquireAll(entries, options) {
    return LockSet.acquire(this.#of(entries), options);
  }

  /** Resolves with the set, or with null if somebody holds one of the locks. */
  tryAcquireAll(entries, options) {
    return LockSet.tryAcquire(this.#of(entries), options);
  }

  /** Runs `work` under all locks; rejects with SYNLOCK_LOST if one was lost and `work` did not throw. */
  usingAll(entries, options, work) {
    return LockSet.using(this.#of(entries), options, work);
  }

  #of(entries) {
    const isName = (entry) => typeof entry === 'string' || entry instanceof Uint8Array;
    return Array.from(entries, (entry) => (isName(entry) ? { store: this, name: entry } : { ...entry, store: this }));
  }

  /** As acquire; blocks the thread. */
  acquireSync(name, options) {
    const lock = this.#handles.areShort(name, options) ? this.#take(name, false) : null;
    if (lock !== null) return lock;
    const [handle, place] = this.#make(name, options);
    const outcome = handle.acquireSync(patience(handle, options?.timeout));
    if (outcome.status === statusOf.BUSY) outcome.status = statusOf.TIMEOUT;
    check(outcome);
    return new Lock(hub, this.#handles, handle, place, name, this.#local, outcome);
  }

  /** As tryAcquire; blocks the thread for one exchange with the server. */
  tryAcquireSync(name, options) {
    if (this.#handles.areShort(name, options)) return this.#take(name, true);
    const [handle, place] = this.#make(name, options);
    const outcome = handle.trySync();
    if (outcome.status === statusOf.BUSY) return null;
    check(outcome);
    return new Lock(hub, this.#handles, handle, place, name, this.#local, outcome);
  }

  /** Runs `work` under the lock; rejects with SYNLOCK_LOST if the lock was lost and `work` did not throw. */
  async using(name, options, work) {
    if (typeof options === 'function') [options, work] = [undefined, options];
    const lock = await this.acquire(name, options);
    // Watched from the start, so that the work can be told.
    void lock.signal;
    let result;
    try {
      result = await work(lock);
    } catch (error) {
      await lock.release().catch(() => {});
      throw error;
    }
    await lock[Symbol.asyncDispose]();
    return result;
  }

  async #ask(what, name, text, number) {
    if (this.#direct) return JSON.parse(check(this.#native.askSync(what, bytes(name), text, number)).value);
    const outcome = check(await run((id) => this.#native.ask(hub, id, what, bytes(name), text, number)));
    return JSON.parse(outcome.value);
  }

  async ping({ timeout } = {}) {
    await this.#ask('ping', 'x', undefined, milliseconds(timeout, 'timeout'));
  }

  isLocked(name) {
    return this.#ask('isLocked', name);
  }

  breakLock(name) {
    return this.#ask('break', name);
  }

  /** Makes the table of the store, if it is not there; `Unsupported` where there is none. */
  async createTable({ timeout } = {}) {
    await this.#ask('createTable', 'x', undefined, milliseconds(timeout, 'timeout'));
  }

  /** The SQL that makes the table, on the store's own engine or a named one. */
  ddl(engine) {
    return this.#ask('ddl', 'x', engine);
  }

  /** What dead users left and nobody has cleared away, and damage; `Unsupported` except on `shm:`. */
  check() {
    return this.#ask('check', 'x');
  }

  async inspect(name) {
    return parseLock(await this.#ask('inspect', name));
  }

  async list({ prefix = '', cursor, limit = 1000 } = {}) {
    const page = await this.#ask('list', prefix, cursor ?? undefined, limit);
    return { locks: page.locks.map(parseLock), cursor: page.cursor };
  }

  /** Resolves with true once nobody holds the lock, with false when `timeout` is over. */
  async waitFree(name, { timeout = Infinity, signal } = {}) {
    const wait = milliseconds(timeout, 'timeout');
    if (!this.#direct) return watch(this.#native, name, wait, signal);
    const isFree = () => !JSON.parse(check(this.#native.askSync('isLocked', bytes(name))).value);
    return lookAgain(isFree, wait, signal);
  }

  /** Takes over a hold that another process exported; one of several adopters wins. */
  async adopt(text, options = {}) {
    const own = split(options);
    if (this.#direct) throw make({ status: statusOf.UNSUPPORTED, message: 'holds of a custom store cannot be handed over', store: this.url });
    let handle;
    const outcome = check(
      await run((id) => {
        handle = this.#native.adopt(hub, id, String(text), own);
        const refused = handle.made();
        // Under way still, or over already: the hub tells.
        return refused.status === statusOf.CONCURRENT_USE ? { status: 0 } : refused;
      }),
    );
    const name = Buffer.from(outcome.value, 'hex');
    handle.number = handle.seat;
    return new Lock(hub, this.#handles, handle, undefined, isUtf8(name) ? name.toString() : name, this.#local, {});
  }
}

const { LockSet } = require('./set.js')({ native, insides, begin, obtain, ofLock, check, make, withCause, statusOf, milliseconds, RELEASE, CHECK });

const tools = { hub, run, listen, collected, check, make, statusOf, bytes, milliseconds, caller, natives, warned, Store };
const semaphores = semaphore(tools);
require('./internal.js').tools = { ...tools, insides, Lock };
const { SemaphoreManager, keyName, templateName } = semaphores;

module.exports = { Store, Lock, LockSet, Session, SemaphoreManager, keyName, templateName, fencing, metrics: native.metrics, schemes: native.schemes, ...classes };
