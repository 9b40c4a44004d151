#!/usr/bin/env node
// Rows 7 and 49 for Node: tests/chaos/node_hosts.cjs [build] [-- children|cluster]
// `build` alone only builds the addon. It is loaded from a copy of the package, so that a build
// broken on purpose (CARGO_TARGET_DIR) never meets the one in the tree.
'use strict';

const cluster = require('node:cluster');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.join(__dirname, '..', '..');
const full = process.env.SYNLOCK_LOAD === 'full';
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const read = (file) => fs.readFileSync(file, 'utf8');

/** Adds one to a number in a file, in separate steps that only the lock makes one. */
async function count({ synlock, url, file, end }) {
  const { Store } = require(synlock);
  const store = await Store.open(url);
  while (Date.now() < end) {
    const lock = await store.acquire('count', { timeout: 20_000 });
    const next = Number(read(file)) + 1;
    await sleep(1);
    fs.appendFileSync(`${file}.log`, `${next}\n`);
    // Not truncated first: a worker that is killed leaves a whole number.
    const fd = fs.openSync(file, 'r+');
    fs.writeSync(fd, String(next).padStart(10, '0'), 0);
    fs.closeSync(fd);
    await lock.release();
  }
  process.exit(0);
}

/** Eight workers count while one of them is killed now and then. */
async function clusters(say, settings) {
  const store = settings.url.split(':')[0];
  const file = path.join(settings.folder, 'number');
  fs.writeFileSync(file, '0000000000');
  fs.writeFileSync(`${file}.log`, '');
  const end = Date.now() + (full ? 120_000 : 4_000);
  cluster.setupPrimary({ exec: __filename, args: ['worker'] });
  let kills = 0;
  let wrong = 0;
  const start = () => cluster.fork({ ROW: JSON.stringify({ ...settings, file, end }) });
  cluster.removeAllListeners('exit');
  cluster.on('exit', (_, code, signal) => {
    if (signal !== 'SIGKILL' && code !== 0) wrong++;
    if (Date.now() < end) start();
  });
  for (let i = 0; i < 8; i++) start();
  while (Date.now() < end) {
    await sleep(250);
    const workers = Object.values(cluster.workers);
    if (Date.now() < end && workers.length) {
      workers[kills++ % workers.length].process.kill('SIGKILL');
    }
  }
  const stuck = Date.now() + 25_000;
  while (Object.keys(cluster.workers).length && Date.now() < stuck) await sleep(20);
  say(Object.keys(cluster.workers).length === 0, `${store}: no worker is stuck`);
  say(wrong === 0, `${store}: ${wrong} workers ended badly`);
  const numbers = read(`${file}.log`).split('\n').filter(Boolean).map(Number);
  const steps = numbers.map((number, i) => number - (numbers[i - 1] ?? 0));
  const repeats = steps.filter((step) => step === 0).length;
  const jumps = steps.filter((step) => step !== 0 && step !== 1).length;
  say(numbers.length > (full ? 5_000 : 50), `${store}: ${numbers.length} counts, ${kills} kills`);
  say(kills > (full ? 300 : 7), `${store}: ${kills} kills`);
  // One that is killed between its two writes leaves a number that comes twice.
  say(jumps === 0 && repeats <= kills, `${store}: ${jumps} jumps, ${repeats} repeats`);
}

const HOLD = `
  const { spawn, fork } = require('node:child_process');
  const cluster = require('node:cluster');
  const [synlock, url, name, fate, way] = process.argv.slice(1);
  const { Store } = require(synlock);
  const lock = new Store(url).acquireSync(name);
  const seconds = fate === 'outlives' ? 2 : fate === 'exits' ? 0 : 30;
  const code = 'process.stdout.write("up\\\\n"); setTimeout(() => process.exit(), ' + seconds * 1000 + ')';
  let child;
  if (way === 'cluster') {
    cluster.setupPrimary({ exec: process.env.IDLE, args: [String(seconds)], silent: true });
    child = cluster.fork().process;
  } else if (way === 'fork') child = fork(process.env.IDLE, [String(seconds)], { silent: true });
  else child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'], detached: fate === 'outlives' });
  child.stdout.once('data', () => {
    if (fate === 'is killed') child.kill('SIGKILL');
    const ready = () => { console.log('ready ' + child.pid); };
    if (fate === 'outlives') ready(); else child.once('exit', ready);
  });
  process.stdin.once('data', (word) => {
    if (String(word).startsWith('die')) process.kill(process.pid, 'SIGKILL');
    lock.releaseSync();
    console.log('released');
    process.exit();
  });`;

