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
/** Not on a disk, which others may keep busy. */
const MEMORY = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
/** On a lease store a dead process' hold is free when its lease is over. */
const lease = (url, ttl) => (url.startsWith('redis') ? { ttl, renew: true } : {});
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const read = (file) => fs.readFileSync(file, 'utf8');

/** Adds one to a number in a file, in separate steps that only the lock makes one. */
async function count({ synlock, url, file }) {
  const { Store } = require(synlock);
  const store = await Store.open(url);
  while (!fs.existsSync(`${file}.stop`)) {
    const lock = await store.acquire('count', { timeout: 20_000, ...lease(url, 2000) });
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
  const file = path.join(settings.folder, `number-${store}`);
  fs.writeFileSync(file, '0000000000');
  fs.writeFileSync(`${file}.log`, '');
  const [time, leastCounts, leastKills] = full ? [120_000, 5_000, 300] : [4_000, 50, 7];
  const begun = Date.now();
  const numbers = () => read(`${file}.log`).split('\n').filter(Boolean).map(Number);
  cluster.setupPrimary({ exec: __filename, args: ['worker'] });
  let kills = 0;
  let wrong = 0;
  const start = () => cluster.fork({ ROW: JSON.stringify({ ...settings, file }) });
  cluster.removeAllListeners('exit');
  cluster.on('exit', (_, code, signal) => {
    if (signal !== 'SIGKILL' && code !== 0) wrong++;
    if (!fs.existsSync(`${file}.stop`)) start();
  });
  for (let i = 0; i < 8; i++) start();
  // Longer on a slow machine, if not enough was done yet.
  const enough = () => kills > leastKills && numbers().length > leastCounts;
  while (Date.now() - begun < time || (Date.now() - begun < time * 10 && !enough())) {
    await sleep(250);
    const workers = Object.values(cluster.workers);
    if (workers.length) workers[kills++ % workers.length].process.kill('SIGKILL');
  }
  fs.writeFileSync(`${file}.stop`, '');
  const stuck = Date.now() + 25_000;
  while (Object.keys(cluster.workers).length && Date.now() < stuck) await sleep(20);
  say(Object.keys(cluster.workers).length === 0, `${store}: no worker is stuck`);
  say(wrong === 0, `${store}: ${wrong} workers ended badly`);
  const steps = numbers().map((number, i, all) => number - (all[i - 1] ?? 0));
  const repeats = steps.filter((step) => step === 0).length;
  const jumps = steps.filter((step) => step !== 0 && step !== 1).length;
  say(steps.length > leastCounts, `${store}: ${steps.length} counts, ${kills} kills`);
  say(kills > leastKills, `${store}: ${kills} kills`);
  // One that is killed between its two writes leaves a number that comes twice.
  say(jumps === 0 && repeats <= kills, `${store}: ${jumps} jumps, ${repeats} repeats`);
}

const HOLD = `
  const { spawn, fork } = require('node:child_process');
  const cluster = require('node:cluster');
  const [synlock, url, name, fate, way, options] = process.argv.slice(1);
  const { Store } = require(synlock);
  const store = new Store(url);
  const lock = store.acquireSync(name, JSON.parse(options));
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
    // Whatever became of the child, this process holds still.
    const ready = async () => {
      await lock.ensureHeld();
      console.log(store.tryAcquireSync(name) ? 'free' : 'held');
    };
    if (fate === 'outlives') ready(); else child.once('exit', ready);
  });
  process.stdin.once('data', (word) => {
    if (String(word).startsWith('die')) process.kill(process.pid, 'SIGKILL');
    lock.releaseSync();
    console.log(url !== 'memory:' || store.tryAcquireSync(name) ? 'released' : 'busy');
    process.exit();
  });`;

/** The next line that a process prints; it fails if that ends first. */
const line = (holder) =>
  new Promise((resolve, reject) => {
    const gone = () => reject(new Error('the process is gone'));
    holder.once('close', gone);
    holder.stdout.once('data', (text) => {
      holder.off('close', gone);
      resolve(String(text).trim());
    });
  });

const LEASE = full ? 500 : 2000;
/** What a call that is bounded comes back within, on any machine. */
const SOON = 20_000;

/** How long after the holder's end the lock was free, in ms; undefined if a child's fate set it free. */
async function round({ synlock, idle, url }, store, machine, [way, fate, end], name) {
  const options = lease(url, LEASE);
  const words = [synlock, url, name, fate, way, JSON.stringify(options)];
  const holder = spawn(process.execPath, ['-e', HOLD, ...words], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, IDLE: idle },
  });
  const over = new Promise((resolve) => holder.once('exit', resolve));
  const early = (await line(holder)) !== 'held';
  const shared = url !== 'memory:';
  if (early || (shared && (await store.tryAcquire(name, options)))) return undefined;
  await machine();
  const released = end === 'release' && line(holder);
  holder.stdin.write(`${end}\n`);
  if (end === 'die') await over;
  else if ((await released) !== 'released') throw new Error(`${name}: not free after the release`);
  const start = performance.now();
  if (shared) await (await store.acquire(name, { timeout: 2 * SOON, ...options })).release();
  const took = performance.now() - start;
  return Math.max(0, took - (await machine()));
}

