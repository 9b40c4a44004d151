import { factory } from './application.mjs';

export const lock = factory.createLock('charts-generation', 30_000);
await lock.acquire();
// refresh the lock for 30 seconds
await lock.refresh();
// ...
// refresh the lock for 600 seconds (next refresh() call will be 30 seconds again)
await lock.refresh(600_000);
