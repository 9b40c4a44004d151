// Stores made of an object of one's own: what the addon asks, and what the object answers.
'use strict';

const { classes, make, statusOf } = require('./errors.js');

const VERBS = {
  attempt: 'attempt',
  release: 'release',
  is_held: 'isHeld',
  extend: 'extend',
  change_mode: 'changeMode',
  inspect: 'inspect',
  list: 'list',
  break_lock: 'breakLock',
  ping: 'ping',
};
const OPTIONAL = ['extend', 'changeMode', 'inspect', 'list', 'breakLock', 'ping'];

/** What an object can do. */
function traits(store) {
  for (const verb of ['attempt', 'release', 'isHeld']) {
    if (typeof store?.[verb] !== 'function') {
      throw make({ status: statusOf.INVALID_ARGUMENT, message: `a custom store needs ${verb}(ask)` });
    }
  }
  const can = { scope: String(store.scope ?? 'process'), fence: store.fence == null ? undefined : String(store.fence) };
  for (const verb of OPTIONAL) can[verb] = typeof store[verb] === 'function';
  for (const flag of ['shared', 'permits', 'freesOnDeath', 'survivesRestart']) can[flag] = Boolean(store[flag]);
  return can;
}

function fault(status, message) {
  throw make({ status: statusOf[status], message });
}

function granted(answer) {
  if (typeof answer === 'boolean') return { status: answer ? 0 : statusOf.BUSY };
  if (typeof answer === 'bigint') return { status: 0, fencingToken: answer };
  if (typeof answer?.granted !== 'boolean') {
    // undefined is what a function returns that forgot to.
    fault('PROTOCOL', 'the answer is a boolean, a fencing token (bigint) or { granted: boolean, … }');
  }
  const { fencingToken, recovered, until, poll } = answer;
  return { status: answer.granted ? 0 : statusOf.BUSY, fencingToken, recovered, until, poll };
}

const EMPTY = { owner: '', mode: 'exclusive', permits: 1 };

function found(name, holders, waiters) {
  const rows = [...holders].map((holder) => {
    const row = { ...EMPTY };
    for (const [key, value] of Object.entries(holder)) if (value != null) row[key] = value;
    return row;
  });
  return { name: Buffer.from(name), waiters: waiters ?? undefined, holders: rows };
}

function answer(store, { verb, ...ask }) {
  const method = VERBS[verb];
  for (const key of ['permits', 'ttl', 'time', 'label']) ask[key] ??= null;
  const said = store[method](ask);
  if (typeof said?.then === 'function') {
    // Whatever becomes of it, nobody waits for it.
    said.then(undefined, () => {});
    fault('UNSUPPORTED', `${method} returned a promise: a custom store answers at once`);
  }
  switch (verb) {
    case 'attempt':
    case 'change_mode':
      return granted(said);
    case 'ping':
      return { status: 0 };
    case 'inspect':
      return { status: 0, locks: [found(ask.name, said)] };
    case 'list':
      return { status: 0, locks: [...said].map((lock) => found(lock.name, lock.holders, lock.waiters)) };
    case 'break_lock':
      return { status: said ? 0 : statusOf.NOT_HELD };
    default:
      return { status: said ? 0 : statusOf.LOST };
  }
}

/** What the object threw last, and as what it was told. */
let thrown;

/** The function that the addon calls. */
function asker(store) {
  return (ask) => {
    thrown = undefined;
    try {
      return answer(store, ask);
    } catch (error) {
      thrown = { error };
      if (error instanceof classes.LockLost && ask.verb === 'change_mode') return { status: statusOf.LOST };
      const told = error instanceof classes.SynlockError && error.status >= 100;
      return { status: told ? error.status : -1, words: String(error?.message ?? error) };
    }
  };
}

/** Gives an error of a custom store its cause. */
function withCause(error) {
  if (thrown && error.store?.startsWith('custom:') && error.status >= 100) error.cause = thrown.error;
  thrown = undefined;
  return error;
}

module.exports = { asker, traits, withCause };
