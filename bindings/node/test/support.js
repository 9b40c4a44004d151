'use strict';

const assert = require('node:assert');
const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const { createInterface } = require('node:readline');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { randomUUID } = require('node:crypto');

/** A port of the tests, which is reserved until the program ends that is asked for it. */
async function freePort() {
  const program = spawn(path.join(__dirname, '../../../tests/support/ports.py'), { stdio: ['pipe', 'pipe', 'inherit'] });
  program.stdin.write('\n');
  const [line] = await once(program.stdout, 'data');
  return { port: Number(line), free: () => program.stdin.end() };
}

/** What must come in the end: on a slow machine, after a while. */
const PATIENCE = 60_000;

/** A private Redis; a missing server is a failure. */
async function startRedis() {
  const { port, free } = await freePort();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-node-'));
  const server = spawn('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', folder], { stdio: 'ignore' });
  server.on('error', (error) => {
    throw new Error('apt-get install -y redis-server', { cause: error });
  });
  const isUp = () =>
    new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(socket.destroy() && true)).on('error', () => resolve(false));
    });
  for (const end = Date.now() + PATIENCE; !(await isUp()); await sleep(50)) {
    if (Date.now() > end || server.exitCode !== null) throw new Error('redis-server does not answer');
  }
  const place = `redis://127.0.0.1:${port}`;
  return {
    /** For other clients, and with options. */
    place,
    /** With time for a server that the machine lets wait. */
    url: `${place}?connect_timeout=20000&io_timeout=20000`,
    /** Silent, and awake again. */
    pause: (silent) => server.kill(silent ? 'SIGSTOP' : 'SIGCONT'),
    stop: () => {
      server.kill('SIGKILL');
      free();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

const ROOT = path.join(__dirname, '../../..');

/** Private servers, as the suites in Rust have them, and where each is; they end with their input. */
async function startServices(...names) {
  execFileSync('cargo', ['build', '-q', '-p', 'synlock-tests', '--bin', 'services'], { cwd: ROOT, stdio: 'inherit' });
  const target = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target');
  const program = spawn(path.join(target, 'debug/services'), names, { stdio: ['pipe', 'pipe', 'inherit'] });
  const found = { stop: () => program.stdin.end() };
  for await (const line of createInterface({ input: program.stdout })) {
    if (line === '') return found;
    const [server, port] = line.split(' ');
    found[server] = `127.0.0.1:${port}`;
  }
  throw new Error('the servers do not start');
}

function flockUrl() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-node-'));
  return { url: `flock:${folder}`, stop: () => fs.rmSync(folder, { recursive: true, force: true }) };
}

function shmUrl() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-node-'));
  return { url: `shm:${folder}/segment`, stop: () => fs.rmSync(folder, { recursive: true, force: true }) };
}

/** Runs a script in a Node of its own. */
function script(source, ...words) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['-e', source, ...words], {
      env: { ...process.env, SYNLOCK: path.join(__dirname, '..') },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (data) => (out += data));
    child.stderr.on('data', (data) => (err += data));
    const timer = setTimeout(() => child.kill('SIGKILL'), 2 * PATIENCE);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, out, err });
    });
  });
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Until something is so, or never. */
async function until(isSo, what) {
  for (const end = Date.now() + PATIENCE; !(await isSo()); await sleep(5)) {
    if (Date.now() > end) assert.fail(`never: ${what}`);
  }
}

/** What a call comes to whose time runs out; more of it where a server has not answered in less. */
async function briefly(call) {
  for (let ms = 20; ; ms *= 5) {
    try {
      return await call(ms);
    } catch (error) {
      if (ms > 10_000 || !['SYNLOCK_UNAVAILABLE', 'SYNLOCK_UNCERTAIN'].includes(error.code)) throw error;
    }
  }
}

const name = () => `node-${randomUUID()}`;

/** The stores that suites run over, each by what starts it. */
const setups = {
  memory: async () => ({ url: `memory:${name()}`, stop() {} }),
  shm: async () => shmUrl(),
  flock: async () => flockUrl(),
  redis: startRedis,
};

module.exports = { PATIENCE, startRedis, startServices, flockUrl, shmUrl, script, sleep, until, briefly, name, setups };
