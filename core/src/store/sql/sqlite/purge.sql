-- ?1 after, ?2 last, ?3 since, ?4 fence
DELETE FROM {table} WHERE id > ?1 AND id <= ?2 AND state = x'' AND since < ?3 AND fence <= ?4
