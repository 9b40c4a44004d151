'use strict';

// Locks as Symfony's Lock component has them: a factory, and locks of which each is an owner of its own.

const { setTimeout: sleep } = require('node:timers/promises');
const { Store, NotHeld, LockLost, LockTimeout } = require('./index.js');
const { make, statusOf } = require('./errors.js');
const { onAbort } = require('./abort.js');
const { milliseconds } = require('./internal.js').tools;

/** ms, of a lock that is made without saying. */
const TTL = 300_000;

function open(url, options) {
  // A quorum grants no longer leases than its `max_ttl`, a minute unless it is told.
  const isShort = url.startsWith('quorum:') && !url.includes('max_ttl=');
  return new Store(url, isShort ? { max_ttl: TTL, ...options } : options);
}

/** The state of a key. */
let of;

/** One request of a hold after the other: it answers one at a time. */
function asked(state, request) {
  const turn = state.asking.then(request);
  state.asking = turn.catch(() => {});
  return turn;
}

/** How long an acquire may wait, and the signal that ends it. */
class Patience {
  #end;

  constructor(blocking, { timeout, signal } = {}) {
    const wait = milliseconds(timeout, 'timeout');
    this.blocking = blocking;
    this.#end = wait < 0 ? Infinity : performance.now() + wait;
    this.signal = signal;
  }

  get left() {
    return this.blocking ? Math.max(0, this.#end - performance.now()) : 0;
  }

  cancelled() {
    return make({ status: statusOf.CANCELLED, operation: 'acquire' }, { cause: this.signal.reason });
  }

  /** Whether a promise that is kept is so before the time is over; rejects if the signal is given before. */
  sees(promise) {
    return new Promise((resolve, reject) => {
      if (this.signal?.aborted) throw this.cancelled();
      const end = (how, what) => {
        clearTimeout(timer);
        deaf();
        how(what);
      };
      // Longer than timers go is for ever.
      const timer = this.left < 2 ** 31 ? setTimeout(() => end(resolve, false), this.left) : undefined;
      const deaf = onAbort(this.signal, () => end(reject, this.cancelled()));
      promise.then(() => end(resolve, true));
    });
  }
}

/** What holds is forgotten, and given back. */
async function forget(state) {
  const held = state.held;
  state.held = null;
  state.end = null;
  try {
    if (held !== null) await asked(state, () => held.release());
  } catch (error) {
    if (!(error instanceof LockLost || error instanceof NotHeld)) throw error;
  }
}

/** Whether the last TTL that was asked for is over; the store may think that there is time. */
const isOver = (state) => state.end !== null && performance.now() >= state.end;

/** The clock of this process, which tells nothing elsewhere, as that of the wall. */
const wall = () => Date.now() - performance.now();

/** The name of a lock, and its owner. Turning it into JSON hands what it holds over. */
class Key {
  #state = {
    held: null,
    text: null,
    isLost: false,
    /** When the hold ends by the last TTL, though the lease in the store may last longer. */
    end: null,
    adopting: undefined,
    last: Promise.resolve(),
    /** What the acquire whose turn it is waits for, if for others. */
    wait: undefined,
    asking: Promise.resolve(),
  };

  static {
    of = (key) => key.#state;
  }

  constructor(resource) {
    this.resource = resource;
  }

  /** A key that came as JSON, or as what JSON says. */
  static from(json) {
    const { resource, hex, text, isLost, end = null } = typeof json === 'string' ? JSON.parse(json) : json;
    const key = new Key(hex === undefined ? resource : Buffer.from(hex, 'hex'));
    Object.assign(key.#state, { text, isLost, end: end === null ? null : end - wall() });
    return key;
  }

  toString() {
    return typeof this.resource === 'string' ? this.resource : Buffer.from(this.resource).toString();
  }

  toJSON() {
    const state = this.#state;
    try {
      if (state.held !== null) state.text = state.held.export();
    } catch (error) {
      if (!(error instanceof LockLost || error instanceof NotHeld)) throw error;
    }
    state.held = null;
    const resource = typeof this.resource === 'string' ? { resource: this.resource } : { hex: Buffer.from(this.resource).toString('hex') };
    return { ...resource, text: state.text, isLost: state.isLost, end: state.end === null ? null : state.end + wall() };
  }
}

// A key may live on in a variable of the program's, and with it what another lock of it has acquired.
const collected = new FinalizationRegistry(({ state, mine }) => {
  if (mine !== null && mine === state.held) forget(state).catch(() => {});
});

/** Makes locks of one store, which a URL names. */
class LockFactory {
  constructor(store, options) {
    this.store = store instanceof Store ? store : open(store ?? process.env.SYNLOCK_URL ?? '', options);
  }

