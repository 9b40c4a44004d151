// Times acquire + release of one uncontended lock from Node: pair.cjs PACKAGE await|sync URL NAME SECONDS
'use strict';

const [, , folder, kind, url, name, seconds] = process.argv;
const { Store } = require(folder);

async function awaited(store, count) {
  for (let i = 0; i < count; i++) await (await store.tryAcquire(name)).release();
}

function blocking(store, count) {
  for (let i = 0; i < count; i++) store.tryAcquireSync(name).releaseSync();
}

async function main() {
  const store = await Store.open(url);
  const batch = url.startsWith('redis') ? 1 : 100;
  const pairs = kind === 'sync' ? blocking : awaited;
  for (let i = 0; i < 20; i++) await pairs(store, batch);
  const samples = [];
  const end = process.hrtime.bigint() + BigInt(Math.round(Number(seconds) * 1e9));
  while (process.hrtime.bigint() < end) {
    const start = process.hrtime.bigint();
    const running = pairs(store, batch);
    if (running) await running;
    samples.push(Number(process.hrtime.bigint() - start) / batch);
  }
  samples.sort((a, b) => a - b);
  const at = (share) => samples[Math.floor((samples.length - 1) * share)];
  console.log(JSON.stringify({ p50_ns: at(0.5), p99_ns: at(0.99), n: samples.length * batch }));
}

main();
