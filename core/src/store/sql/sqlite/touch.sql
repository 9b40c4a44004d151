-- ?1 id, ?2 state, ?3 now, ?4 until
UPDATE {table} SET version = version + 1, until = max(until, ?4) WHERE id = ?1 AND state = ?2 AND until > ?3
