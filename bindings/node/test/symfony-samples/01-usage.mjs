import { LockFactory } from 'synlock/symfony';

// the store is a URL; this one is SemaphoreStore's
export const factory = new LockFactory('semaphore');

// ...
export const lock = factory.createLock('pdf-invoice-generation');

if (await lock.acquire(false)) {
  // The resource "pdf-invoice-generation" is locked.
  // You can compute and generate invoice safely here.

  await lock.release();
}
