-- ?1 id, ?2 version, ?3 fence, ?4 since, ?5 until, ?6 state, ?7 fence that was read
UPDATE {table} SET version = version + 1, fence = ?3, since = ?4, until = ?5, state = ?6
WHERE id = ?1 AND version = ?2 AND fence = ?7
