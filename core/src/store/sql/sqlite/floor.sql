-- Rows to come have higher fences than ?1.
INSERT INTO {table} AS floor (id, name, version, fence, since, until, state)
VALUES (x'', x'', 1, ?1, ?2, 0, x'')
ON CONFLICT (id) DO UPDATE SET version = floor.version + 1, fence = max(floor.fence, ?1), since = ?2
