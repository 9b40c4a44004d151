-- $1 after, $2 prefix, $3 its length, $4 limit
WITH now AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now)
SELECT id, name, version, fence, since, until, state, now FROM {table}, now
WHERE id > $1::bytea AND until > now AND substring(name FROM 1 FOR $3::int) = $2::bytea
ORDER BY id LIMIT $4::bigint
