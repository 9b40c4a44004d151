// The command of Node; README.md says what it understands.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { Store, SynlockError } from '../../bindings/node/index.mjs';

const { codes } = createRequire(import.meta.url)('../../bindings/node/native.js');
const stores = new Map();
const holds = new Map();
const bytes = (hex) => Buffer.from(hex, 'hex');
const limit = (ms) => (Number(ms) < 0 ? {} : { timeout: Number(ms) });
const late = (ms) => (Number(ms) === 0 ? 1 : 2);
const bit = (value) => String(Number(value));

async function take(hold, store, name, ms, ...words) {
  const options = {};
  for (const word of words) {
    const [key, value] = word.split('=');
    if (key === 'ttl') options.ttl = Number(value);
    else if (key === 'permits') options.permits = value.split('/').map(Number);
    else options[key] = value === '1';
  }
  const lock = Number(ms) === 0
    ? await stores.get(store).tryAcquire(bytes(name), options)
    : await stores.get(store).acquire(bytes(name), { ...options, ...limit(ms) });
  if (lock === null) return 1;
  holds.set(hold, lock);
  return '';
}

const ofStore = {
  ping: (store) => store.ping(),
  fingerprint: (store) => store.fingerprint,
  locked: async (store, name) => bit(await store.isLocked(bytes(name))),
  break: async (store, name) => bit(await store.breakLock(bytes(name))),
  wait_free: async (store, name, ms) => (await store.waitFree(bytes(name), limit(ms)) ? '' : 2),
  inspect: async (store, name) => {
    const found = await store.inspect(bytes(name));
    return `${found.holders.length} ${found.waiters ?? -1}`;
  },
  capabilities: (store) => {
    const can = store.capabilities;
    const keys = ['shared', 'promote', 'permits', 'ttl', 'freesOnDeath', 'wakes', 'fair', 'export', 'list', 'breakLock'];
    return `${keys.map((key) => bit(can[key])).join(' ')} ${can.fence}`;
  },
};

const ofHold = {
  release: async (lock) => { await lock.release(); },
  refresh: (lock, ms) => lock.refresh(Number(ms) || undefined),
  check: (lock) => lock.ensureHeld(),
  demote: (lock) => lock.demote(),
  promote: async (lock, ms) => (await lock.promote(limit(ms)) ? '' : late(ms)),
  held: async (lock) => bit(await lock.isAcquired()),
  state: (lock) => lock.state,
  remaining: (lock) => String(lock.remaining === null ? -1 : Math.floor(lock.remaining)),
  fence: (lock) => String(lock.fencingToken ?? 0n),
  export: (lock) => lock.export(),
};

async function answer(verb, ...words) {
  if (verb === 'open') {
    stores.set(words[0], await Store.open(words[1]));
    return '';
  }
  if (verb === 'take') return take(...words);
  if (verb === 'adopt') {
    holds.set(words[0], await stores.get(words[1]).adopt(words[2]));
    return '';
  }
  if (verb === 'codes') {
    return codes().sort((a, b) => a.status - b.status).map((code) => `${code.status}=${code.name}`).join(' ');
  }
  const [first, ...rest] = words;
  return verb in ofStore ? ofStore[verb](stores.get(first), ...rest) : ofHold[verb](holds.get(first), ...rest);
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  try {
    const said = await answer(...line.split(' '));
    console.log(typeof said === 'number' ? String(said) : `0 ${said ?? ''}`.trim());
  } catch (error) {
    if (!(error instanceof SynlockError)) throw error;
    console.log(String(error.status));
  }
}
