// Locks of Node's libraries on Redis: redis.cjs KIND PORT NAME; NODE_PATH says where they are.
'use strict';

const { serve } = require('./turns.cjs');

const [, , kind, port, name] = process.argv;
const Redis = require('ioredis');
const client = new Redis({ port: Number(port) });
const TTL = 8000;
let held;

function redlock() {
  const { default: Redlock, ExecutionError } = require('redlock');
  const waits = new Redlock([client], { retryCount: -1, retryDelay: 10, retryJitter: 5 });
  const tries = new Redlock([client], { retryCount: 0 });
  const take = async (locks) => {
    try {
      held = await locks.acquire([name], TTL);
      return true;
    } catch (error) {
      if (error instanceof ExecutionError) return false;
      throw error;
    }
  };
  const release = async () => {
    try {
      await held.release();
      return true;
    } catch {
      return false;
    }
  };
  return [() => take(waits), () => take(tries), release];
}

function semaphore() {
  const { Mutex } = require('redis-semaphore');
  const options = { lockTimeout: TTL, refreshInterval: TTL / 3, acquireTimeout: 60_000, onLockLost: () => {} };
  const take = async () => {
    held = new Mutex(client, name, options);
    await held.acquire();
    return true;
  };
  const tryTake = async () => {
    const mutex = new Mutex(client, name, { ...options, acquireAttemptsLimit: 1 });
    if (!(await mutex.tryAcquire())) return false;
    held = mutex;
    return true;
  };
  const release = async () => {
    await held.release();
    return true;
  };
  return [take, tryTake, release];
}

serve(...(kind === 'redlock' ? redlock() : semaphore()));
