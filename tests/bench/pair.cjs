// Times acquire + release of one uncontended lock from Node: pair.cjs sync|async URL NAME SECONDS
'use strict';

const { Store } = require(process.env.SYNLOCK_NODE || 'synlock');

async function main(kind, url, name, seconds) {
  const store = await Store.open(url);
  const batch = url.startsWith('redis') ? 1 : 100;
  const pair = kind === 'sync'
    ? async (count) => { for (let i = 0; i < count; i++) store.tryAcquireSync(name).releaseSync(); }
    : async (count) => { for (let i = 0; i < count; i++) await (await store.tryAcquire(name)).release(); };
  await pair(batch * 20);
  const samples = [];
  const end = process.hrtime.bigint() + BigInt(Math.round(seconds * 1e9));
  while (process.hrtime.bigint() < end) {
    const start = process.hrtime.bigint();
    await pair(batch);
    samples.push(Number(process.hrtime.bigint() - start) / batch);
  }
  samples.sort((a, b) => a - b);
  const at = (share) => samples[Math.floor((samples.length - 1) * share)];
  console.log(JSON.stringify({ p50_ns: at(0.5), p99_ns: at(0.99), n: samples.length * batch }));
}

main(process.argv[2], process.argv[3], process.argv[4], Number(process.argv[5]));
