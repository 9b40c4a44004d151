import type { IncomingMessage, ServerResponse } from 'node:http';
import { Holder, Lock, LockBusy, Store, SynlockError } from './index.js';

/** How a request is guarded; times are ms. */
export interface PolicyOptions {
  /**
   * `block` (the default): acquires, refused if somebody holds the lock; `check`: refused if somebody does, acquires
   * nothing; `queue`: waits for it; `force`: takes it from whoever holds it.
   */
  mode?: 'block' | 'check' | 'queue' | 'force';
  /** A template: `{id}` becomes the route's parameter of that name. Without: made from route and path. */
  name?: string | Uint8Array;
  /** Which store, by its short or full name. */
  service?: string;
  /** Lease; without: until the release point or the owner's death. */
  ttl?: number;
  /** How long `queue` waits and `force` tries at most; 30000, or as the service says. */
  maxWait?: number;
  /** Each user has a lock of their own. */
  userIsolation?: boolean;
  /** With `userIsolation`, when nobody is logged in; `refuse` is an error. */
  anonymous?: 'refuse' | 'share' | 'session' | 'ip';
  /** HTTP status of a refusal, 423. */
  status?: number;
  /** Words of a refusal. */
  message?: string;
  /** Domain for the translation of the message, for a `refuse` that translates: nothing here does. */
  domain?: string;
  /** Release at the release point; otherwise the lease, or the process' end, ends the hold. */
  autoRelease?: boolean;
  /** `response` (the default): with the last byte, or when the client is gone; `terminate`: when the response is closed. */
  release?: 'response' | 'terminate';
  /** Refuse a TTL on a store without leases. */
  strict?: boolean;
  /** Words for whoever inspects the lock; without: route and path. */
  label?: string;
}

/** How requests are guarded; frozen. */
export class Policy {
  constructor(options?: PolicyOptions);
  static of(given: Policy | PolicyOptions): Policy;
  readonly mode: 'block' | 'check' | 'queue' | 'force';
  readonly name?: string | Uint8Array;
  readonly service?: string;
  readonly ttl?: number;
  readonly maxWait?: number;
  readonly userIsolation: boolean;
  readonly anonymous: 'refuse' | 'share' | 'session' | 'ip';
  readonly status: number;
  readonly message: string;
  readonly domain?: string;
  readonly autoRelease: boolean;
  readonly release?: 'response' | 'terminate';
  readonly strict: boolean;
  readonly label?: string;
}

/** Who asks. */
export interface User {
  /** Without: nobody is logged in. */
  id?: string | number | Uint8Array | null;
  /** The user provider, if there are several. */
  provider?: string | Uint8Array;
}

/** What a guard needs to know of a request. */
export interface GuardRequest {
  route?: string | Uint8Array;
  path?: string | Uint8Array;
  params?: Readonly<Record<string, unknown>>;
  /** Undefined: the application has no notion of users; null: nobody is logged in. */
  user?: User | null;
  session?: string | Uint8Array;
  ip?: string;
  /** The security token as PHP serialises it, for ixarlie's names. */
  token?: string | Uint8Array;
}

/** A request was refused: somebody holds the lock. */
export class Refused extends LockBusy {
  private constructor();
  readonly policy: Policy;
  readonly lockName: string | Buffer;
  /** Short name of the store's service. */
  readonly service: string;
  /** Seconds after which the holder's lease is over; null if unknown. */
  readonly retryAfter: number | null;
  readonly holders: Holder[];
  /** ms. */
  readonly waited: number;
  /** The policy's HTTP status. */
  readonly statusCode: number;
  /** Headers of the answer. */
  readonly headers: Record<string, string>;
}

/** A request that was let in, and what it holds. */
export class Admission {
  private constructor();
  readonly policy: Policy;
  readonly name: string | Buffer;
  readonly service: string;
  /** What is held; null in the mode `check`. */
  readonly lock: Lock | null;
  /** ms. */
  readonly waited: number;
  /** From whom `force` took the lock. */
  readonly broken: Holder[];
  /** For how long it has been, or was, held, ms. */
  readonly held: number;
  readonly isReleased: boolean;
  /** Gives the lock back; nothing the second time. Rejects with LockLost if it was lost meanwhile. */
  release(): Promise<void>;
  /** As `release`: at once where no server is asked, otherwise the promise of it. */
  releaseSoon(): Promise<void> | undefined;
}