  /** A lock that takes nothing yet; `ttl` is ms, null without. */
  createLock(resource, ttl = TTL, autoRelease = true) {
    return this.createLockFromKey(new Key(resource), ttl, autoRelease);
  }

  /** A lock of a key, which may come from another process; locks of one key are one owner. */
  createLockFromKey(key, ttl = TTL, autoRelease = true) {
    return new Lock(this.store, key, ttl, autoRelease);
  }
}

class Lock {
  #store;
  #resource;
  #state;
  #ttl;
  #options;
  #canShare;
  /** What this object has acquired, or lengthened. */
  #own;

  constructor(store, key, ttl = null, autoRelease = true) {
    const can = store.capabilities;
    const own = key instanceof Key ? key : new Key(key);
    this.#store = store;
    this.#resource = own.resource;
    this.#state = of(own);
    this.#ttl = ttl || undefined;
    this.#canShare = can.shared;
    // Stores without leases take no notice of a TTL.
    this.#options = { ttl: can.ttl ? this.#ttl : undefined, autoRelease };
    this.#own = { state: this.#state, mine: null };
    if (autoRelease) collected.register(this, this.#own);
  }

  /** Takes the lock, whether or not this object has it; a reader becomes the only one, or stays a reader. */
  async acquire(blocking = true, options = {}) {
    const patience = new Patience(blocking, options);
    return this.#inTurn(patience, async () => {
      for (;;) {
        const held = await this.#holding();
        if (held?.mode !== 'shared') return held !== null || this.#take({ ...this.#options }, patience);
        const isAlone = await this.#promote(held, patience);
        if (isAlone !== undefined) return isAlone;
      }
    });
  }

