DELETE FROM {table} WHERE id > ? AND id <= ? AND state = '' AND since < {now} - ? AND fence <= ?
