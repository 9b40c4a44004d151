'use strict';

// Resources that refuse the writes of a holder that is one no more.

const native = require('./native.js');
const { check } = require('./errors.js');

const TABLE = 'synlock_fence';
const STALE = 'stale fencing token';

const ask = (what, engine, table, column = '') =>
  check(native.fencing(what, String(engine), String(table), String(column))).value;

/** Statements that make the table of tokens, and the trigger by which the database refuses to lower one. */
const ddl = (engine, table = TABLE) => ask('ddl', engine, table).split('\n\n');

/** The trigger for a table of your own: no update of a row lowers the token in `column`. */
const trigger = (engine, table, column = 'token') => ask('trigger', engine, table, column).split('\n\n');

/** The statement to run first in each transaction that writes, with the lock's name and its token. */
const statement = (engine, table = TABLE) => ask('statement', engine, table);

/** A script for EVAL that runs a command unless the token is stale. */
const redisScript = () => native.fencingRedis();

/** Whether a driver's error is a refusal. */
const isStale = (error) => String(error?.message ?? error).includes(STALE);

module.exports = { ddl, trigger, statement, redisScript, isStale, TABLE, STALE };
