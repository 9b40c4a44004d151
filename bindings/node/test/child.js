// A forked process: says whether the lock is taken, then waits for it.
'use strict';

const { Store } = require('..');

async function main(url, key) {
  const store = await Store.open(url);
  const lock = await store.tryAcquire(key);
  process.send(lock === null ? 'busy' : 'held');
  const next = await store.acquire(key, { timeout: 60_000 });
  process.send(next.state);
  await next.release();
  process.disconnect();
}

if (process.send) main(...process.argv.slice(2));
