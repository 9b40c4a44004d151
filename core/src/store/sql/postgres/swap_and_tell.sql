-- As the other; $8 is `channel token,channel token`.
WITH done AS (
    UPDATE {table}
    SET version = version + 1, fence = $3::bigint, since = $4::bigint, until = $5::bigint, state = $6::bytea
    WHERE id = $1::bytea AND version = $2::bigint AND fence = $7::bigint
    RETURNING 1
)
SELECT 1, pg_notify(split_part(note, ' ', 1), split_part(note, ' ', 2))
FROM done, unnest(string_to_array($8::text, ',')) AS note
