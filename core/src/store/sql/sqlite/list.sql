-- ?1 after, ?2 prefix, ?3 its length, ?4 now, ?5 limit
SELECT id, name, version, fence, since, until, state FROM {table}
WHERE id > ?1 AND until > ?4 AND substr(name, 1, ?3) = ?2 ORDER BY id LIMIT ?5
