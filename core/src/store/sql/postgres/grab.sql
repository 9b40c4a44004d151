-- $1 id, $2 name, $3 block, $4 ttl, $5 state. Taken: 1 and the fence. Otherwise the row as it stands.
WITH now AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now),
got AS (
    INSERT INTO {table} AS lock (id, name, version, fence, since, until, state)
    SELECT $1::bytea, $2::bytea, 1,
        greatest(now, coalesce((SELECT fence FROM {table} WHERE id = ''::bytea), 0)) + $3::bigint,
        now, now + $4::bigint, $5::bytea
    FROM now
    WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE id = $1::bytea AND until > now)
    ON CONFLICT (id) DO UPDATE SET
        version = lock.version + 1, fence = lock.fence + $3::bigint,
        since = excluded.since, until = excluded.until, state = excluded.state
    WHERE lock.until <= excluded.since
    RETURNING fence
)
SELECT 1, NULL::bigint, fence, NULL::bigint, NULL::bigint, NULL::bytea, NULL::bigint FROM got
UNION ALL
SELECT 0, version, fence, since, until, state, now FROM {table}, now
WHERE id = $1::bytea AND NOT EXISTS (SELECT 1 FROM got)
