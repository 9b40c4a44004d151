// Locks by typed keys, as Avtonom's semaphore bundle has them for PHP.
'use strict';

const { EventEmitter } = require('node:events');
const { channel } = require('node:diagnostics_channel');
const native = require('./native.js');
const { onAbort } = require('./abort.js');

const SETTINGS = ['tries', 'sleep', 'jitter', 'ttl', 'prefix', 'repeat', 'demo', 'keyStorage'];
const DEEPEST = 64;
const events = channel('synlock.semaphore');

module.exports = ({ hub, run, listen, collected, check, make, statusOf, bytes, milliseconds, caller, natives, warned, Store }) => {
  const invalid = (message) => make({ status: statusOf.INVALID_ARGUMENT, message });

  function number(value) {
    if (!Number.isFinite(value)) throw invalid(`a key has the number ${value}`);
    if (Object.is(value, -0)) return '-0.0';
    const text = String(value);
    // Beyond the safe ones it is no whole number of other languages.
    return Number.isInteger(value) && !Number.isSafeInteger(value) && !text.includes('e') ? `${text}.0` : text;
  }

  /** Bytes that need not be UTF-8, as text of JSON. */
  function quoted(data) {
    const out = [34];
    for (const byte of data) {
      if (byte < 32) out.push(...Buffer.from(`\\u${byte.toString(16).padStart(4, '0')}`));
      else if (byte === 34 || byte === 92) out.push(92, byte);
      else out.push(byte);
    }
    return Buffer.from([...out, 34]);
  }

  /** What JSON has for an object that says so itself, such as a date. */
  function told(value, place) {
    const tells = typeof value === 'object' && typeof value?.toJSON === 'function' && !(value instanceof Uint8Array);
    return tells ? value.toJSON(place) : value;
  }

  /** Whether an object is what its own properties say; a Map would have none. */
  function isPlain(value) {
    const kind = Object.getPrototypeOf(value);
    // That of an object of another realm too.
    return kind === null || Object.getPrototypeOf(kind) === null;
  }

  /** The pieces of a key's JSON: JavaScript's own writer has neither bytes nor bigints, and no sign of zero. */
  function write(part, out, depth, place = '') {
    if (depth > DEEPEST) throw invalid('a key has lists more than 64 deep');
    const value = told(part, place);
    if (value === null || typeof value === 'boolean') out.push(Buffer.from(String(value)));
    else if (typeof value === 'string') out.push(Buffer.from(JSON.stringify(value)));
    else if (typeof value === 'number') out.push(Buffer.from(number(value)));
    else if (typeof value === 'bigint') out.push(Buffer.from(String(value)));
    else if (value instanceof Uint8Array) out.push(quoted(value));
    else if (Array.isArray(value)) {
      out.push(Buffer.from('['));
      value.forEach((part, place) => {
        if (place > 0) out.push(Buffer.from(','));
        write(part, out, depth + 1, String(place));
      });
      out.push(Buffer.from(']'));
    } else if (typeof value === 'object') {
      if (!isPlain(value)) throw invalid(`a key is made of plain objects and of those with a toJSON(), not of ${value.constructor?.name}`);
      out.push(Buffer.from('{'));
      Object.entries(value).forEach(([name, part], place) => {
        out.push(Buffer.from(`${place > 0 ? ',' : ''}${JSON.stringify(name)}:`));
        write(part, out, depth + 1, name);
      });
      out.push(Buffer.from('}'));
    } else throw invalid(`a key is made of strings, numbers, booleans, null, lists and objects, not of ${typeof value}`);
  }

  function json(key) {
    const out = [];
    write(key, out, 0);
    return new Uint8Array(Buffer.concat(out));
  }

  /** A value of a template: what every language writes alike. */
  function written(value, name) {
    if (typeof value === 'bigint' || Number.isSafeInteger(value)) return new Uint8Array(Buffer.from(String(value)));
    if (value instanceof Uint8Array) return new Uint8Array(value);
    if (typeof value === 'string' && value.isWellFormed()) return new Uint8Array(Buffer.from(value));
    throw invalid(`the value of ${name} is made of text or a whole number, not of ${typeof value}`);
  }

  function templateName(template, values) {
    const pairs = Object.entries(values).flatMap(([name, value]) => [bytes(name), written(value, name)]);
    return named(check(native.templateName(bytes(template), pairs)));
  }

  const ttlOf = (ttl) => (ttl === undefined || ttl === null ? undefined : milliseconds(ttl, 'ttl'));
  const named = ({ value }) => Buffer.from(value, 'hex');
  const how = ({ waited, contended, attempts }) => ({ waited, contended, attempts });

  // Told at the end of the process, if they are still there.
  const living = new Set();
  const gone = new FinalizationRegistry((reference) => living.delete(reference));

  class SemaphoreManager extends EventEmitter {
    #native;
    #observed = false;
    /** What is under way. */
    #running = new Set();

    constructor(store, options = {}) {
      super();
      for (const key of Object.keys(options)) {
        if (!SETTINGS.includes(key)) throw make({ status: statusOf.UNKNOWN_OPTION, message: `there is no option \`${key}\`` });
      }
      const { tries = 240, sleep = 500, jitter = 0, ttl = 60_000, prefix = 'lock_', repeat = 'error', demo = false } = options;
      this.keyStorage = options.keyStorage;
      this.store = store instanceof Store ? store : new Store(store);
      const settings = {
        tries,
        sleep: milliseconds(sleep, 'sleep'),
        jitter: milliseconds(jitter, 'jitter'),
        ttl: milliseconds(ttl, 'ttl'),
        prefix: bytes(prefix),
        repeat,
        demo: Boolean(demo),
      };
      this.#native = new native.NativeManager(natives.get(this.store), settings);
      check(this.#native.made());
      this.#native.observeWarnings(hub, warned);
      const reference = new WeakRef(this);
      living.add(reference);
      gone.register(this, reference);
      this.on('newListener', (event) => {
        if (event === 'event') this.#observe();
      });
      if (events.hasSubscribers) this.#observe();
    }

    get url() {
      return this.#native.url;
    }

    #observe() {
      if (this.#observed) return;
      this.#observed = true;
      // The listener must not keep this manager from being collected.
      const reference = new WeakRef(this);
      const id = listen(({ value }) => {
        const event = JSON.parse(value);
        event.name = Buffer.from(event.name, 'hex');
        reference.deref()?.emit('event', event);
        if (events.hasSubscribers) events.publish(event);
      });
      collected.register(this, id);
      this.#native.observe(hub, id);
    }

    /** Runs an operation that a release waits for. */
    async #run(start) {
      const told = run(start);
      this.#running.add(told);
      try {
        return await told;
      } finally {
        this.#running.delete(told);
      }
    }

    async #release(text, path) {
      for (;;) {
        try {
          return check(await run((id) => this.#native.release(hub, id, text, path)));
        } catch (error) {
          if (error.status !== statusOf.CONCURRENT_USE || this.#running.size === 0) throw error;
        }
        // Another call is about the same key.
        await Promise.race(this.#running).catch(() => {});
      }
    }

    /** Resolves once the lock of a key is held; rejects with SYNLOCK_TIMEOUT, SYNLOCK_REENTERED, SYNLOCK_CANCELLED. */
    async acquire(key, { path = caller() ?? '', ttl, signal } = {}) {
      const text = json(key);
      const cancelled = () => make({ status: statusOf.CANCELLED, operation: 'acquire' }, { cause: signal.reason });
      if (signal?.aborted) throw cancelled();
      const end = new native.NativeSwitch();
      const deaf = onAbort(signal, () => end.throw());
      let outcome;
      try {
        do {
          outcome = await this.#run((id) => this.#native.acquire(hub, id, text, String(path), ttlOf(ttl), end));
          // A lease that was to be lengthened turned out to be lost.
        } while ([statusOf.LOST, statusOf.NOT_HELD].includes(outcome.status) && !signal?.aborted);
      } finally {
        deaf();
      }
      if (signal?.aborted) {
        // Granted before the cancel arrived: given back, so that an abort leaves what was held before and no more.
        if (outcome.status === 0 && !outcome.extended) await this.#release(text, String(path)).catch(() => {});
        throw cancelled();
      }
      return how(check(outcome));
    }

    /** As acquire; blocks the thread. */
    acquireSync(key, { path = caller() ?? '', ttl } = {}) {
      return how(check(this.#native.acquireSync(json(key), String(path), ttlOf(ttl))));
    }

    /** Rejects with SYNLOCK_NOT_HELD, or SYNLOCK_LOST if it was lost meanwhile: whoever has it is left alone. */
    async release(key, { path = caller() ?? '' } = {}) {
      const outcome = await this.#release(json(key), String(path));
      return { late: outcome.late ?? false };
    }

    releaseSync(key, { path = caller() ?? '' } = {}) {
      return { late: check(this.#native.releaseSync(json(key), String(path))).late ?? false };
    }

    /** Runs `work` while the lock of a key is held. */
    async using(key, options, work) {
      if (typeof options === 'function') [options, work] = [{}, options];
      const path = options?.path ?? caller() ?? '';
      await this.acquire(key, { ...options, path });
      let result;
      try {
        result = await work();
      } catch (error) {
        // What the work threw counts for more.
        await this.release(key, { path }).catch(() => {});
        throw error;
      }
      await this.release(key, { path });
      return result;
    }

    /** Lengthens the lease of a held key to `ttl` ms from now, or to its own. */
    async refresh(key, ttl) {
      const text = json(key);
      check(await this.#run((id) => this.#native.look(hub, id, 'refresh', text, ttlOf(ttl))));
    }

    /** Whether this manager holds the key; asks the store. */
    async isAcquired(key) {
      const text = json(key);
      try {
        check(await this.#run((id) => this.#native.look(hub, id, 'check', text, undefined)));
      } catch (error) {
        if ([statusOf.NOT_HELD, statusOf.LOST].includes(error.status)) return false;
        throw error;
      }
      return true;
    }

    name(key) {
      return named(check(this.#native.name(json(key))));
    }

    held() {
      return JSON.parse(this.#native.held()).map(([name, path]) => ({ name: Buffer.from(name, 'hex'), caller: path }));
    }

    measure(on = true) {
      this.#native.measure(Boolean(on));
    }

    close() {
      this.#native.end();
    }
  }

  return {
    SemaphoreManager,
    templateName,
    keyName: (key, prefix = '') => named(check(native.keyName(json(key), prefix === '' ? new Uint8Array() : bytes(prefix)))),
    end: () => {
      for (const reference of living) reference.deref()?.close();
    },
  };
};
