// Drives a lock from Node: worker.cjs KIND WHERE NAME, then `pair SECONDS`, `hand OUT START END HOLD_US`
// (drive.h says what they do), or `many TASKS SECONDS`: pairs of so many tasks, each with a lock of its own.
// KIND is await or sync (ours, from $SYNLOCK_PACKAGE), or a peer (from
// $PEERS); WHERE is a URL, a folder, or a Redis socket.
'use strict';

const fs = require('node:fs');

const [, , kind, where, name, way, ...rest] = process.argv;
const peer = (module) => require(`${process.env.PEERS}/node_modules/${module}`);
const isRemote = where.startsWith('redis') || kind.startsWith('red');

/** What takes a lock, and gives what gives it back; by name. */
async function locks(waits) {
  if (kind === 'await' || kind === 'sync') {
    const { Store } = require(process.env.SYNLOCK_PACKAGE);
    const store = await Store.open(where);
    if (kind === 'await' && waits) return (name) => async () => { const held = await store.acquire(name); return () => held.release(); };
    if (kind === 'await') return (name) => async () => { const held = await store.tryAcquire(name); return () => held.release(); };
    return (name) => () => { const held = store.tryAcquireSync(name); return () => held.releaseSync(); };
  }
  if (kind === 'proper-lockfile') {
    return (name) => {
      const file = `${where}/${name}.proper`;
      fs.writeFileSync(file, '');
      return () => peer('proper-lockfile').lock(file);
    };
  }
  const Redis = peer('ioredis').default;
  const client = new Redis(where);
  if (kind === 'redlock') {
    const { default: Redlock } = peer('redlock');
    const redlock = new Redlock([client]);
    return (name) => async () => { const held = await redlock.acquire([name], 30000); return () => held.release(); };
  }
  if (kind === 'redis-semaphore') {
    const { Mutex } = peer('redis-semaphore');
    return (name) => async () => { const mutex = new Mutex(client, name, { lockTimeout: 30000 }); await mutex.acquire(); return () => mutex.release(); };
  }
  throw new Error(`unknown: ${kind}`);
}

async function pairs(take, seconds) {
  const batch = isRemote ? 1 : kind === 'proper-lockfile' ? 10 : 100;
  const run = async (count) => { for (let i = 0; i < count; i++) await (await take())(); };
  const runSync = (count) => { for (let i = 0; i < count; i++) take()(); };
  const some = kind === 'sync' ? runSync : run;
  await some(batch * 20);
  const samples = [];
  const end = process.hrtime.bigint() + BigInt(Math.round(seconds * 1e9));
  while (process.hrtime.bigint() < end) {
    const start = process.hrtime.bigint();
    const running = some(batch);
    if (running) await running;
    samples.push(Number(process.hrtime.bigint() - start) / batch);
  }
  samples.sort((a, b) => a - b);
  const at = (share) => samples[Math.floor((samples.length - 1) * share)];
  return JSON.stringify({ p50_ns: at(0.5), p99_ns: at(0.99), n: samples.length * batch });
}

async function turns(take, start, end, hold) {
  // Timers of Node have whole milliseconds; this sleeps as long as the others do.
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  const log = [];
  await (await take())();
  Atomics.wait(nobody, 0, 0, Math.max(0, Number(start - process.hrtime.bigint()) / 1e6));
  for (let request; (request = process.hrtime.bigint()) < end;) {
    const give = await take();
    const acquired = process.hrtime.bigint();
    Atomics.wait(nobody, 0, 0, hold);
    log.push(`${request} ${acquired} ${process.hrtime.bigint()}\n`);
    await give();
  }
  return log.join('');
}

async function many(take, tasks, seconds) {
  let [pairs, running] = [0, true];
  const run = async (one) => { for (; running; pairs++) await (await one())(); };
  const pause = (time) => new Promise((resolve) => { setTimeout(resolve, time * 1e3); });
  const all = Array.from({ length: tasks }, (_, task) => run(take(`${name}/${task}`)));
  // The first turns connect.
  await pause(0.3);
  const [before, start] = [pairs, process.hrtime.bigint()];
  await pause(seconds);
  const n = pairs - before;
  const rate = n / (Number(process.hrtime.bigint() - start) / 1e9);
  running = false;
  await Promise.all(all);
  return JSON.stringify({ pairs_per_s: Math.round(rate), n });
}

async function main() {
  const make = await locks(way !== 'pair');
  if (way === 'many') {
    console.log(await many(make, Number(rest[0]), Number(rest[1])));
    process.exit(0);
  }
  const take = make(name);
  if (way === 'pair') console.log(await pairs(take, Number(rest[0])));
  else fs.writeFileSync(rest[0], await turns(take, BigInt(rest[1]), BigInt(rest[2]), Number(rest[3]) / 1000));
  process.exit(0);
}

main();
