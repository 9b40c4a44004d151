-- $1 after, $2 last (in hex), $3 idle, $4 fence. Rows that somebody works on are left for another time.
WITH now AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now)
DELETE FROM {table} WHERE id IN (
    SELECT old.id FROM {table} AS old, now
    WHERE id > $1::bytea AND id <= decode($2::text, 'hex')
        AND state = '' AND since < now - $3::bigint AND fence <= $4::bigint
    ORDER BY id FOR UPDATE OF old SKIP LOCKED
)
