// One of the processes of the demo: count.cjs URL FILE TIMES RECORDS. `-` as URL counts without a lock.
'use strict';

const fs = require('node:fs');
const { once } = require('node:events');
const { setTimeout: sleep } = require('node:timers/promises');
const { Store } = require('../../bindings/node');

async function main(url, path, times, records) {
  const store = url === '-' ? null : await Store.open(url);
  const file = fs.openSync(path, 'r+');
  const buffer = Buffer.alloc(12);
  const lines = [];
  console.log('ready');
  await once(process.stdin, 'data');
  process.stdin.destroy();
  for (let i = 1; i <= times; i++) {
    const asked = process.hrtime.bigint();
    const lock = store && await store.acquire('demo counter', { timeout: 60_000 });
    const got = process.hrtime.bigint();
    fs.readSync(file, buffer, 0, 12, 0);
    const value = Number(buffer.toString());
    fs.writeSync(file, `${String(value + 1).padStart(11, '0')}\n`, 0);
    const done = process.hrtime.bigint();
    if (lock) await lock.release();
    lines.push(`${value} ${asked} ${got} ${done}\n`);
    if (i % 100 === 0) console.log(String(i));
    await sleep(1 + Math.floor(Math.random() * 2));
  }
  fs.writeFileSync(records, lines.join(''));
}

main(process.argv[2], process.argv[3], Number(process.argv[4]), process.argv[5]);
