-- ?1 id, ?2 state, ?3 now
UPDATE {table} SET version = version + 1, since = ?3, until = 0, state = x'' WHERE id = ?1 AND state = ?2
