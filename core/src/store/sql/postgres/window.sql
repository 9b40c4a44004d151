-- Which of some rows after $1 have been free for longer than $2: the last one's key, the highest fence.
WITH now AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now)
SELECT encode(id, 'hex'), max(fence) OVER () FROM (
    SELECT id, fence, since, state FROM {table} WHERE id > $1::bytea ORDER BY id LIMIT 200
) AS part, now
WHERE state = '' AND since < now - $2::bigint
ORDER BY id DESC LIMIT 1
