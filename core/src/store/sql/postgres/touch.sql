-- $1 id, $2 state, $3 ttl
WITH now AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now),
done AS (
    UPDATE {table} SET version = version + 1, until = greatest(until, now + $3::bigint)
    FROM now WHERE id = $1::bytea AND state = $2::bytea AND until > now
    RETURNING 1
)
SELECT 1, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bytea, NULL::bigint FROM done
UNION ALL
SELECT 0, version, fence, since, until, state, now FROM {table}, now
WHERE id = $1::bytea AND NOT EXISTS (SELECT 1 FROM done)
