import { factory, isFinished } from './application.mjs';

export const lock = factory.createLock('charts-generation', 30_000);

await lock.acquire();
try {
  while (!isFinished()) {
    // perform a small part of the job.

    // renew the lock for 30 more seconds.
    await lock.refresh();
  }
} finally {
  await lock.release();
}
