UPDATE {table} SET version = version + 1, since = {now}, until = 0, state = '' WHERE id = ? AND state = ?
