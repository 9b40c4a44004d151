INSERT INTO {table} (id, name, version, fence, since, until, state)
SELECT fresh.id, fresh.name, 1, LAST_INSERT_ID(GREATEST(fresh.moment, fresh.lowest) + fresh.drawn),
    fresh.moment, fresh.moment + fresh.ttl, fresh.state
FROM (
    SELECT ? AS id, ? AS name, ? AS drawn, ? AS ttl, ? AS state, {now} AS moment,
        COALESCE((SELECT kept.fence FROM {table} AS kept WHERE kept.id = ''), 0) AS lowest
) AS fresh
ON DUPLICATE KEY UPDATE
    version = IF({table}.until <= VALUES(since), {table}.version + 1, {table}.version),
    fence = IF({table}.until <= VALUES(since), LAST_INSERT_ID({table}.fence + ?), {table}.fence + LAST_INSERT_ID(0)),
    state = IF({table}.until <= VALUES(since), VALUES(state), {table}.state),
    since = IF({table}.until <= VALUES(since), VALUES(since), {table}.since),
    until = IF({table}.until <= VALUES(since), VALUES(until), {table}.until)
