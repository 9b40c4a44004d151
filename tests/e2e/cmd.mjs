// The command of Node; README.md says what it understands.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Store, SynlockError } from '../../bindings/node/index.mjs';

const { codes } = createRequire(import.meta.url)('../../bindings/node/native.js');
const stores = new Map();
const holds = new Map();
const sessions = new Map();
// The store of each hold.
const places = new Map();
const bytes = (hex) => Buffer.from(hex, 'hex');
const limit = (ms) => (Number(ms) < 0 ? {} : { timeout: Number(ms) });
const late = (ms) => (Number(ms) === 0 ? 1 : 2);
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');
const bit = (value) => String(Number(value));

async function take(hold, store, name, ms, ...words) {
  const options = {};
  for (const word of words) {
    const [key, value] = word.split('=');
    if (key === 'ttl') options.ttl = Number(value);
    else if (key === 'permits') options.permits = value.split('/').map(Number);
    else if (key === 'label') options.label = bytes(value).toString();
    else if (key === 'reentry') options.reentry = value;
    else options[key === 'auto_release' ? 'autoRelease' : key] = value === '1';
  }
  const lock = Number(ms) === 0
    ? await stores.get(store).tryAcquire(bytes(name), options)
    : await stores.get(store).acquire(bytes(name), { ...options, ...limit(ms) });
  if (lock === null) return 1;
  holds.set(hold, lock);
  places.set(hold, stores.get(store));
  return '';
}

async function list(store, prefix, limit) {
  const names = [];
  let pages = 0;
  let cursor = null;
  do {
    const page = await store.list({ prefix, cursor, limit });
    names.push(...page.locks.map((lock) => lock.name.toString('hex')));
    cursor = page.cursor;
    pages++;
  } while (cursor !== null);
  return [pages, ...names.sort()].join(' ');
}

const ofStore = {
  ping: (store) => store.ping(),
  fingerprint: (store) => store.fingerprint,
  locked: async (store, name) => bit(await store.isLocked(bytes(name))),
  break: async (store, name) => bit(await store.breakLock(bytes(name))),
  wait_free: async (store, name, ms) => (await store.waitFree(bytes(name), limit(ms)) ? '' : 2),
  list: (store, prefix, limit) => list(store, bytes(prefix), Number(limit)),
  who: async (store, name) => {
    const [first] = (await store.inspect(bytes(name))).holders;
    return `${first.mode} ${first.permits} ${first.pid} ${Buffer.from(first.label ?? '').toString('hex') || '-'}`;
  },
  where: async (store, name) => {
    const [first] = (await store.inspect(bytes(name))).holders;
    return `${Buffer.from(first.host ?? '').toString('hex') || '-'} ${Math.floor(first.held ?? -1)}`;
  },
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
  how: (lock) => bit(lock.contended),
  remaining: (lock) => String(lock.remaining === null ? -1 : Math.floor(lock.remaining)),
  fence: (lock) => String(lock.fencingToken ?? 0n),
  export: (lock) => lock.export(),
};

const ofSession = {
  s_id: (session) => session.id,
  s_acquire: async (session, name, ms) => bit(await session.acquire(bytes(name), { ttl: Number(ms) })),
  s_renew: async (session, name, ms) => bit(await session.renew(bytes(name), { ttl: Number(ms) })),
  s_free: async (session, name) => bit(await session.mayBeAvailable(bytes(name))),
  s_wait: async (session, name, ms) => bit(await session.wait(bytes(name), { delay: Number(ms) })),
  s_release: async (session, name) => bit(await session.release(bytes(name))),
  s_release_all: async (session, id) => String(await session.releaseAll(id)),
};

async function answer(verb, ...words) {
  if (verb === 'open') {
    stores.set(words[0], await Store.open(words[1]));
    return '';
  }
  if (verb === 'take') return take(...words);
  if (verb === 'wait' || verb === 'plain') {
    holds.set(words[0], await stores.get(words[1]).acquire(bytes(words[2])));
    return '';
  }
  if (verb === 'again') {
    const lock = await places.get(words[0]).tryAcquire(holds.get(words[0]).name);
    return lock === null ? 1 : '';
  }
  if (verb === 'drop') {
    holds.delete(words[0]);
    // What was awaited still has it, for a turn.
    await sleep(1);
    collect();
    await sleep(1);
    collect();
    return '';
  }
  if (verb === 'adopt') {
    holds.set(words[0], await stores.get(words[1]).adopt(words[2]));
    return '';
  }
  if (verb === 'session') {
    sessions.set(words[0], stores.get(words[1]).session({ id: words[2] }));
    return '';
  }
  if (verb in ofSession) return ofSession[verb](sessions.get(words[0]), ...words.slice(1));
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
