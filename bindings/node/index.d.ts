/// <reference types="node" />
import { EventEmitter } from 'node:events';

/** Text stands for its UTF-8 bytes; a name has 1 to 65536 of any value. */
export type Name = string | Uint8Array;

export interface LockOptions {
  /** Lease in ms. Omitted: held until released or the owner dies. */
  ttl?: number;
  /** Keep the lease alive until release; by default only if `ttl` is omitted. */
  renew?: boolean;
  shared?: boolean;
  /** Number of permits there are, or `[take, of]`. */
  permits?: number | [take: number, of: number];
  /** Release when the process ends or the lock is collected; on by default. */
  autoRelease?: boolean;
  /** First come, first served; on by default. */
  fair?: boolean;
  strict?: boolean;
  /**
   * This process asks again: another owner (default), `Reentered`, or a share in the hold, as far as that covers it.
   * The first release ends the hold for all of them.
   */
  reentry?: 'independent' | 'error' | 'extend';
  /** Words for whoever inspects the lock, at most 255 bytes. */
  label?: string;
}

export interface AcquireOptions extends LockOptions {
  /** How long to wait, ms; by default as the URL says, or for ever. */
  timeout?: number;
  /** Ends the wait; afterwards nothing is held. */
  signal?: AbortSignal;
}

export interface Holder {
  owner: string;
  mode: 'exclusive' | 'shared' | 'permits';
  permits: number;
  host: string | null;
  pid: number | null;
  label: string | null;
  /** ms, null without a lease. */
  remaining: number | null;
  held: number | null;
  fencingToken: bigint | null;
}

export interface Inspection {
  name: Buffer;
  waiters: number | null;
  holders: Holder[];
}

export interface LockEvent {
  kind: 'acquired' | 'waiting' | 'refused' | 'released' | 'refreshed' | 'lost' | 'forgotten' | 'warning';
  /** `error` of managers alone. */
  level: 'debug' | 'info' | 'notice' | 'warning' | 'error';
  status: number;
  pid: number;
  store: string;
  name: Buffer;
  owner: string;
  label: string | null;
  /** `file:line` of the acquire that the event belongs to; null for those of the store. */
  caller: string | null;
  /** The typed key that a manager made the name from, as JSON. */
  key: string | null;
  operation: 'acquire' | 'release' | 'refresh' | 'hold' | 'end';
  waited: number;
  held: number;
  attempts: number;
  message: string;
  /** All of it as one line for a log. */
  line: string;
}

export interface Capabilities {
  store: string;
  shared: boolean;
  promote: boolean;
  permits: boolean;
  ttl: boolean;
  freesOnDeath: boolean;
  fence: 'none' | 'E' | 'H' | 'D';
  wakes: boolean;
  fair: boolean;
  export: boolean;
  list: boolean;
  breakLock: boolean;
  survivesRestart: boolean;
  clock: 'none' | 'process' | 'host' | 'server';
  scope: 'process' | 'host' | 'cluster';
}

/** What a custom store is asked about; times are ms. */
export interface Ask {
  /** Of `list`, the beginning of names. */
  name: Buffer;
  /** 32 hexadecimal digits, never used for two holds. Whoever knows them may release the lock. */
  owner: string;
  /** Of `changeMode` the new one. */
  mode: 'exclusive' | 'shared' | 'permits';
  permits: [take: number, of: number] | null;
  /** null without a lease. */
  ttl: number | null;
  /** How long the answer may take; null leaves it to the store. */
  time: number | null;
  label: string | null;
  /** Whether the caller will ask again should the lock be taken. */
  waits: boolean;
}

/** Granted with or without a fencing token, or busy: until when, and when to ask again, ms. */
export type Attempt =
  | boolean
  | bigint
  | { granted: true; fencingToken?: bigint; recovered?: boolean }
  | { granted: false; until?: number; poll?: number };

/**
 * What an object must be able to do to be a store, each at once and in one step, and what it may; it can do
 * what it has. What it throws becomes a SynlockError with it as the `cause`: its own status if it is one,
 * else SYNLOCK_UNCERTAIN from what acts (the hold is released by the next call) and SYNLOCK_UNAVAILABLE
 * from what looks.
 */
