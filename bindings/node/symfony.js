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

/** Makes locks of one store, which a URL names. */
class LockFactory {
  constructor(store, options) {
    this.store = store instanceof Store ? store : open(store ?? process.env.SYNLOCK_URL ?? '', options);
  }

  /** A lock that takes nothing yet; `ttl` is ms, null without. */
  createLock(resource, ttl = TTL, autoRelease = true) {
    return new Lock(this.store, resource, ttl, autoRelease);
  }
}

class Lock {
  #store;
  #resource;
  #ttl;
  #options;
  #canShare;
  /** The hold, if there is one. */
  #held = null;
  #last = Promise.resolve();

  constructor(store, resource, ttl = null, autoRelease = true) {
    const can = store.capabilities;
    this.#store = store;
    this.#resource = resource;
    this.#ttl = ttl || undefined;
    this.#canShare = can.shared;
    // Stores without leases take no notice of a TTL.
    this.#options = { ttl: can.ttl ? this.#ttl : undefined, autoRelease };
  }

  /** Takes the lock, whether or not this object has it; a reader becomes the only one, or stays a reader. */
  acquire(blocking = true, { timeout = Infinity, signal } = {}) {
    return this.#inTurn(async () => {
      const held = await this.#holding();
      if (held?.mode === 'shared') return held.promote({ timeout: blocking ? timeout : 0 });
      return held !== null || this.#take({ ...this.#options }, blocking, timeout, signal);
    });
  }

  /** Takes the lock together with other readers; a writer becomes a reader. */
  acquireRead(blocking = true, { timeout = Infinity, signal } = {}) {
    return this.#inTurn(async () => {
      const held = await this.#holding();
      if (held !== null) {
        if (this.#canShare && held.mode === 'exclusive') await held.demote();
        return true;
      }
      // Readers are writers where nobody can read beside others.
      return this.#take({ ...this.#options, shared: this.#canShare }, blocking, timeout, signal);
    });
  }

  /** One acquire after the other: a second one must find what the first has got, not wait for it. */
  #inTurn(work) {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #take(options, blocking, timeout, signal) {
    try {
      this.#held = blocking
        ? await this.#store.acquire(this.#resource, { ...options, timeout, signal })
        : await this.#store.tryAcquire(this.#resource, { ...options, signal });
    } catch (error) {
      if (!(error instanceof LockTimeout)) throw error;
    }
    return this.#held !== null;
  }

  /** What holds, its lease renewed; a hold that is lost is forgotten. */
  async #holding() {
    try {
      if (this.#held !== null) await this.#lengthen(this.#held);
    } catch (error) {
      if (!(error instanceof LockLost || error instanceof NotHeld)) throw error;
      this.#held = null;
    }
    return this.#held;
  }

  #lengthen(held, ttl) {
    return this.#store.capabilities.ttl ? held.refresh(ttl) : held.ensureHeld();
  }

  /** Lengthens the lease to `ttl` ms from now, or to the lock's own; never shortens it. */
  async refresh(ttl) {
    if (!(ttl || this.#ttl)) throw make({ status: statusOf.INVALID_ARGUMENT, message: 'refresh() needs a TTL: the lock has none' });
    if (this.#held === null) throw make({ status: statusOf.NOT_HELD, message: 'the lock is not held' });
    await this.#lengthen(this.#held, ttl);
  }

  /** Asks the store. */
  async isAcquired() {
    return this.#held !== null && this.#held.isAcquired();
  }

  /** Gives the lock back; without effect if it is not held. */
  async release() {
    const held = this.#held;
    this.#held = null;
    try {
      await held?.release();
    } catch (error) {
      if (!(error instanceof LockLost || error instanceof NotHeld)) throw error;
    }
  }

  /** Whether the lease is over or the lock was lost, as far as this process knows. */
  isExpired() {
    return this.#held !== null && this.#held.lost;
  }

  /** ms of the lease that are left at least; null without a lease. */
  getRemainingLifetime() {
    return this.#held === null ? null : this.#held.remaining;
  }

  async [Symbol.asyncDispose]() {
    await this.release();
  }
}

module.exports = { LockFactory, Lock };
