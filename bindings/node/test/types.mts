import { createServer } from 'node:http';
import { Guards, Held, Policy, Refused, heldBy } from '../guard.js';
import { LockFactory } from '../symfony.js';
import {
  type Ask, type CustomStore, Lock, LockSet, LockTimeout, SemaphoreManager, Store, SynlockError, keyName, metrics,
} from '../index.js';

const store: Store = await Store.open('memory:', { fair: true });
const result: number = await store.using('x', { timeout: 5, signal: AbortSignal.timeout(5) }, async (lock) => {
  const token: bigint | null = lock.fencingToken;
  const signal: AbortSignal = lock.signal;
  return token === null || signal.aborted ? 0 : 1;
});
const findings: string[] = await store.check();
void findings;
const lock: Lock | null = await store.tryAcquire(new Uint8Array([1]), { permits: [1, 2] });
lock?.releaseSync();
{
  await using held = await store.acquire('y');
  using sync = store.acquireSync('z', { timeout: 1 });
  const state: 'held' | string = held.state + sync.state;
  void state;
}
{
  await using set = await store.acquireAll(['x', { name: 'y', shared: true }], { timeout: 5 });
  const tokens: (bigint | null)[] = [...set].map((each) => each.fencingToken);
  const count: number = await LockSet.using([{ store, name: 'z' }], (all) => all.locks.length + tokens.length);
  void count;
}
// @ts-expect-error an entry of a set has a store
await LockSet.acquire([{ name: 'x' }]);
class Drawer implements CustomStore {
  readonly freesOnDeath = true;
  attempt = (ask: Ask) => ask.name.length > 0 && { granted: true as const, fencingToken: 1n };
  release = () => true;
  isHeld = () => true;
}
const drawer: Store = Store.custom(new Drawer(), { name: 'drawer', timeout: 5 });
void drawer;
// @ts-expect-error it lacks isHeld
Store.custom({ attempt: () => true, release: () => true });
// @ts-expect-error a lock is not made by hand
new Lock();
// @ts-expect-error there is no such option
await store.acquire('x', { tll: 5 });
const error: SynlockError = new LockTimeout('x');
void [result, error.code, error.retriable];
const factory: LockFactory = new LockFactory('memory:', { fair: true });
const made = factory.createLock('charts-generation', 30_000, false);
const got: boolean = await made.acquire(false) && (await made.acquireRead(true, { timeout: 5 }));
const left: number | null = got ? made.getRemainingLifetime() : null;
void left;
// @ts-expect-error a TTL is a number of ms
factory.createLock('x', '30 s');
const manager: SemaphoreManager = new SemaphoreManager(store, { tries: 3, sleep: 10, repeat: 'extend', keyStorage: { ORDER: 'order_' } });
await manager.acquire(['order_', 17, 5n, { id: null }], { path: 'here', ttl: 5, signal: AbortSignal.timeout(5) });
const worked: number = await manager.using('k', () => 1);
// @ts-expect-error a key is no function
await manager.release([() => 1]);
void [worked, keyName('k', 'p').length, metrics().length];
const guards: Guards = new Guards({ default: store, queued: 'memory:' }, { release: 'terminate', user: () => ({ id: 'bob' }) });
const policy: Policy = new Policy({ name: 'order_{id}', mode: 'queue', maxWait: 5 });
try {
  const admission = await guards.enter(policy, { params: { id: 17 }, user: null });
  await admission.lock?.ensureHeld();
  await admission.release();
} catch (failed) {
  if (failed instanceof Refused) void [failed.statusCode, failed.retryAfter, failed.holders[0]?.pid, failed.headers['Retry-After']];
}
createServer(guards.http([policy, { mode: 'check' }], (request, response) => response.end(heldBy(request)?.all[0]?.name)));
createServer(guards.http(policy, () => {}, { onError: (error: unknown, request, response) => response.writeHead(503).end(request.url) }));
const middleware: (request: any, response: any, next: (error?: any) => void) => void = guards.express((request) => ({ name: request.url }));
void [middleware, guards.fastify(policy), guards.koa(policy, { refuse: (refused, context) => (context.status = refused.statusCode) }), new Held()];
// @ts-expect-error there is no such mode
new Policy({ mode: 'wait' });
// @ts-expect-error there is no such option
guards.express({ nam: 'x' });
