UPDATE {table} SET version = version + 1, until = GREATEST(until, {now} + ?)
WHERE id = ? AND state = ? AND until > {now}
