import { Name, Store } from './index.js';

/** How an acquire waits. */
export interface Wait {
  /** ms; by default for ever. */
  timeout?: number;
  signal?: AbortSignal;
}

/** Makes locks of one store, as the class of Symfony's Lock component; times are ms. */
export class LockFactory {
  constructor(store?: Store | string, options?: Record<string, string | number | boolean>);
  readonly store: Store;
  /**
   * @param ttl ms after which the lock is free unless it is refreshed; null: held until it is released or the
   * owner dies. Stores without leases take no notice of it. 300000 by default.
   * @param autoRelease released when the object is collected, and when the process exits; on by default
   */
  createLock(resource: Name, ttl?: number | null, autoRelease?: boolean): Lock;
  /** A lock of a key, which may come from another process; locks of one key are one owner. */
  createLockFromKey(key: Key, ttl?: number | null, autoRelease?: boolean): Lock;
}

/**
 * The name of a lock, and its owner. `JSON.stringify` of a key that holds hands the hold over: the first use of a copy
 * (this one included) takes it, and the others find it lost. A hold that ends with its process (`flock:`, `memory:`, ...)
 * throws SYNLOCK_UNSUPPORTED.
 */
export class Key {
  constructor(resource: Name);
  /** A key that came as JSON, or as what was parsed of it. */
  static from(json: string | object): Key;
  readonly resource: Name;
  toString(): string;
  toJSON(): object;
}

/** A lock, and its owner: two of them for one resource keep each other out. */
export class Lock {
  constructor(store: Store, key: Key | Name, ttl?: number | null, autoRelease?: boolean);
  /**
   * Waits unless `blocking` is false, for others of its key as well. True also for a lock that this object has; a reader
   * becomes the writer.
   */
  acquire(blocking?: boolean, wait?: Wait): Promise<boolean>;
  /** Takes the lock together with other readers; a writer becomes a reader. */
  acquireRead(blocking?: boolean, wait?: Wait): Promise<boolean>;
  /**
   * Sets what is left of the lease to `ttl` ms from now, or to the lock's own. In the store a lease is never shortened:
   * should the process die, it lasts for the longest TTL. Rejects with LockLost or NotHeld.
   */
  refresh(ttl?: number): Promise<void>;
  /** Asks the store. */
  isAcquired(): Promise<boolean>;
  /** Without effect if the lock is not held. */
  release(): Promise<void>;
  isExpired(): boolean;
  /** ms, null without a lease. */
  getRemainingLifetime(): number | null;
  [Symbol.asyncDispose](): Promise<void>;
}
