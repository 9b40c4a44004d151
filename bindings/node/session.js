'use strict';

// Sessions: one owner of many names, by its id; Drupal's model of locks.

module.exports = ({ native, hub, run, watch, lookAgain, check, bytes, milliseconds, isEnding }) => {
  const live = new Set();
  const end = (own) => {
    live.delete(own);
    own.end();
  };
  const collected = new FinalizationRegistry(({ own, direct }) => {
    // Sessions that lived at the end were ended then.
    if (isEnding()) return;
    if (direct) end(own);
    // A server may take its time: not on the loop.
    else run((id) => own.ask(hub, id, 'releaseAll', bytes('x'))).then(() => live.delete(own), () => end(own));
  });

  class Session {
    #native;
    #store;
    #direct;

    /** Made by `store.session()`. */
    constructor(store, direct, id) {
      this.#native = new native.NativeSession(store, id);
      check(this.#native.made());
      this.#store = store;
      this.#direct = direct;
      if (id !== undefined) return;
      live.add(this.#native);
      collected.register(this, { own: this.#native, direct });
    }

    #askSync(what, name, text, number) {
      return JSON.parse(check(this.#native.askSync(what, bytes(name), text, number)).value);
    }

    async #ask(what, name, text, number) {
      if (this.#direct) return this.#askSync(what, name, text, number);
      return JSON.parse(check(await run((id) => this.#native.ask(hub, id, what, bytes(name), text, number))).value);
    }

    get id() {
      return check(this.#native.id()).value;
    }

    acquire(name, { ttl } = {}) {
      return this.#ask('acquire', name, undefined, ttl);
    }

    acquireSync(name, { ttl } = {}) {
      return this.#askSync('acquire', name, undefined, ttl);
    }

    renew(name, { ttl } = {}) {
      return this.#ask('renew', name, undefined, ttl);
    }

    renewSync(name, { ttl } = {}) {
      return this.#askSync('renew', name, undefined, ttl);
    }

    mayBeAvailable(name) {
      return this.#ask('mayBeAvailable', name);
    }

    mayBeAvailableSync(name) {
      return this.#askSync('mayBeAvailable', name);
    }

    /** Woken where the store wakes; a custom store is asked again. */
    async wait(name, { delay = 30_000, signal } = {}) {
      const wait = milliseconds(delay, 'delay');
      const isFree = () => this.#askSync('mayBeAvailable', name);
      return !(await (this.#direct ? lookAgain(isFree, wait, signal) : watch(this.#store, name, wait, signal)));
    }

    waitSync(name, { delay = 30_000 } = {}) {
      return this.#askSync('wait', name, undefined, milliseconds(delay, 'delay'));
    }

    release(name) {
      return this.#ask('release', name);
    }

    releaseSync(name) {
      return this.#askSync('release', name);
    }

    releaseAll(id) {
      return this.#ask('releaseAll', 'x', id);
    }

    releaseAllSync(id) {
      return this.#askSync('releaseAll', 'x', id);
    }

    async [Symbol.asyncDispose]() {
      if (live.has(this.#native)) await this.releaseAll();
    }

    [Symbol.dispose]() {
      if (live.has(this.#native)) this.releaseAllSync();
    }
  }

  return { Session, endSessions: () => [...live].forEach(end) };
};
