import { factory } from './application.mjs';

// create an expiring lock that lasts 30 seconds
export const lock = factory.createLock('charts-generation', 30_000);

await lock.acquire();
try {
  // perform a job during less than 30 seconds
} finally {
  await lock.release();
}
