'use strict';

// Locks as Symfony's Lock component has them: a factory, and locks of which each is an owner of its own.

const { Store, NotHeld, LockLost, LockTimeout } = require('./index.js');
const { make, statusOf } = require('./errors.js');

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
  acquire(blocking = true, { timeout = Infinity, signal } = {}) {
    return this.#inTurn(async () => {
      const held = await this.#holding();
      if (held?.mode === 'shared') return asked(this.#state, () => held.promote({ timeout: blocking ? timeout : 0 }));
      return held !== null || this.#take({ ...this.#options }, blocking, timeout, signal);
    });
  }

  /** Takes the lock together with other readers; a writer becomes a reader. */
  acquireRead(blocking = true, { timeout = Infinity, signal } = {}) {
    return this.#inTurn(async () => {
      const held = await this.#holding();
      if (held !== null) {
        if (this.#canShare && held.mode === 'exclusive') await asked(this.#state, () => held.demote());
        return true;
      }
      // Readers are writers where nobody can read beside others.
      return this.#take({ ...this.#options, shared: this.#canShare }, blocking, timeout, signal);
    });
  }

  /** One acquire after the other: a second one must find what the first has got, not wait for it. */
  #inTurn(work) {
    const turn = this.#state.last.then(work);
    this.#state.last = turn.catch(() => {});
    return turn;
  }

  async #take(options, blocking, timeout, signal) {
    // A release that is under way would be in its own way.
    await this.#state.asking;
    try {
      this.#state.held = blocking
        ? await this.#store.acquire(this.#resource, { ...options, timeout, signal })
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
