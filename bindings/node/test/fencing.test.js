'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const net = require('node:net');
const path = require('node:path');
const { createInterface } = require('node:readline');
const { it } = require('node:test');
const pg = require('pg');
const { Store, fencing, InvalidArgument, Unsupported } = require('..');
const { PATIENCE, startRedis, startServices, name } = require('./support.js');

it('the checking half of fencing has its texts', () => {
  for (const engine of ['sqlite', 'postgres', 'mysql']) {
    assert.match(fencing.ddl(engine, 'app.fence')[0], /^CREATE TABLE IF NOT EXISTS/);
    assert.ok(fencing.trigger(engine, 'account', 'fence').some((sql) => sql.includes(fencing.STALE)));
  }
  assert.match(fencing.statement('postgres'), /\$1, \$2/);
  assert.match(fencing.statement('sqlite'), /synlock_fence.*\?, \?/);
  assert.match(fencing.redisScript(), /STALE/);
  assert.equal(fencing.isStale(new Error('SQLITE_CONSTRAINT: stale fencing token')), true);
  assert.equal(fencing.isStale('no such table'), false);
  assert.throws(() => fencing.ddl('oracle'), InvalidArgument);
  assert.throws(() => fencing.statement('sqlite', 'x"; --'), InvalidArgument);
});

it('a store refuses what is required and it lacks', async () => {
  (await new Store('memory:', { require: 'fence,crash_release' }).acquire('required')).releaseSync();
  const store = await Store.open('memory:?require=quorum');
  await assert.rejects(store.ping(), Unsupported);
  await assert.rejects(store.acquire('x'), /quorum/);
  assert.throws(() => new Store('memory:?require=wings'), InvalidArgument);
});

/** One command to a Redis; its answer, with the mark before it. */
function ask(place, ...words) {
  const { hostname, port } = new URL(place);
  return new Promise((resolve, reject) => {
    let said = '';
    const socket = net.connect(Number(port), hostname).on('error', reject);
    socket.setEncoding('utf8').on('data', (data) => (said += data)).on('end', () => resolve(said.trimEnd()));
    const bulk = (word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`;
    socket.end(`*${words.length}\r\n${words.map(bulk).join('')}`);
  });
}

/**
 * A holder is stopped past its lease, the next one writes, and what the first one writes then is refused.
 * `write` resolves, or rejects in the words of the server.
 */
async function paused(url, write) {
  const key = name();
  const source = `const { Store } = require(process.env.SYNLOCK);
    const [url, key, timeout] = process.argv.slice(1);
    const lock = Store.openSync(url).acquireSync(key, { ttl: 300, timeout: Number(timeout) });
    const say = () => console.log(String(lock.fencingToken));
    say();
    process.stdin.once('data', () => { say(); process.stdin.destroy(); });`;
  const holder = spawn(process.execPath, ['-e', source, url, key, String(PATIENCE)], {
    env: { ...process.env, SYNLOCK: path.join(__dirname, '..') },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: holder.stdout })[Symbol.asyncIterator]();
  const token = async () => BigInt((await lines.next()).value);
  try {
    const old = await token();
    await write(key, old, 'first');
    holder.kill('SIGSTOP');
    const heir = await (await Store.open(url)).acquire(key, { ttl: 60_000, timeout: PATIENCE });
    assert.ok(heir.fencingToken > old);
    await write(key, heir.fencingToken, 'second');
    // It goes on where it was stopped, and believes in the token that it has.
    holder.kill('SIGCONT');
    holder.stdin.write('go\n');
    const late = await token();
    await assert.rejects(write(key, late, 'late'), (error) => fencing.isStale(error));
    await write(key, heir.fencingToken, 'third');
    await heir.release();
  } finally {
    // A stopped process is killed too.
    holder.kill('SIGKILL');
  }
}

it('PostgreSQL refuses a holder that was stopped for longer than its lease', async () => {
  const server = await startServices('postgres');
  const place = `postgres://postgres@${server.postgres}/postgres`;
  const client = new pg.Client(place);
  await client.connect();
  try {
    await client.query("CREATE TABLE data (v TEXT, fence BIGINT); INSERT INTO data VALUES ('', NULL)");
    for (const sql of [...fencing.ddl('postgres'), ...fencing.trigger('postgres', 'data', 'fence')]) await client.query(sql);
    await paused(`${place}?connect_timeout=20000&io_timeout=20000`, async (key, token, value) => {
      await client.query('BEGIN');
      try {
        await client.query(fencing.statement('postgres'), [key, token]);
        await client.query('UPDATE data SET v = $1', [value]);
        await client.query('COMMIT');
      } catch (error) {
        await client.query('ROLLBACK');
        throw error;
      }
    });
    assert.equal((await client.query('SELECT v FROM data')).rows[0].v, 'third');
    // A table of one's own, whose rows carry the token.
    await client.query('UPDATE data SET fence = $1', [7n]);
    await assert.rejects(client.query('UPDATE data SET fence = $1', [6n]), (error) => fencing.isStale(error));
  } finally {
    await client.end();
    server.stop();
  }
});

it('Redis refuses a holder that was stopped for longer than its lease', async () => {
  const server = await startRedis();
  try {
    await paused(server.url, async (key, token, value) => {
      const said = await ask(server.place, 'EVAL', fencing.redisScript(), '2', 'fence', 'data', String(token), 'SET', 'data', value);
      if (said !== '+OK') throw new Error(said);
    });
    assert.match(await ask(server.place, 'GET', 'data'), /third$/);
  } finally {
    server.stop();
  }
});