/** What becomes of a child never disturbs its parent's hold, nor outlives it. */
async function children(say, settings, machine) {
  const { Store } = require(settings.synlock);
  const { url } = settings;
  const store = await Store.open(url);
  for (const way of ['spawn', 'fork', 'cluster']) {
    for (const fate of ['exits', 'is killed', 'outlives']) {
      // Of memory nothing is left to be free.
      for (const end of url === 'memory:' ? ['release'] : ['release', 'die']) {
        const found = [];
        for (let i = 0; i < (full ? 100 : 1); i++) {
          const once = (again) => round(settings, store, machine, [way, fate, end], `${way} ${fate} ${end} ${i} ${again}`);
          let took = await once(0);
          // A lease that ran out while nobody was let run is no loss.
          for (let again = 1; took === undefined && again < 5 && (await machine()) >= LEASE; again++) took = await once(again);
          found.push(took);
        }
        const premature = found.filter((took) => took === undefined).length;
        const slowest = Math.max(0, ...found.filter((took) => took !== undefined));
        const bar = end === 'die' && url.startsWith('redis') ? LEASE + 50 : 100;
        const bound = full ? bar : SOON;
        say(premature === 0 && slowest <= bound, `${url.split(':')[0]}, ${way}, child ${fate}, parent to ${end}: ${premature} premature, slowest ${slowest.toFixed(0)} ms`);
      }
    }
  }
}

/** What the machine itself let a process wait since it was asked last, in ms, for as many as run in turn. */
function bystander() {
  const program = spawn(path.join(root, 'tests/support/bystander.py'), { stdio: ['pipe', 'pipe', 'inherit'] });
  const ask = async () => {
    program.stdin.write('\n');
    return 4 * 1000 * Number(await line(program));
  };
  return { ask, stop: () => program.kill() };
}

/** A Redis on a socket in the folder. */
async function redis(folder) {
  const socket = path.join(folder, 'redis.sock');
  const server = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', folder], { stdio: 'ignore' });
  let gone = false;
  server.once('exit', () => (gone = true)).once('error', () => (gone = true));
  while (!fs.existsSync(socket)) {
    if (gone) throw new Error('redis-server does not start');
    await sleep(20);
  }
  // A server that the machine lets wait has not failed.
  return { url: `redis+unix://${socket}?io_timeout=${SOON}`, stop: () => server.kill('SIGKILL') };
}

async function main(words) {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(root, 'target');
  execFileSync('cargo', ['build', '-q', '-p', 'synlock-node'], { cwd: root, stdio: 'inherit' });
  if (words.length === 1 && words[0] === 'build') return;
  const folder = fs.mkdtempSync(path.join(MEMORY, 'synlock-row-'));
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
  const started = [];
  try {
    const part = words[words.indexOf('--') + 1];
    started.push(await redis(folder), bystander());
    const [server, machine] = started;
    const urls = [`flock:${folder}/locks`, `shm:${folder}/segment`, server.url, ...(part === 'children' ? ['memory:'] : [])];
    for (const url of urls) await { children, cluster: clusters }[part](say, { folder, synlock, idle, url }, machine.ask);
  } catch (error) {
    say(false, error.stack);
  }
  for (const one of started) one.stop();
  fs.rmSync(folder, { recursive: true, force: true });
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}

if (cluster.isWorker) count(JSON.parse(process.env.ROW));
else main(process.argv.slice(2));