  /** Takes the lock together with other readers; a writer becomes a reader. */
  async acquireRead(blocking = true, options = {}) {
    const patience = new Patience(blocking, options);
    return this.#inTurn(patience, async () => {
      const held = await this.#holding();
      if (held !== null) {
        if (this.#canShare && held.mode === 'exclusive') await asked(this.#state, () => held.demote());
        return true;
      }
      // Readers are writers where nobody can read beside others.
      return this.#take({ ...this.#options, shared: this.#canShare }, patience);
    });
  }

  /** One acquire after the other: a second one must find what the first has got, not wait for it. */
  #inTurn(patience, work) {
    const state = this.#state;
    const { last } = state;
    const turn = (async () => {
      const isCome = await (patience.blocking ? patience.sees(last) : this.#comesSoon(last));
      return isCome && work();
    })();
    // Also behind those whom this one has not waited for.
    // Without what they came to, which would be kept with all that came before.
    state.last = Promise.allSettled([last, turn]).then(() => {});
    return turn;
  }

  /** Whether the turns before end without a wait for others; one that has not within an exchange with the store waits. */
  async #comesSoon(last) {
    let isCome = false;
    const come = last.then(() => (isCome = true));
    // Where nobody has a turn the store is not asked.
    await undefined;
    while (!isCome) {
      const { wait } = this.#state;
      await Promise.race([come, this.#store.isLocked(this.#resource).catch(() => sleep(1))]);
      if (!isCome && wait !== undefined && wait === this.#state.wait) return false;
    }
    return true;
  }

  /** A wait for others, in the turn of this acquire. */
  async #waits(wait) {
    const state = this.#state;
    state.wait = wait;
    try {
      return await wait;
    } finally {
      state.wait = undefined;
    }
  }

  /** Whether a reader has become the only one; undefined if the hold was given back meanwhile. It can be asked between tries. */
  async #promote(held, patience) {
    const state = this.#state;
    const isHeld = () => state.held === held;
    for (let pause = 10; isHeld(); pause = Math.min(pause * 1.5, 100)) {
      const isAlone = await asked(state, () => isHeld() && held.promote());
      if (patience.signal?.aborted) {
        if (isAlone) await asked(state, () => isHeld() && held.demote());
        throw patience.cancelled();
      }
      if (isAlone || patience.left === 0) return isAlone;
      await this.#waits(patience.sees(sleep(pause)));
    }
    return undefined;
  }

  async #take(options, patience) {
    // A release that is under way would be in its own way.
    await this.#state.asking;
    const { signal } = patience;
    try {
      this.#state.held = patience.blocking
        ? await this.#waits(this.#store.acquire(this.#resource, { ...options, timeout: patience.left, signal }))
        : await this.#store.tryAcquire(this.#resource, { ...options, signal });
    } catch (error) {
      if (!(error instanceof LockTimeout)) throw error;
    }
    const { held } = this.#state;
    if (held !== null) Object.assign(this.#state, { isLost: false, end: null });
    this.#own.mine = held;
    return held !== null;
  }

  /** What holds; a hold whose TTL is over is given back. */
  async #current() {
    const held = await this.#adopted();
    if (held === null || !isOver(this.#state)) return held;
    this.#state.isLost = true;
    await forget(this.#state);
    return null;
  }

  /** What holds, as far as is known; a hold that was handed over is taken first. */
  async #adopted() {
    const state = this.#state;
    if (state.text) {
      const text = state.text;
      state.text = null;
      // Asked twice at once, both wait for the one answer.
      state.adopting = this.#store.adopt(text, this.#options).then(
        (held) => (state.held = this.#own.mine = held),
        (error) => {
          if (!(error instanceof LockLost)) {
            state.text = text;
            throw error;
          }
          state.isLost = true;
        },
      );
    }
    await state.adopting;
    return state.held;
  }

  /** What holds, its lease renewed; a hold that is lost is forgotten. */
  async #holding() {
    const held = await this.#current();
    try {
      if (held !== null) await this.#lengthen(held, this.#ttl);
    } catch (error) {
      if (!(error instanceof LockLost || error instanceof NotHeld)) throw error;
      this.#state.held = null;
    }
    return this.#state.held;
  }

  #lengthen(held, ttl) {
    const state = this.#state;
    return asked(state, async () => {
      const begin = performance.now();
      if (this.#store.capabilities.ttl) await held.refresh(ttl);
      else await held.ensureHeld();
      // Released meanwhile, it is of no concern to what comes next.
      if (state.held !== held) return;
      state.end = this.#store.capabilities.ttl && ttl ? begin + ttl : null;
      this.#own.mine = held;
    });
  }

  /** Sets what is left of the lease to `ttl` ms from now, or to the lock's own; in the store it is never shortened. */
  async refresh(ttl) {
    if (!(ttl || this.#ttl)) throw make({ status: statusOf.INVALID_ARGUMENT, message: 'refresh() needs a TTL: the lock has none' });
    const held = await this.#current();
    if (held === null) {
      throw this.#state.isLost
        ? make({ status: statusOf.LOST, message: 'the lock was lost' })
        : make({ status: statusOf.NOT_HELD, message: 'the lock is not held' });
    }
    await this.#lengthen(held, ttl || this.#ttl);
  }

  /** Asks the store. */
  async isAcquired() {
    const held = await this.#current();
    return held !== null && asked(this.#state, () => held.isAcquired());
  }

  /** Gives the lock back; without effect if it is not held. */
  async release() {
    await this.#adopted();
    await forget(this.#state);
  }

  /** Whether the lease is over or the lock was lost, as far as this process knows. */
  isExpired() {
    return this.#state.held === null ? this.#state.isLost : this.#state.held.lost || isOver(this.#state);
  }

  /** ms of the lease that are left at least; null without a lease. */
  getRemainingLifetime() {
    const left = this.#state.held === null ? null : this.#state.held.remaining;
    const { end } = this.#state;
    return left === null || end === null ? left : Math.min(left, Math.max(0, end - performance.now()));
  }

  async [Symbol.asyncDispose]() {
    await this.release();
  }
}

module.exports = { LockFactory, Lock, Key };
