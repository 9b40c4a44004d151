-- $1 id, $2 version, $3 fence, $4 since, $5 until, $6 state, $7 fence that was read
UPDATE {table}
SET version = version + 1, fence = $3::bigint, since = $4::bigint, until = $5::bigint, state = $6::bytea
WHERE id = $1::bytea AND version = $2::bigint AND fence = $7::bigint
RETURNING 1
