'use strict';

/** Several locks at once: all of them, or none. */
module.exports = ({ native, insides, begin, obtain, ofLock, check, make, withCause, statusOf, milliseconds, RELEASE, CHECK }) => {
  const OWN = Symbol('own');
  // Whoever has one of its locks has the set: it would be given back when it is collected.
  const sets = new WeakMap();

  class LockSet {
    #native;
    #direct;
    #local;
    #how;
    #signal;

    constructor(token, entries) {
      if (token !== OWN) throw new TypeError('a set is made by LockSet.acquire or a Store');
      const kinds = new Set();
      this.#local = true;
      this.locks = entries.map(({ store, ...entry }) => {
        const inside = insides.get(store);
        if (inside === undefined) throw make({ status: statusOf.INVALID_ARGUMENT, message: 'an entry of a set has a `store`' });
        kinds.add(inside.direct);
        this.#local &&= inside.isLocal();
        return inside.idle(entry);
      });
      if (kinds.size > 1) {
        throw make({ status: statusOf.UNSUPPORTED, message: 'locks of custom stores are in sets of their own: the loop asks these itself, and others never' });
      }
      this.#direct = kinds.has(true);
      this.#native = new native.NativeSet(this.locks.map(ofLock.number));
      check(this.#native.made());
      for (const lock of this.locks) sets.set(lock, this);
    }

    static async acquire(entries, options) {
      const set = new LockSet(OWN, Array.from(entries));
      const outcome = await set.#acquire(options?.timeout, options?.signal);
      if (outcome.status === 0) return set;
      throw withCause(make(outcome.status === statusOf.BUSY ? { ...outcome, status: statusOf.TIMEOUT } : outcome));
    }

    static async tryAcquire(entries, options) {
      const set = new LockSet(OWN, Array.from(entries));
      const outcome = await set.#acquire(0, options?.signal);
      if (outcome.status === 0) return set;
      if (outcome.status === statusOf.BUSY) return null;
      throw withCause(make(outcome));
    }

    static async using(entries, options, work) {
      if (typeof options === 'function') [options, work] = [undefined, options];
      const set = await LockSet.acquire(entries, options);
      // Watched from the start, so that the work can be told.
      void set.signal;
      let result;
      try {
        result = await work(set);
      } catch (error) {
        await set.release().catch(() => {});
        throw error;
      }
      await set[Symbol.asyncDispose]();
      return result;
    }

    async #acquire(timeout, signal) {
      const wait = timeout === undefined || timeout === null ? this.#native.timeout : milliseconds(timeout, 'timeout');
      const outcome = await obtain(this.#native, this.#direct, this.#local, wait, signal);
      if (outcome.status === 0) this.#how = outcome;
      return outcome;
    }

    get waited() {
      return this.#how?.waited ?? 0;
    }

    get contended() {
      return this.#how?.contended ?? false;
    }

    get signal() {
      return (this.#signal ??= AbortSignal.any(this.locks.map((lock) => lock.signal)));
    }

    [Symbol.iterator]() {
      return this.locks[Symbol.iterator]();
    }

    /** Its locks are in use for as long. */
    async #run(op) {
      this.locks.forEach(ofLock.enter);
      try {
        return await begin(this.#native, op);
      } finally {
        this.locks.forEach(ofLock.leave);
      }
    }

    async release() {
      while (this.locks.some(ofLock.isUsed)) await Promise.all(this.locks.map(ofLock.quiet));
      const outcome = this.#local ? this.#native.releaseSync() : await this.#run(RELEASE);
      // One that is released in the background is not watched any more either.
      this.locks.forEach(ofLock.end);
      return { late: check(outcome).late ?? false };
    }

    async ensureHeld() {
      check(this.#direct ? this.#native.checkSync() : await this.#run(CHECK));
    }

    async [Symbol.asyncDispose]() {
      try {
        await this.release();
      } catch (error) {
        if (error.code !== 'SYNLOCK_NOT_HELD') throw error;
      }
    }
  }

  return { LockSet };
};
