import { LockFactory } from 'synlock/symfony';

// There is no RetryTillSaveStore: an acquire that blocks is woken, and its place in the queue is kept.
export const factory = new LockFactory('redis://localhost:6379');

export const lock = factory.createLock('notification-flush');
await lock.acquire(true);
