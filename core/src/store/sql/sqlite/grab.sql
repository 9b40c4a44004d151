-- ?1 id, ?2 name, ?3 block, ?4 now, ?5 until, ?6 state
INSERT INTO {table} AS lock (id, name, version, fence, since, until, state)
VALUES (?1, ?2, 1, max(?4, coalesce((SELECT fence FROM {table} WHERE id = x''), 0)) + ?3, ?4, ?5, ?6)
ON CONFLICT (id) DO UPDATE SET
    version = lock.version + 1, fence = lock.fence + ?3, since = ?4, until = ?5, state = ?6
WHERE lock.until <= ?4
RETURNING fence