export interface CustomStore {
  /** May this owner hold the lock now? Asked again by an owner that holds it, it is a grant. */
  attempt(ask: Ask): Attempt;
  /** Ends the owner's hold; false if it has none. */
  release(ask: Ask): boolean;
  isHeld(ask: Ask): boolean;
  /** Lengthens the owner's hold to `ttl` from now, never shortens it; false if it has none. */
  extend?(ask: Ask): boolean;
  /** As attempt; throws LockLost if the owner has no hold. */
  changeMode?(ask: Ask): Attempt;
  inspect?(ask: Ask): Iterable<Partial<Holder>>;
  list?(ask: Ask): Iterable<{ name: Name; holders: Iterable<Partial<Holder>>; waiters?: number | null }>;
  /** False if nobody held the lock. */
  breakLock?(ask: Ask): boolean;
  ping?(ask: Ask): void;
  readonly shared?: boolean;
  readonly permits?: boolean;
  readonly freesOnDeath?: boolean;
  readonly survivesRestart?: boolean;
  readonly fence?: 'E' | 'H' | 'D';
  readonly scope?: 'process' | 'host' | 'cluster';
}

/** One hold. Never keeps the process alive; released when the process exits. */
export class Lock {
  private constructor();
  readonly name: Name;
  readonly state: 'idle' | 'acquiring' | 'held' | 'expired' | 'lost' | 'releasing' | 'forked';
  readonly mode: 'exclusive' | 'shared' | 'permits';
  /** ms that the acquire took. */
  readonly waited: number;
  readonly contended: boolean;
  /** ms of the lease that are left at least; null without a lease. */
  readonly remaining: number | null;
  readonly fencingToken: bigint | null;
  /** Whoever has it may release the lock. */
  readonly ownerToken: string | null;
  readonly lost: boolean;
  /** Aborts when the hold is lost. */
  readonly signal: AbortSignal;
  /** Waits for what is under way on the lock; a promotion that waits rejects with LockCancelled. */
  release(): Promise<{ late: boolean }>;
  /** ConcurrentUse if anything is under way on the lock. */
  releaseSync(): { late: boolean };
  refresh(ttl?: number): Promise<void>;
  refreshSync(ttl?: number): void;
  /** Of two that wait for it without a bound neither gets it: give a timeout, and release when it is refused. */
  promote(options?: { timeout?: number }): Promise<boolean>;
  demote(): Promise<void>;
  /** Asks the store; rejects with LockLost or NotHeld unless the lock is held. */
  ensureHeld(): Promise<void>;
  isAcquired(): Promise<boolean>;
  export(): string;
  [Symbol.asyncDispose](): Promise<void>;
  [Symbol.dispose](): void;
}

/** A lock of a set: its name, and options of its own. */
export interface SetEntry extends LockOptions {
  name: Name;
}

/**
 * Locks that were taken together, all or none, on any stores and in any modes. No two sets can wait for one another,
 * whatever the order of their locks. While it waits, a set may hold some of its locks, with leases that are renewed;
 * it gives them back if it fails. Released when the process exits, or when neither the set nor any of its locks is
 * reachable.
 */