export interface HeldOptions {
  /** The release point of policies that name none. */
  release?: 'response' | 'terminate';
  /** Told of a release that failed; by default a warning of the process. */
  log?: (admission: Admission, error: SynlockError) => void;
}

/** What one request was let in with; released at its release points, the latest first. */
export class Held {
  constructor(options?: HeldOptions);
  readonly all: Admission[];
  /** Resolves with null for a lock that the request holds already. */
  enter(guards: Guards, policy: Policy | PolicyOptions, request: GuardRequest, options?: { signal?: AbortSignal }): Promise<Admission | null>;
  holdsUntil(point: 'response' | 'terminate'): boolean;
  /** Releases what is due at the release point; everything, without one. Never rejects. */
  release(point?: 'response' | 'terminate'): Promise<void>;
  releaseSoon(point?: 'response' | 'terminate'): Promise<void> | undefined;
}

type Later<T> = T | Promise<T>;
type Policies<R> = Policy | PolicyOptions | (Policy | PolicyOptions)[] | ((request: R) => Policy | PolicyOptions | (Policy | PolicyOptions)[]);

/** Options of a middleware; `R` is the framework's request (a context in Koa). */
export interface MiddlewareOptions<R = any, A extends unknown[] = any[]> extends HeldOptions {
  /** Finds who asks, for user isolation. */
  user?: (request: R) => Later<User | null | undefined>;
  /** Finds all that is known of a request. */
  describe?: (request: R) => Later<GuardRequest>;
  /** Answers a refused request; has what the framework's middleware has after it. */
  refuse?: (refused: Refused, request: R, ...more: A) => unknown;
  /**
   * Under Node's `http`: answers what is no refusal, such as a store that is out of reach; by default a warning of the
   * process and a 500. Frameworks have handlers of their own.
   */
  onError?: (error: unknown, request: R, ...more: A) => unknown;
}

export interface GuardsOptions extends MiddlewareOptions {
  /** How names are made: `native`, `ixarlie` (its bundle before 2.0) or `ixarlie2` (2.1). */
  dialect?: 'native' | 'ixarlie' | 'ixarlie2';
  /** Which service is meant by policies that name none. */
  default?: string;
}

/** Named stores that requests are guarded with. */
export class Guards {
  /** By short name; or one, which is called `default`. */
  constructor(stores?: string | Store | Record<string, string | Store>, options?: GuardsOptions);
  /** `canWait` is false for a custom store that is not to be waited for; `maxWait` is for policies that do not say. */
  add(name: string, store: string | Store, options?: { canWait?: boolean; maxWait?: number }): this;
  setDefault(name: string): void;
  readonly names: string[];
  /** The short name of a service, by that or a full one; of the default one. */
  find(name?: string): string;
  store(name?: string): Store;
  /** The name of the lock that a request is about; asks no store. */
  name(policy: Policy | PolicyOptions, request: GuardRequest): string | Buffer;
  /** Applies the policy; rejects with `Refused` if the request is not let in. */
  enter(policy: Policy | PolicyOptions, request: GuardRequest, options?: { signal?: AbortSignal }): Promise<Admission>;
  /** A listener for `http.createServer`, around another. */
  http(
    policies: Policies<IncomingMessage>,
    listener: (request: IncomingMessage, response: ServerResponse) => unknown,
    options?: MiddlewareOptions<IncomingMessage, [response: ServerResponse]>,
  ): (request: IncomingMessage, response: ServerResponse) => Promise<void>;
  /** Middleware of Express, for an application, a router or a route. */
  express(policies: Policies<any>, options?: MiddlewareOptions): (request: any, response: any, next: (error?: any) => void) => void;
  /** A hook `preHandler` of Fastify. */
  fastify(policies: Policies<any>, options?: MiddlewareOptions): (request: any, reply: any) => Promise<any>;
  /** Middleware of Koa. */
  koa(policies: Policies<any>, options?: MiddlewareOptions): (context: any, next: () => Promise<any>) => Promise<void>;
}

/** What is held by a request: Node's, Express's, Fastify's, or of a context of Koa's. */
export function heldBy(request: object): Held | undefined;
