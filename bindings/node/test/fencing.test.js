'use strict';

const assert = require('node:assert');
const { it } = require('node:test');
const { Store, fencing, InvalidArgument, Unsupported } = require('..');

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