/** What becomes of a child never disturbs its parent's hold, nor outlives it. */
async function children(say, settings) {
  const { Store } = require(settings.synlock);
  const store = await Store.open(settings.url);
  for (const way of ['spawn', 'fork', 'cluster']) {
    for (const fate of ['exits', 'is killed', 'outlives']) {
      for (const end of ['release', 'die']) {
        let slowest = 0;
        let premature = 0;
        for (let round = 0; round < (full ? 100 : 1); round++) {
          const name = `${way} ${fate} ${end} ${round}`;
          const holder = spawn(process.execPath, ['-e', HOLD, settings.synlock, settings.url, name, fate, way], {
            stdio: ['pipe', 'pipe', 'inherit'],
            env: { ...process.env, IDLE: settings.idle },
          });
          await new Promise((resolve, reject) => {
            holder.stdout.once('data', resolve);
            holder.once('exit', () => reject(new Error(`${name}: the holder is gone`)));
          });
          premature += Number(await store.tryAcquire(name).then((lock) => lock?.release().then(() => 1) ?? 0));
          const over = new Promise((resolve) => (end === 'die' ? holder.once('exit', resolve) : holder.stdout.once('data', resolve)));
          holder.stdin.write(`${end}\n`);
          await over;
          const start = performance.now();
          await (await store.acquire(name, { timeout: 10_000 })).release();
          slowest = Math.max(slowest, performance.now() - start);
        }
        say(premature === 0 && slowest <= 100, `${settings.url.split(':')[0]}, ${way}, child ${fate}, parent to ${end}: ${premature} premature, slowest ${slowest.toFixed(0)} ms`);
      }
    }
  }
}

async function main(words) {
  // With these stores alone it builds fast; it lies apart, so that the suites never meet it.
  const target = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, 'target'), 'small');
  const wanted = ['build', '-q', '-p', 'synlock-node', '--no-default-features', '--features', 'memory,shm,flock'];
  execFileSync('cargo', wanted, { cwd: root, stdio: 'inherit', env: { ...process.env, CARGO_TARGET_DIR: target } });
  if (words.length === 1 && words[0] === 'build') return;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-row-'));
  const synlock = path.join(folder, 'package');
  fs.mkdirSync(synlock);
  for (const file of fs.readdirSync(path.join(root, 'bindings/node'))) {
    if (/\.(m?js|json)$/.test(file)) fs.copyFileSync(path.join(root, 'bindings/node', file), path.join(synlock, file));
  }
  fs.copyFileSync(path.join(target, 'debug/libsynlock_node.so'), path.join(synlock, 'synlock.node'));
  const idle = path.join(folder, 'idle.cjs');
  fs.writeFileSync(idle, "process.stdout.write('up\\n'); setTimeout(() => process.exit(), process.argv[2] * 1000);");
  fs.mkdirSync(path.join(folder, 'locks'));
  let passed = 0;
  let failed = 0;
  const say = (ok, what) => {
    console.log(`${ok ? 'ok' : 'FAILED'}: ${what}`);
    ok ? passed++ : failed++;
  };
  try {
    const part = words[words.indexOf('--') + 1];
    for (const url of [`flock:${folder}/locks`, `shm:${folder}/segment`]) {
      await { children, cluster: clusters }[part](say, { folder, synlock, idle, url });
    }
  } catch (error) {
    say(false, error.stack);
  }
  fs.rmSync(folder, { recursive: true, force: true });
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}

if (cluster.isWorker) count(JSON.parse(process.env.ROW));
else main(process.argv.slice(2));