export class LockSet implements Iterable<Lock> {
  private constructor();
  /** Resolves once all are held; rejects with LockTimeout or LockCancelled, and none is. Waits as the first lock's URL says, unless `timeout` does. */
  static acquire(entries: Iterable<SetEntry & { store: Store }>, options?: { timeout?: number; signal?: AbortSignal }): Promise<LockSet>;
  /** Null if somebody holds one of them. */
  static tryAcquire(entries: Iterable<SetEntry & { store: Store }>, options?: { signal?: AbortSignal }): Promise<LockSet | null>;
  /** Runs `work` under all; rejects with LockLost if one was lost and `work` did not throw. */
  static using<T>(entries: Iterable<SetEntry & { store: Store }>, work: (set: LockSet) => T | Promise<T>): Promise<T>;
  static using<T>(
    entries: Iterable<SetEntry & { store: Store }>,
    options: { timeout?: number; signal?: AbortSignal } | undefined,
    work: (set: LockSet) => T | Promise<T>,
  ): Promise<T>;
  /** In the order in which they were named. */
  readonly locks: readonly Lock[];
  /** ms that the acquire took. */
  readonly waited: number;
  readonly contended: boolean;
  /** Aborts when one of the holds is lost. */
  readonly signal: AbortSignal;
  /** Releases all, and rejects with what the first said that was not released as it should be. */
  release(): Promise<{ late: boolean }>;
  /** Asks the stores; rejects with LockLost or NotHeld unless all are held. */
  ensureHeld(): Promise<void>;
  [Symbol.iterator](): Iterator<Lock>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Where locks are kept. Opening connects to nothing. Emits `event`; publishes to the diagnostics channel `synlock`. */
export class Store extends EventEmitter {
  constructor(url?: string, options?: Record<string, string | number | boolean>);
  static open(url?: string, options?: Record<string, string | number | boolean>): Promise<Store>;
  static openSync(url?: string, options?: Record<string, string | number | boolean>): Store;
  /**
   * A store that keeps its locks in an object of one's own, `custom:NAME`. It is asked on this thread
   * alone: a wait asks again and again, and nobody renews a lease.
   */
  static custom(store: CustomStore, options?: { name?: string } & Record<string, string | number | boolean>): Store;
  /** Without credentials. */
  readonly url: string;
  readonly fingerprint: string;
  readonly capabilities: Capabilities;
  acquire(name: Name, options?: AcquireOptions): Promise<Lock>;
  tryAcquire(name: Name, options?: LockOptions & { signal?: AbortSignal }): Promise<Lock | null>;
  acquireSync(name: Name, options?: LockOptions & { timeout?: number }): Lock;
  tryAcquireSync(name: Name, options?: LockOptions): Lock | null;
  /** As `LockSet.acquire`, of locks of this store. */
  acquireAll(entries: Iterable<Name | SetEntry>, options?: { timeout?: number; signal?: AbortSignal }): Promise<LockSet>;
  tryAcquireAll(entries: Iterable<Name | SetEntry>, options?: { signal?: AbortSignal }): Promise<LockSet | null>;
  usingAll<T>(entries: Iterable<Name | SetEntry>, work: (set: LockSet) => T | Promise<T>): Promise<T>;
  usingAll<T>(
    entries: Iterable<Name | SetEntry>,
    options: { timeout?: number; signal?: AbortSignal } | undefined,
    work: (set: LockSet) => T | Promise<T>,
  ): Promise<T>;
  using<T>(name: Name, work: (lock: Lock) => T | Promise<T>): Promise<T>;
  using<T>(name: Name, options: AcquireOptions, work: (lock: Lock) => T | Promise<T>): Promise<T>;
  ping(options?: { timeout?: number }): Promise<void>;
  isLocked(name: Name): Promise<boolean>;
  breakLock(name: Name): Promise<boolean>;
  /** Makes the table of the store, if it is not there; `Unsupported` where there is none. */
  createTable(options?: { timeout?: number }): Promise<void>;
  /** The SQL that makes the table, on the store's own engine or a named one. */
  ddl(engine?: 'sqlite' | 'postgres' | 'mysql'): Promise<string>;
  /** What dead users left and nobody has cleared away, and damage; `Unsupported` except on `shm:`. */
  check(): Promise<string[]>;
  inspect(name: Name): Promise<Inspection>;
  list(options?: { prefix?: Name; cursor?: string | null; limit?: number }): Promise<{
    locks: Inspection[];
    cursor: string | null;
  }>;
  waitFree(name: Name, options?: { timeout?: number; signal?: AbortSignal }): Promise<boolean>;
  adopt(text: string, options?: LockOptions): Promise<Lock>;
  /** Counts what happens to the locks of this store, for `metrics()`; off, it costs nothing. */
  measure(on?: boolean): void;
  /** One owner of many locks, known by its id; with an id of yours it is the persistent session of that id. */
  session(options?: { id?: string }): Session;
  on(event: 'event', listener: (event: LockEvent) => void): this;
  on(event: string | symbol, listener: (...values: any[]) => void): this;
}

/**
 * One owner of any number of exclusive locks, known by its id: Drupal's model of locks. They end with it:
 * released together, when it is disposed of or collected, and at the end of the process; those of a
 * persistent session outlive it and the process until their leases end. Times are milliseconds.
 */
export class Session {
  private constructor();
  /** The same for the session's whole life. */
  readonly id: string;
  /**
   * Takes the lock for `ttl` (30 s), or renews it if the session holds it; does not wait. False if
   * somebody else holds it; to who held it, that somebody else has it or may have had it.
   */
  acquire(name: Name, options?: { ttl?: number }): Promise<boolean>;
  acquireSync(name: Name, options?: { ttl?: number }): boolean;
  /** Lengthens a hold; false if there is none. A persistent session renews what any process acquired. */
  renew(name: Name, options?: { ttl?: number }): Promise<boolean>;
  renewSync(name: Name, options?: { ttl?: number }): boolean;
  /** Whether an acquire by somebody else would find the lock free now. Breaks a hold whose lease has ended. */
  mayBeAvailable(name: Name): Promise<boolean>;
  mayBeAvailableSync(name: Name): boolean;
  /** Waits until the lock may be available: true if it is still held after `delay` (30 s). Takes nothing. */
  wait(name: Name, options?: { delay?: number; signal?: AbortSignal }): Promise<boolean>;
  /** As `wait`; blocks the thread. */
  waitSync(name: Name, options?: { delay?: number }): boolean;
  /** Releases one lock; false if the session did not hold it any more. */
  release(name: Name): Promise<boolean>;
  releaseSync(name: Name): boolean;
  /**
   * Releases all locks of this session (of a persistent one what this object took, not what others took under its id), or
   * all of that id; how many there were.
   */
  releaseAll(id?: string): Promise<number>;
  releaseAllSync(id?: string): number;
  [Symbol.asyncDispose](): Promise<void>;
  [Symbol.dispose](): void;
}

export function schemes(): string[];

/** What the stores that this process measures counted, in Prometheus' text format. */
export function metrics(): string;

/**
 * A part of a key. A whole number stands for one of PHP and Python if it is safe, or a bigint. An object is a plain
 * one, or has a `toJSON()` that says what it is in JSON, as a `Date` has; others are refused.
 */
export type KeyPart =
  | string
  | number
  | bigint
  | boolean
  | null
  | Uint8Array
  | KeyPart[]
  | { [name: string]: KeyPart }
  | { toJSON(place: string): unknown };
/** Text, or a list that begins with text. The same key is the same lock in every language. */
export type Key = string | Uint8Array | KeyPart[];

/** The name that a typed key stands for, in every language. */
export function keyName(key: Key, prefix?: Name): Buffer;

/** The name that a template such as `order_{id}` makes, in every language; a placeholder without a value is an error. */
export function templateName(template: Name, values: Record<string, string | number | bigint | Uint8Array>): Buffer;

export interface SemaphoreOptions {
  /** How often to try: with `sleep`, how long to wait. Waiting is woken. 240 by default. */
  tries?: number;
  /** ms that a try lasts; 500 by default, 0 does not wait. */
  sleep?: number;
  /** ms by which a try may last longer, at random. */
  jitter?: number;
  /** Lease in ms of a lock that is acquired without one; 60000 by default. */
  ttl?: number;
  /** What names begin with; `lock_` by default. */
  prefix?: Name;
  /** Asking again for a key that this process holds. */
  repeat?: 'error' | 'extend';
  /** Writes nothing, grants everything, tells it all. */
  demo?: boolean;
  /** The application's keys: whatever is given. */
  keyStorage?: unknown;
}

export interface SemaphoreUse {
  /** Where the program asks from, for the log; by default `file:line`. */
  path?: string;
}

/**
 * Locks by typed keys with one set of retry settings, as Avtonom's semaphore bundle has them for PHP. A process
 * holds a key, so that asking again for a held one is refused, or extends its lease. Emits `event`; publishes to the
 * diagnostics channel `synlock.semaphore`. What it holds when the process ends is released, and told.
 */
export class SemaphoreManager extends EventEmitter {
  constructor(store?: Store | string, options?: SemaphoreOptions);
  readonly url: string;
  readonly keyStorage: unknown;
  acquire(
    key: Key,
    options?: SemaphoreUse & { ttl?: number; signal?: AbortSignal },
  ): Promise<{ waited: number; contended: boolean; attempts: number }>;
  acquireSync(key: Key, options?: SemaphoreUse & { ttl?: number }): { waited: number; contended: boolean; attempts: number };
  release(key: Key, options?: SemaphoreUse): Promise<{ late: boolean }>;
  releaseSync(key: Key, options?: SemaphoreUse): { late: boolean };
  using<T>(key: Key, work: () => T | Promise<T>): Promise<T>;
  using<T>(key: Key, options: SemaphoreUse & { ttl?: number; signal?: AbortSignal }, work: () => T | Promise<T>): Promise<T>;
  refresh(key: Key, ttl?: number): Promise<void>;
  isAcquired(key: Key): Promise<boolean>;
  name(key: Key): Buffer;
  held(): { name: Buffer; caller: string | null }[];
  /** Counts what happens, for `metrics()`. */
  measure(on?: boolean): void;
  /** Releases what is held, and tells of it as forgotten. */
  close(): void;
  on(event: 'event', listener: (event: LockEvent) => void): this;
  on(event: string | symbol, listener: (...values: any[]) => void): this;
}

/** Whose SQL. */
export type Engine = 'sqlite' | 'postgres' | 'mysql';

/**
 * Resources that refuse the writes of a holder that is one no more: they keep the highest
 * `lock.fencingToken` that they have seen, and refuse lower ones in the same transaction as the write.
 */
export const fencing: {
  /**
   * Statements that make the table of tokens and the trigger by which the database refuses to lower one. Run again,
   * they change nothing (MySQL before 8.0.29 says then that it has the trigger).
   */
  ddl(engine: Engine, table?: string): string[];
  /** The trigger for a table of your own: no update of a row lowers the token in `column`. */
  trigger(engine: Engine, table: string, column?: string): string[];
  /**
   * The statement to run first in each transaction that writes, with the lock's name and its token as
   * parameters (`?`; `$1` and `$2` on PostgreSQL). An older token is an error: roll back.
   */
  statement(engine: Engine, table?: string): string;
  /**
   * For EVAL: runs a command unless the token is stale. KEYS: the key that keeps the highest token, then
   * every key of the command; ARGV: the token, then the command and its arguments.
   */
  redisScript(): string;
  /** Whether a driver's error is a refusal. */
  isStale(error: unknown): boolean;
  readonly TABLE: string;
  readonly STALE: string;
};

export class SynlockError extends Error {
  /** `SYNLOCK_` and the name of the status. */
  readonly code: string;
  readonly status: number;
  readonly retriable: boolean;
  readonly store?: string;
  readonly resource?: string;
  readonly operation?: string;
}
export class LockBusy extends SynlockError {}
export class LockTimeout extends SynlockError {}
export class LockLost extends SynlockError {}
export class NotHeld extends SynlockError {}
export class AlreadyHeld extends SynlockError {}
export class LockCancelled extends SynlockError {}
export class LockInterrupted extends SynlockError {}
export class InvalidArgument extends SynlockError {}
export class InvalidUrl extends SynlockError {}
export class Unsupported extends SynlockError {}
export class InvalidHandle extends SynlockError {}
export class ForkedHandle extends SynlockError {}
export class ConcurrentUse extends SynlockError {}
export class Reentered extends SynlockError {}
export class Deadlock extends SynlockError {}
export class Unavailable extends SynlockError {}
export class Uncertain extends SynlockError {}
export class PermissionDenied extends SynlockError {}
export class ProtocolError extends SynlockError {}
export class Exhausted extends SynlockError {}
export class StorageError extends SynlockError {}
export class InternalError extends SynlockError {}
