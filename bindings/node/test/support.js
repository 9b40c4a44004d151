'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { randomUUID } = require('node:crypto');

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A private Redis; a missing server is a failure. */
async function startRedis() {
  const port = await freePort();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'synlock-node-'));
  const server = spawn('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', folder], { stdio: 'ignore' });
  server.on('error', (error) => {
    throw new Error('apt-get install -y redis-server', { cause: error });
  });
  for (let i = 0; i < 200; i++) {
    const up = await new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(socket.destroy() && true)).on('error', () => resolve(false));
    });
    if (up) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    /** Silent, and awake again. */
    pause: (silent) => server.kill(silent ? 'SIGSTOP' : 'SIGCONT'),
    stop: () => {
      server.kill('SIGKILL');
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
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
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, out, err });
    });
  });
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

module.exports = { startRedis, flockUrl, shmUrl, script, sleep, name: () => `node-${randomUUID()}` };
