import { factory, isFinished, task } from './application.mjs';

export const lock = factory.createLock('invoice-publication', 30_000);

await lock.acquire();
while (!isFinished()) {
  const left = lock.getRemainingLifetime();
  // null where the store has no leases
  if (left !== null && left <= 5_000) {
    if (lock.isExpired()) {
      // lock was lost, perform a rollback or send a notification
      throw new Error('Lock lost during the overall process');
    }

    await lock.refresh();
  }

  // Perform the task whose duration MUST be less than 5 minutes
  await task();
}
