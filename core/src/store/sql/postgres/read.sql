WITH now AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now)
SELECT 0, version, fence, since, until, state, now FROM {table}, now WHERE id = $1::bytea
