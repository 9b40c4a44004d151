-- Rows to come have higher fences than $1.
INSERT INTO {table} AS floor (id, name, version, fence, since, until, state)
VALUES ('', '', 1, $1::bigint, 0, 0, '')
ON CONFLICT (id) DO UPDATE SET version = floor.version + 1, fence = greatest(floor.fence, $1::bigint)
